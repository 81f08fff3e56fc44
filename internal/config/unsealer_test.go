package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

func TestUnsealerExample(t *testing.T) {
	t.Parallel()
	c, err := ParseUnsealer(UnsealerExample())
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultUnsealer()
	want.Share.File = "/etc/claviger/unsealer.share"
	want.Servers = []Unsealed{{Address: "https://127.0.0.1:8200"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the example says\n%+v\nthe default is\n%+v", c, want)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	full := uncomment.ReplaceAll(UnsealerExample(), []byte("$1"))
	if _, err := ParseUnsealer(full); err != nil {
		t.Fatalf("with every option in force: %v", err)
	}
	var shown map[string]any
	if err := toml.Unmarshal(full, &shown); err != nil {
		t.Fatal(err)
	}
	for _, name := range allKeys(reflect.TypeFor[Unsealer](), "") {
		if !has(shown, strings.Split(name, ".")) {
			t.Errorf("the example doesn't show %s", name)
		}
	}
}

func TestUnsealerRefuses(t *testing.T) {
	t.Parallel()
	const share = "[share]\nfile = \"/s\"\n"
	const server = "[[server]]\naddress = \"https://a:8200\"\n"
	for text, want := range map[string]string{
		"intervall = \"1m\"":                                    `did you mean "interval"?`,
		share + "[[server]]\nadress = \"https://a\"":            `did you mean`,
		"interval = \"10ms\"\n" + share + server:                "1s to 24h",
		"interval = 60\n" + share + server:                      "duration",
		"timeout = \"1h\"\n" + share + server:                   "100ms to 5m",
		share:                                                   "at least one",
		server:                                                  "share.file",
		"[share]\nfile = \"s\"\n" + server:                      "absolute",
		"[share]\nsource = \"disk\"\n" + server:                 `"file" or "tpm"`,
		"[share]\nsource = \"stdin\"\nfile = \"/s\"\n" + server: "absent",
		"[share]\nsource = \"credential\"\n" + server:           "systemd credential",
		"[share]\nsource = \"credential\"\ncredential = \"../x\"\n" + server:                               "systemd credential",
		share + "device = \"/dev/tpm0\"\n" + server:                                                        "absent where",
		share + "credential = \"x\"\n" + server:                                                            "absent where",
		"[share]\nsource=\"tpm\"\nfile=\"/s\"\npassword_file=\"p\"\n" + server:                             "absolute",
		"[share]\nsource=\"tpm\"\nfile=\"/s\"\npassword_credential=\"a/b\"\n" + server:                     "systemd credential",
		"[share]\nsource=\"tpm\"\nfile=\"/s\"\npassword_file=\"/p\"\npassword_credential=\"a\"\n" + server: "absent where password_file",
		share + "[[server]]\naddress = \"a:8200\"":                                                         "https://host:port",
		share + "[[server]]\naddress = \"https://u:p@a\"":                                                  "https://host:port",
		share + "[[server]]\naddress = \"http://192.0.2.1:8200\"":                                          "insecure = true",
		share + server + server:                           "another than",
		share + server + "[tls]\nclient_cert = \"/c\"":    "client_key",
		share + server + "pins = [\"sha256/AAAA\"]":       "base64 of 32 bytes",
		share + server + "[tls]\nca_cert = \"ca.pem\"":    "absolute",
		share + server + "[metrics]\naddress = \":9464\"": "loopback",
		share + server + "[log]\nlevel = \"loud\"":        "log.level",
	} {
		c, err := ParseUnsealer([]byte(text))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "u:p@") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

func TestUnsealerTLSOf(t *testing.T) {
	t.Parallel()
	c, err := ParseUnsealer([]byte(`
[share]
source = "stdin"
[tls]
ca_cert = "/ca"
client_cert = "/c"
client_key = "/k"
server_name = "n"
[[server]]
address = "https://a"
[[server]]
address = "https://b"
client_cert = "/c2"
client_key = "/k2"
[[server]]
address = "http://192.0.2.1"
insecure = true
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := UnsealerTLS{CACert: "/ca", ClientCert: "/c", ClientKey: "/k", ServerName: "n"}
	if got := c.TLSOf(&c.Servers[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	want.ClientCert, want.ClientKey = "/c2", "/k2"
	if got := c.TLSOf(&c.Servers[1]); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "192.0.2.1") {
		t.Errorf("warnings: %q", w)
	}
}

func FuzzParseUnsealer(f *testing.F) {
	f.Add(UnsealerExample())
	f.Add([]byte("interval = 60\n[[server]]\naddress = \"unix:///x\"\npins = [\"sha256//\"]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseUnsealer(text)
		if err != nil || c.Validate() != nil {
			return
		}
		if len(c.Servers) == 0 || c.Interval.Duration < time.Second {
			t.Errorf("%q is valid: %+v", text, c)
		}
	})
}
