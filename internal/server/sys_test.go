package server

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// ok calls and wants a success.
func ok(t *testing.T, s *Server, method, path, token string, body, into any) {
	t.Helper()
	var text string
	if status := do(t, s, method, path, token, body, &text); status >= 300 {
		t.Fatalf("%s %s: status %d: %s", method, path, status, text)
	}
	if into != nil {
		decode(t, text, into)
	}
}

type dataOf[T any] struct{ Data T }

func encryptWith(t *testing.T, s *Server, token, key string) string {
	t.Helper()
	var a dataOf[api.Encrypted]
	ok(t, s, "POST", key, token, map[string]any{"plaintext": "aGk="}, &a)
	return a.Data.Ciphertext
}

func decryptsWith(t *testing.T, s *Server, token, key, ciphertext string) {
	t.Helper()
	var a dataOf[struct{ Plaintext string }]
	ok(t, s, "POST", key, token, map[string]any{"ciphertext": ciphertext}, &a)
	if a.Data.Plaintext != "aGk=" {
		t.Errorf("%s decrypted %q", key, a.Data.Plaintext)
	}
}

// onBoth runs a test with the embedded token and with SoftHSM2.
func onBoth(t *testing.T, test func(t *testing.T, cfg *config.Config)) {
	t.Run("software", func(t *testing.T) {
		t.Parallel()
		test(t, config.Dev(t.TempDir()))
	})
	t.Run("SoftHSM2", func(t *testing.T) {
		t.Parallel()
		module, env := tokentest.SoftHSM(t)
		cfg := config.Dev(t.TempDir())
		cfg.Token.Driver = config.DriverPKCS11
		cfg.Token.PKCS11.Module, cfg.Token.PKCS11.Workers = module, 1
		name, value, _ := strings.Cut(env[0], "=")
		cfg.Token.PKCS11.Env = map[string]string{name: value}
		test(t, cfg)
	})
}

// A mount that was moved has all its keys, and so has one that was made in its
// place; and all of it outlives a restart and a backup of a key.
func TestRemountKeepsKeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, cfg *config.Config) {
		var init api.InitResult
		var old, young string
		var backup dataOf[api.Backup]
		t.Run("move", func(t *testing.T) {
			s := running(t, cfg, Options{})
			ok(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &init)
			unseal(t, s, init.Keys)
			root := init.RootToken
			ok(t, s, "POST", "transit/keys/k", root, nil, nil)
			old = encryptWith(t, s, root, "transit/encrypt/k")
			ok(t, s, "GET", "transit/backup/k", root, nil, &backup)
			ok(t, s, "POST", "transit/config/keys", root, map[string]any{"disable_upsert": true}, nil)
			ok(t, s, "POST", "sys/remount", root, api.Remount{From: "transit", To: "team/keys"}, nil)
			decryptsWith(t, s, root, "team/keys/decrypt/k", old)
			ok(t, s, "POST", "sys/mounts/transit", root, api.CreateMount{Type: "transit"}, nil)
			if status := do(t, s, "GET", "transit/keys/k", root, nil, nil); status != 404 {
				t.Errorf("the new mount has a key of the old one: status %d", status)
			}
			young = encryptWith(t, s, root, "transit/encrypt/k")
			if status := do(t, s, "POST", "transit/decrypt/k", root, map[string]any{"ciphertext": old}, nil); status != 400 {
				t.Errorf("the new key opens what the old one sealed: status %d", status)
			}
			ok(t, s, "POST", "transit/restore/restored", root, api.Restore{Backup: backup.Data.Backup}, nil)
			decryptsWith(t, s, root, "transit/decrypt/restored", old)
		})
		t.Run("restart", func(t *testing.T) {
			s := running(t, cfg, Options{})
			unseal(t, s, init.Keys)
			root := init.RootToken
			decryptsWith(t, s, root, "team/keys/decrypt/k", old)
			decryptsWith(t, s, root, "transit/decrypt/k", young)
			if status := do(t, s, "POST", "team/keys/encrypt/none", root, map[string]any{"plaintext": "aGk="}, nil); status < 400 {
				t.Errorf("the settings of the mount were lost: status %d", status)
			}
			ok(t, s, "DELETE", "sys/mounts/team/keys", root, nil, nil)
			decryptsWith(t, s, root, "transit/decrypt/k", young)
			ok(t, s, "POST", "sys/mounts/team/keys", root, api.CreateMount{Type: "transit"}, nil)
			if status := do(t, s, "LIST", "team/keys/keys", root, nil, nil); status != 404 {
				t.Errorf("keys outlived their mount: status %d", status)
			}
		})
	})
}

