package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestAgentExample: what the example does not comment out is the default, and every
// option is in it.
func TestAgentExample(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	c, err := ParseAgent(AgentExample())
	if err != nil {
		t.Fatal(err)
	}
	if d := DefaultAgent(); !reflect.DeepEqual(c, d) {
		t.Errorf("the example says %+v, the default is %+v", c, d)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"socket", "p11kit_socket", "mode", "group", "uids", "gids", "max_connections", "addresses", "insecure", "ca_cert", "client_cert",
		"client_key", "pins", "server_name", "source", "file", "credential", "renew", "label", "mounts", "issuers", "address", "level", "format"} {
		if !strings.Contains(string(AgentExample()), key+" = ") {
			t.Errorf("the example does not show %s", key)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	if s := DefaultAgent().Socket; s != "/run/user/7/claviger/pkcs11.sock" {
		t.Errorf("socket %s", s)
	}
}

func TestAgentRefuses(t *testing.T) {
	t.Parallel()
	for text, field := range map[string]string{
		`socket = "pkcs11.sock"`:                                  "socket",
		`mode = "rw"`:                                             "mode",
		`p11kit_socket = "k.sock"`:                                "p11kit_socket",
		"socket = \"/a/p\"\np11kit_socket = \"/a//p\"":            "p11kit_socket",
		`group = "no such group"`:                                 "group",
		`uids = [-1]`:                                             "uids",
		`max_connections = 0`:                                     "max_connections",
		"[server]\naddresses = []":                                "server.addresses",
		"[server]\naddresses = [\"http://keys.example.org\"]":     "server.address",
		"[server]\naddresses = [\"https://a\", \"https://a\"]":    "server.address",
		"[server]\nclient_cert = \"/a\"":                          "server.client_key",
		"[token]\nsource = \"stdin\"":                             "token.source",
		"[token]\nsource = \"file\"":                              "token.file",
		"[token]\nfile = \"/a\"":                                  "token.file",
		"[token]\nsource = \"credential\"\ncredential = \"../a\"": "token.credential",
		"[[slot]]\nlabel = \"\"\nmounts = [\"a\"]":                "slot[0].label",
		"[[slot]]\nlabel = \"a\"":                                 "slot[0].mounts",
		"[[slot]]\nlabel=\"a\"\nmounts=[\"a\"]\n[[slot]]\nlabel=\"a\"\nmounts=[\"b\"]": "slot[1].label",
		"[metrics]\naddress = \"0.0.0.0:1\"":                                           "metrics.address",
		"[log]\nlevel = \"loud\"":                                                      "log.level",
	} {
		c, err := ParseAgent([]byte(text))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"sokcet = 1", "[server]\nadress = 1", "mode = 7"} {
		if _, err := ParseAgent([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzParseAgent(f *testing.F) {
	f.Add(AgentExample())
	f.Fuzz(func(_ *testing.T, text []byte) {
		if c, err := ParseAgent(text); err == nil {
			_ = c.Validate()
		}
	})
}
