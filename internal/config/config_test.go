package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/claviger/claviger/internal/fault"
)

func TestExampleIsDefault(t *testing.T) {
	t.Parallel()
	c, err := Parse(Example())
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(c, want) {
		t.Errorf("the example says\n%+v\nthe default is\n%+v", c, want)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// uncomment turns "# name = value" into an option, and "# [[name]]" into a section.
var uncomment = regexp.MustCompile(`(?m)^# ([A-Za-z0-9_]+ = |\[\[)`)

func TestExampleShowsEveryOption(t *testing.T) {
	t.Parallel()
	full := uncomment.ReplaceAll(Example(), []byte("$1"))
	if _, err := Parse(full); err != nil {
		t.Fatalf("with every option in force: %v", err)
	}
	var shown map[string]any
	if err := toml.Unmarshal(full, &shown); err != nil {
		t.Fatal(err)
	}
	for _, name := range allKeys(reflect.TypeFor[Config](), "") {
		if !has(shown, strings.Split(name, ".")) {
			t.Errorf("the example doesn't show %s", name)
		}
	}
}

func allKeys(typ reflect.Type, prefix string) []string {
	var names []string
	for _, f := range reflect.VisibleFields(typ) {
		name := f.Tag.Get("toml")
		if name == "" || name == "-" {
			continue
		}
		names = append(names, prefix+name)
		if e := element(f.Type); e.Kind() == reflect.Struct {
			names = append(names, allKeys(e, prefix+name+".")...)
		}
	}
	return names
}

func has(v any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	if list, ok := v.([]any); ok {
		v = list[0]
	}
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	inner, ok := m[path[0]]
	return ok && has(inner, path[1:])
}

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(`
data_dir = "/srv/keys"
[[listener]]
address = "unix:/run/claviger.sock"
[[listener]]
address = "[::1]:0"
tls_cert = "tls.crt"
tls_key = "/etc/tls.key"
[token]
driver = "pkcs11"
on_init = "adopt"
[token.pkcs11]
module = "/usr/lib/softhsm/libsofthsm2.so"
workers = 3
call_timeout = "250ms"
env = {SOFTHSM2_CONF = "/etc/s.conf"}
[limits]
max_body = 4096
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, got, want any }{
		{"listeners", len(c.Listeners), 2},
		{"mode", c.Listeners[0].FileMode(), uint32(0o660)},
		{"certificate", c.Listeners[1].TLSCert, "/srv/keys/tls.crt"},
		{"key", c.Listeners[1].TLSKey, "/etc/tls.key"},
		{"store", c.Store.Path, "/srv/keys/claviger.db"},
		{"audit", c.Audit.Path, "/srv/keys/audit.log"},
		{"workers", c.Token.PKCS11.WorkerCount(), 3},
		{"time-out", c.Token.PKCS11.CallTimeout.Duration, 250 * time.Millisecond},
		{"untouched time-out", c.Token.PKCS11.KeygenTimeout.Duration, time.Minute},
		{"environment", strings.Join(c.Token.PKCS11.Environ(), " "), "SOFTHSM2_CONF=/etc/s.conf"},
		{"body", c.Limits.MaxBody, Size(4096)},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"misspelt", "[log]\nlevle = \"info\"", `line 2: unknown key "log.levle"; did you mean "level"?`},
		{"misspelt table", "[tokn]\n", `unknown key "tokn"; did you mean "token"?`},
		{"misspelt in an array", "[[listener]]\n\nadress = \"x:1\"", `line 3: unknown key "listener.adress"; did you mean "address"?`},
		{"misspelt deep", "[token.pkcs11]\nworker = 2", `did you mean "workers"?`},
		{"wrong section", "[store]\ncheckpoint_every = 1", `checkpoint_every belongs into [audit]`},
		{"root key in a section", "[store]\ndata_dir = \"/x\"", `data_dir belongs above the first section`},
		{"nothing near", "[store]\nxyzzy = 1", `unknown key "store.xyzzy"; known here: driver, path`},
		{"two at once", "[store]\nxyzzy = 1\n[log]\nplugh = 2", `"log.plugh"`},
		{"number as duration", "[audit]\ncheckpoint_interval = 5", "line 2: checkpoint_interval: \"5\" is no duration"},
		{"bad duration", "[audit]\ncheckpoint_interval = \"5\"", "line 2: audit.checkpoint_interval: \"5\" is no duration"},
		{"bad size", "[limits]\nmax_body = \"32MB\"", "line 2: limits.max_body: \"32MB\" is no size"},
		{"huge size", "[limits]\nmax_body = \"99999999999GiB\"", "is no size"},
		{"text as number", "[token.pkcs11]\nworkers = \"2\"", "line 2: token.pkcs11.workers"},
		{"number as mode", "[[listener]]\nmode = 660", "line 2: listener.mode"},
		{"no TOML", "listener", "line 1"},
		{"twice", "data_dir = \"/a\"\ndata_dir = \"/b\"", "data_dir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"relative data_dir", `data_dir = "x"`, `data_dir = "x": must be an absolute path`},
		{"public plain HTTP", "[[listener]]\naddress=\"0.0.0.0:8200\"", "listener[0].address"},
		{"all interfaces", "[[listener]]\naddress=\":8200\"", "insecure = true"},
		{"host name", "[[listener]]\naddress=\"hsm.example:8200\"", "on loopback"},
		{"no port", "[[listener]]\naddress=\"127.0.0.1\"", `"host:port"`},
		{"port out of range", "[[listener]]\naddress=\"127.0.0.1:70000\"", `"host:port"`},
		{"URL", "[[listener]]\naddress=\"http://127.0.0.1:1\"", `"host:port"`},
		{"relative socket", "[[listener]]\naddress=\"unix:x\"", "absolute path"},
		{"long socket", "[[listener]]\naddress=\"unix:/" + strings.Repeat("x", 107) + "\"", "107 bytes"},
		{"bad mode", "[[listener]]\naddress=\"unix:/x\"\nmode=\"9\"", "octal"},
		{"mode of TCP", "[[listener]]\naddress=\"127.0.0.1:1\"\nmode=\"0600\"", "listener[0].mode"},
		{"TLS on a socket", "[[listener]]\naddress=\"unix:/x\"\ntls_cert=\"a\"\ntls_key=\"b\"", "protected by its permission"},
		{"certificate without key", "[[listener]]\naddress=\"127.0.0.1:1\"\ntls_cert=\"a\"", "listener[0].tls_key"},
		{"key without certificate", "[[listener]]\naddress=\"127.0.0.1:1\"\ntls_key=\"a\"", "listener[0].tls_cert"},
		{"clients without TLS", "[[listener]]\naddress=\"127.0.0.1:1\"\nclient_ca=\"a\"", "listener[0].client_ca"},
		{"insecure with TLS", "[[listener]]\naddress=\"127.0.0.1:1\"\ntls_cert=\"a\"\ntls_key=\"b\"\ninsecure=true", "listener[0].insecure"},
		{"same address", "[[listener]]\naddress=\"127.0.0.1:1\"\n[[listener]]\naddress=\"127.0.0.1:1\"", "listener[1].address"},
		{"store driver", "[store]\ndriver=\"mysql\"", `store.driver = "mysql": must be "sqlite"`},
		{"token driver", "[token]\ndriver=\"hsm\"", `must be "soft" or "pkcs11"`},
		{"label", "[token]\nlabel=\"" + strings.Repeat("l", 33) + "\"", "1 to 32 bytes"},
		{"blank label", "[token]\nlabel=\"x \"", "blank at the end"},
		{"on_init", "[token]\non_init=\"yes\"", "token.on_init"},
		{"module", "[token]\ndriver=\"pkcs11\"", "token.pkcs11.module"},
		{"workers", "[token.pkcs11]\nworkers=-1", "token.pkcs11.workers = -1: must be 0 to 256"},
		{"time-out", "[token.pkcs11]\ncall_timeout=\"1ms\"", "token.pkcs11.call_timeout = 1ms"},
		{"paths", "[token.pkcs11]\nread_paths=[\"x\"]", "token.pkcs11.read_paths"},
		{"env", "[token.pkcs11.env]\n\"A=B\"=\"x\"", "token.pkcs11.env"},
		{"level", "[log]\nlevel=\"loud\"", "log.level"},
		{"format", "[log]\nformat=\"xml\"", "log.format"},
		{"body", "[limits]\nmax_body=1", "limits.max_body = 1: must be 1KiB to 1GiB"},
		{"request time-out", "[limits]\nrequest_timeout=\"0s\"", "limits.request_timeout"},
		{"cluster name", `cluster_name = "a\u0007"`, "cluster_name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if err = c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestValidateTellsAllAtOnce(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte("[log]\nlevel=\"loud\"\nformat=\"xml\"\n[store]\ndriver=\"x\""))
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := c.Validate().(Problems); !ok || len(p) != 3 {
		t.Errorf("%v, want three problems", p)
	}
}

func TestInsecureIsSaidLoudly(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte("[[listener]]\naddress=\"0.0.0.0:8200\"\ninsecure=true"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "0.0.0.0:8200 serves plain HTTP") {
		t.Errorf("warnings: %s", w)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.toml"))
	if fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" {
		t.Errorf("missing file: %v", err)
	}
	path := filepath.Join(dir, "c.toml")
	for text, want := range map[string]fault.Kind{
		"[log]\nlevel = \"loud\"": fault.Invalid,
		"[lgo]":                   fault.Invalid,
	} {
		write(t, path, text, 0o600)
		if _, err := Load(path); fault.KindOf(err) != want || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
	write(t, path, string(Example()), 0o600)
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
}

func TestCheckFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pin := filepath.Join(dir, "pin")
	write(t, pin, "1234", 0o644)
	c, err := Parse([]byte(`
data_dir = "` + pin + `"
[[listener]]
address = "127.0.0.1:0"
tls_cert = "/nowhere/tls.crt"
tls_key = "/nowhere/tls.key"
client_ca = "/nowhere/ca.pem"
[[listener]]
address = "unix:/nowhere/socket"
[token]
driver = "pkcs11"
[token.pkcs11]
module = "/nowhere/module.so"
pin_file = "` + pin + `"
`))
	if err != nil {
		t.Fatal(err)
	}
	problems, _ := c.CheckFiles().(Problems)
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
	}
	want := "data_dir listener[0].tls_cert listener[0].client_ca listener[1].address token.pkcs11.module token.pkcs11.pin_file"
	if got := strings.Join(fields, " "); got != want {
		t.Errorf("problems with %s, want %s", got, want)
	}
	if err := Dev(filepath.Join(dir, "new")).CheckFiles(); err != nil {
		t.Errorf("a directory that is not there yet: %v", err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{"0": 0, "1023": 1023, "1KiB": 1024, "32 MiB": 32 << 20, "2GiB": 2 << 30} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %d, %v", text, s, err)
		}
		again, _ := s.MarshalText()
		var back Size
		if err := back.UnmarshalText(again); err != nil || back != s {
			t.Errorf("%s written as %s", text, again)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ word, want string }{
		{"adress", "address"}, {"tls_crt", "tls_cert"}, {"MODE", "mode"}, {"", ""}, {"xyzzy", ""},
	} {
		if got := Nearest(tt.word, []string{"address", "mode", "tls_cert", "tls_key"}); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.word, got, tt.want)
		}
	}
}

// FuzzParse looks for text that panics the parser, or that passes all checks
// and means something else once it is written down again.
func FuzzParse(f *testing.F) {
	f.Add(Example())
	f.Add(uncomment.ReplaceAll(Example(), []byte("$1")))
	f.Add([]byte("[[listener]]\naddress = \"unix:/x\"\n[token.pkcs11.env]\nA = \"b\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil || c.Validate() != nil {
			return
		}
		var b bytes.Buffer
		if err := toml.NewEncoder(&b).Encode(c); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(b.Bytes())
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.Bytes())
		}
		if !sameTOML(t, c, again) {
			t.Errorf("%+v\nbecame\n%+v", c, again)
		}
	})
}

// sameTOML compares the written form, which knows no difference between an
// empty and an absent list.
func sameTOML(t *testing.T, a, b *Config) bool {
	t.Helper()
	x, err := toml.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := toml.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