// Rotation by hand and by itself: everything opens before and after a restart,
// and the audit log says who rotated.
func TestRotateStorageKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, cfg *config.Config) {
		var init api.InitResult
		var first, second string
		var backup dataOf[api.Backup]
		term := func(t *testing.T, s *Server) int {
			t.Helper()
			var k struct {
				Term int
				Data api.KeyStatus
			}
			ok(t, s, "GET", "sys/key-status", init.RootToken, nil, &k)
			if k.Term != k.Data.Term || k.Data.Encryptions < 1 {
				t.Errorf("%+v", k)
			}
			return k.Term
		}
		t.Run("rotate", func(t *testing.T) {
			s := running(t, cfg, Options{})
			ok(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1}, &init)
			unseal(t, s, init.Keys)
			root := init.RootToken
			ok(t, s, "POST", "transit/keys/k", root, nil, nil)
			first = encryptWith(t, s, root, "transit/encrypt/k")
			ok(t, s, "GET", "transit/backup/k", root, nil, &backup)
			ok(t, s, "PUT", "sys/rotate", root, nil, nil)
			ok(t, s, "POST", "transit/keys/k/rotate", root, nil, nil)
			second = encryptWith(t, s, root, "transit/encrypt/k")
			ok(t, s, "POST", "transit/restore/copy", root, api.Restore{Backup: backup.Data.Backup}, nil)
			decryptsWith(t, s, root, "transit/decrypt/copy", first)
			if n := term(t, s); n != 2 {
				t.Errorf("term %d", n)
			}
			if err := s.rotateIfDue(t.Context()); err != nil || term(t, s) != 2 {
				t.Errorf("%v, term %d", err, term(t, s))
			}
		})
		t.Run("restart", func(t *testing.T) {
			s := running(t, cfg, Options{})
			unseal(t, s, init.Keys)
			decryptsWith(t, s, init.RootToken, "transit/decrypt/k", first)
			decryptsWith(t, s, init.RootToken, "transit/decrypt/k", second)
			decryptsWith(t, s, init.RootToken, "transit/decrypt/copy", first)
			if n := term(t, s); n != 2 {
				t.Errorf("term %d", n)
			}
			ok(t, s, "GET", "sys/rotate/config", init.RootToken, nil, nil)
		})
	})
}

func TestAutomaticRotationIsRecorded(t *testing.T) {
	t.Parallel()
	cfg := config.Dev(t.TempDir())
	s := running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}})
	ok(t, s, "POST", "sys/rotate/config", "root", map[string]any{"interval": "24h"}, nil)
	if err := s.rotateIfDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	var k dataOf[api.KeyStatus]
	ok(t, s, "GET", "sys/key-status", "root", nil, &k)
	if k.Data.Term != 1 {
		t.Errorf("rotated before its time: %+v", k)
	}
	// The least that a caller may set would take long: write it below the API.
	put, err := s.records.Put("custody", "rotation", 1, map[string]any{"max_operations": 1})
	if err == nil {
		err = s.records.Apply(t.Context(), put)
	}
	if err == nil {
		err = s.rotateIfDue(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	ok(t, s, "GET", "sys/key-status", "root", nil, &k)
	if k.Data.Term != 2 {
		t.Errorf("%+v", k)
	}
	log, err := os.ReadFile(cfg.Audit.Path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), `"operation":"sys.rotate","verb":"write","path":"sys/rotate","display_name":"automatic rotation"`); n != 2 {
		t.Errorf("%d records of the automatic rotation in %s", n, log)
	}
}

