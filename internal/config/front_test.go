package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidateFrontsAndCustody(t *testing.T) {
	t.Parallel()
	const hsmdaemon = "[front.hsmdaemon]\nenabled=true\njwt_secret_file=\"s\"\n"
	for _, tt := range []struct{ name, text, want string }{
		{"kind", "[custody]\nkind=\"none\"", `custody.kind = "none": must be "shares" or "pin"`},
		{"pin without source", "[custody]\nkind=\"pin\"", "custody.pin_file"},
		{"pin with two sources", "[custody]\nkind=\"pin\"\npin_file=\"/p\"\npin_env=\"P\"", "one of both"},
		{"shares with a PIN", "[custody]\npin_file=\"/p\"", "custody.kind"},
		{"variable", "[custody]\nkind=\"pin\"\npin_env=\"a\\nb\"", "custody.pin_env"},
		{"public plain front", hsmdaemon + "address=\"0.0.0.0:8513\"", "front.hsmdaemon.address"},
		{"address of a listener", "[[listener]]\naddress=\"127.0.0.1:1\"\n" + hsmdaemon + "address=\"127.0.0.1:1\"", "front.hsmdaemon.address"},
		{"connections", "[front.hsmdaemon]\nmax_connections=-1", "front.hsmdaemon.max_connections"},
		{"policy root", "[front.hsmdaemon]\npolicies=[\"x\", \" Root\"]", "front.hsmdaemon.policies"},
		{"no secret", "[front.hsmdaemon]\nenabled=true", "front.hsmdaemon.jwt_secret_file"},
		{"no mount", "[front.hsmdaemon]\nmount=\"/\"", "front.hsmdaemon.mount"},
		{"leeway", "[front.hsmdaemon]\njwt_leeway=\"1h\"", "front.hsmdaemon.jwt_leeway"},
		{"line without key", "[[front.hsmdaemon.line]]\nenabled=true\naddress=\"unix:/s\"", "front.hsmdaemon.line_key"},
		{"line without address", "[front.hsmdaemon]\nline_key=\"k\"\n[[front.hsmdaemon.line]]\nenabled=true", "front.hsmdaemon.line[0].address"},
		{"line of the front", hsmdaemon + "line_key=\"k\"\n[[front.hsmdaemon.line]]\nenabled=true\naddress=\"127.0.0.1:8513\"", "front.hsmdaemon.line[0].address"},
		{"distribution of nothing", "[front.distribution]\nenabled=true\nmounts=[]", "front.distribution.mounts"},
		{"distribution of the root", "[front.distribution]\nmounts=[\"/\"]", "front.distribution.mounts[0]"},
		{"public plain distribution", "[front.distribution]\nenabled=true\naddress=\"0.0.0.0:80\"", "front.distribution.address"},
		{"EST without TLS", "[front.est]\nenabled=true", "front.est.tls_cert"},
		{"EST on a socket", "[front.est]\nenabled=true\naddress=\"unix:/run/est\"", "front.est.tls_cert"},
		{"EST policy root", "[front.est]\npolicies=[\"root\"]", "front.est.policies"},
		{"where the token goes", "[front.hsmdaemon]\nline_token_url=\"ftp://x\"", "front.hsmdaemon.line_token_url"},
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

func TestParseFronts(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(`
data_dir = "/srv/keys"
[custody]
kind = "pin"
pin_file = "pin"
[front.hsmdaemon]
enabled = true
address = "unix:/run/h"
jwt_secret_file = "jwt"
line_key = "k"
[[front.hsmdaemon.line]]
enabled = true
address = "127.0.0.1:0"
[[front.hsmdaemon.line]]
enabled = true
address = "unix:/run/l"
mode = "0600"
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	rows := c.Fronts()
	if len(rows) < 3 || rows[2].Name != "hsmdaemon.line[1]" || !rows[2].Enabled || rows[2].Mode != "0600" || rows[0].Mode != "0660" {
		t.Errorf("%+v", rows)
	}
	if c.Custody.PINFile != "/srv/keys/pin" || c.Front.HSMDaemon.JWTSecretFile != "/srv/keys/jwt" {
		t.Errorf("%+v %+v", c.Custody, c.Front)
	}
	w := strings.Join(c.Warnings(), "\n")
	if !strings.Contains(w, "custody by a PIN") || strings.Contains(w, "front") {
		t.Errorf("warnings %q", w)
	}
	c.Front.HSMDaemon.Address, c.Front.HSMDaemon.Insecure = "0.0.0.0:8513", true
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "front hsmdaemon at 0.0.0.0:8513") {
		t.Errorf("warnings %q", w)
	}
}

func TestCheckFrontFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Dev(filepath.Join(dir, "new"))
	c.Custody = Custody{Kind: CustodyPIN, PINFile: open}
	c.Front.HSMDaemon.Enabled = true
	c.Front.HSMDaemon.JWTSecretFile = filepath.Join(dir, "absent")
	c.Front.HSMDaemon.TLSCert, c.Front.HSMDaemon.TLSKey = open, open
	problems, _ := c.CheckFiles().(Problems)
	for _, field := range []string{"custody.pin_file", "front.hsmdaemon.jwt_secret_file", "front.hsmdaemon.tls_cert"} {
		found := false
		for _, p := range problems {
			found = found || p.Field == field
		}
		if !found {
			t.Errorf("%s is no problem: %v", field, problems)
		}
	}
}
