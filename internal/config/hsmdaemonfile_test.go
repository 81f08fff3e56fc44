package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// fullHSMDaemonFile has every option of the original, as its documents show them.
const fullHSMDaemonFile = `
[logger]
level = "debug"
path = "file:///var/log/hsm.log"
encoding = "json"
[server]
hostname = "127.0.0.1"
port = 8514
[jwt]
secret = "7a7d1826-b514-4d9f-afc7-a7485084e8de"
[pkcs11]
# softhsm v2
module = "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"
pin = "1234"
slot = 550099622
`

func TestHSMDaemonFile(t *testing.T) {
	t.Parallel()
	f, err := ParseHSMDaemonFile([]byte(fullHSMDaemonFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Error(err)
	}
	path, err := f.LogFile()
	if path != "/var/log/hsm.log" || err != nil || f.Server.Port != 8514 || *f.PKCS11.Slot != 550099622 || f.PKCS11.PIN != "1234" {
		t.Errorf("%q %v %+v", path, err, f)
	}
	f, err = ParseHSMDaemonFile([]byte("[pkcs11]\nmodule = \"/m.so\"\npin = \"\""))
	if err != nil || f.Validate() != nil {
		t.Fatalf("%v %v", err, f.Validate())
	}
	if f.Server.Hostname != "localhost" || f.Server.Port != 8513 || f.Logger.Path != "stderr" || f.PKCS11.Slot != nil ||
		f.JWT.Leeway.Duration != time.Minute || f.Server.State != "/var/lib/hsmdaemon" {
		t.Errorf("defaults %+v", f)
	}
}

func TestHSMDaemonFileErrors(t *testing.T) {
	t.Parallel()
	const module = "[pkcs11]\nmodule = \"/m.so\"\n"
	for _, c := range []struct{ name, text, want string }{
		{"misspelt", module + "slott = 1", `unknown key "pkcs11.slott"; did you mean "slot"?`},
		{"wrong section", module + "hostname = \"x\"", "hostname belongs into [server]"},
		{"negative slot", module + "slot = -1", "slot"},
		{"PIN a number", module + "pin = 864213", "line 3: pkcs11.pin"},
		{"no module", "", `pkcs11.module = "": must be the absolute path`},
		{"relative module", "[pkcs11]\nmodule = \"lib.so\"", "pkcs11.module"},
		{"two PINs", module + "pin = \"864213\"\npin_env = \"P\"", "pkcs11.pin = (a secret): must be given once"},
		{"slot and label", module + "slot = 0\nlabel = \"x\"", "pkcs11.slot"},
		{"level", module + "[logger]\nlevel = \"loud\"", "logger.level"},
		{"encoding", module + "[logger]\nencoding = \"xml\"", "logger.encoding"},
		{"log", module + "[logger]\npath = \"hsm.log\"", "logger.path"},
		{"log elsewhere", module + "[logger]\npath = \"file://host/hsm.log\"", "logger.path"},
		{"port", module + "[server]\nport = 70000", "server.port"},
		{"host", module + "[server]\nhostname = \"http://x\"", "server.hostname"},
		{"state", module + "[server]\nstate = \"x\"", "server.state"},
		{"certificate alone", module + "[server]\ntls_cert = \"/c\"", "server.tls_key"},
		{"leeway", module + "[jwt]\nleeway = \"1h\"", "jwt.leeway"},
		{"two secrets", module + "[jwt]\nsecret = \"864213\"\nsecret_file = \"/s\"", "jwt.secret = (a secret)"},
		{"line without key", module + "[line]\naddress = \"127.0.0.1:1\"", "line.key"},
		{"relative socket", module + "[line]\nkey = \"k\"\nsocket = \"s\"", "line.socket"},
		{"no TOML", "x", "line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := ParseHSMDaemonFile([]byte(c.text))
			if err == nil {
				err = f.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q in it", err, c.want)
			}
			if strings.Contains(err.Error(), "864213") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestLoadHSMDaemonFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "hsmdaemon.toml")
	if _, err := LoadHSMDaemonFile(file); fault.KindOf(err) != fault.NotFound || !strings.Contains(fault.HintOf(err), "--config") {
		t.Errorf("%v", err)
	}
	for text, good := range map[string]bool{fullHSMDaemonFile: true, "[nothing]": false, strings.Repeat("#", maxFile+1): false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadHSMDaemonFile(file); (err == nil) != good {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func FuzzHSMDaemonFile(f *testing.F) {
	f.Add([]byte(fullHSMDaemonFile))
	f.Add([]byte("[line]\nkey = \"k\"\n[jwt]\nleeway = \"5s\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseHSMDaemonFile(text)
		if err != nil {
			return
		}
		if c.Validate() == nil && !filepath.IsAbs(c.PKCS11.Module) {
			t.Errorf("%q is right", text)
		}
	})
}