// A root token made with the share of the custodian is one; the open form is off.
func TestGenerateRootToken(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{false, true} {
		cfg := config.Dev(t.TempDir())
		cfg.Custody.GenerateRootWithoutToken = open
		s := running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}})
		path, token := "sys/generate-root-token", "root"
		if open {
			path, token = "sys/generate-root", ""
		} else if status := do(t, s, "PUT", "sys/generate-root/attempt", "root", nil, nil); status != 403 {
			t.Errorf("the open form: status %d", status)
		}
		// The bare answer, and the copy beside the data of the other one.
		var started, done api.GenerateRootStatus
		ok(t, s, "PUT", path+"/attempt", token, nil, &started)
		_, share := s.DevInfo()
		ok(t, s, "PUT", path+"/update", token, api.GiveRootShare{Key: share, Nonce: started.Nonce}, &done)
		raw, err := base64.RawStdEncoding.DecodeString(done.EncodedToken)
		if err != nil || len(raw) != len(started.OTP) || len(raw) != started.OTPLength {
			t.Fatalf("%+v then %+v", started, done)
		}
		for i := range raw {
			raw[i] ^= started.OTP[i]
		}
		var self dataOf[api.TokenInfo]
		ok(t, s, "GET", "auth/token/lookup-self", string(raw), nil, &self)
		if !strings.HasPrefix(string(raw), "s.") || len(self.Data.Policies) != 1 || self.Data.Policies[0] != "root" {
			t.Errorf("%+v", self)
		}
		log, err := os.ReadFile(cfg.Audit.Path)
		if err != nil || strings.Contains(string(log), string(raw)) || strings.Contains(string(log), share) ||
			strings.Contains(string(log), done.EncodedToken) || !strings.Contains(string(log), `"complete":true`) {
			t.Errorf("%v: %s", err, log)
		}
	}
}

// What audit-hash answers stands in the log where the value was sent.
func TestAuditHash(t *testing.T) {
	t.Parallel()
	cfg := config.Dev(t.TempDir())
	s := running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}})
	var auth api.Envelope
	ok(t, s, "POST", "auth/token/create", "root", nil, &auth)
	token := auth.Auth.ClientToken
	ok(t, s, "POST", "auth/token/lookup", "root", map[string]any{"token": token}, nil)
	log, err := os.ReadFile(filepath.Join(cfg.DataDir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	ok(t, s, "PUT", "sys/rotate", "root", nil, nil)
	_, share := s.DevInfo()
	ok(t, s, "PUT", "sys/seal", "root", nil, nil)
	unseal(t, s, []string{share})
	var a dataOf[api.AuditHashed]
	ok(t, s, "POST", "sys/audit-hash/file", "root", map[string]any{"input": token}, &a)
	if !strings.Contains(string(log), `"token":"`+a.Data.Hash+`"`) || !strings.HasPrefix(a.Data.Hash, "hmac-sha256:") {
		t.Errorf("%q is not in %s", a.Data.Hash, log)
	}
	var list struct {
		File api.AuditDevice            `json:"file/"`
		Data map[string]api.AuditDevice `json:"data"`
	}
	ok(t, s, "GET", "sys/audit", "root", nil, &list)
	if list.File.Options["file_path"] != cfg.Audit.Path || list.Data["file/"].Type != "file" {
		t.Errorf("%+v", list)
	}
	for _, c := range []struct{ method, path, want string }{
		{http.MethodPut, "sys/audit/other", "cannot enable audit device via API"},
		{http.MethodPut, "sys/audit/file", "path already in use"},
		{http.MethodDelete, "sys/audit/file", "cannot disable audit device via API"},
		{http.MethodPut, "sys/audit-hash/other", `unknown audit backend \"other/\"`},
		{http.MethodPut, "sys/audit-hash/file", "parameter is empty"},
	} {
		var text string
		if status := do(t, s, c.method, c.path, "root", map[string]any{"type": "file"}, &text); status != 400 || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: status %d: %s", c.method, c.path, status, text)
		}
	}
}

func TestConfigState(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	var state dataOf[api.ConfigState]
	ok(t, s, "GET", "sys/config/state/sanitized", "root", nil, &state)
	if len(state.Data.Listeners) != 1 || state.Data.Listeners[0].Type != "tcp" || !state.Data.Listeners[0].Config.TLSDisable || state.Data.Storage.Type != "sqlite" {
		t.Errorf("%+v", state)
	}
	var text string
	if do(t, s, "GET", "sys/config/cors", "root", nil, &text); !strings.Contains(text, `"data":{"enabled":false}`) || !strings.Contains(text, `,"enabled":false}`) {
		t.Errorf("%s", text)
	}
	if do(t, s, "GET", "sys/config/auditing/request-headers", "root", nil, &text); !strings.Contains(text, `"data":{"headers":{}}`) {
		t.Errorf("%s", text)
	}
}
