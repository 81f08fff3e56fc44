package server

import (
	"os"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// Shares and PINs are replaced while the server serves; keys go on to work, the new
// shares unseal and the old one does not. On the embedded token and on SoftHSM2.
func TestRekey(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{config.DriverSoft, config.DriverPKCS11} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			cfg := config.Dev(t.TempDir())
			if driver == config.DriverPKCS11 {
				module, env := tokentest.SoftHSM(t)
				name, value, _ := strings.Cut(env[0], "=")
				cfg.Token.Driver, cfg.Token.PKCS11.Module, cfg.Token.PKCS11.Env = driver, module, map[string]string{name: value}
			}
			s := running(t, cfg, Options{Dev: &Dev{RootTokenID: "root"}})
			ok(t, s, "POST", "transit/keys/k", "root", map[string]any{}, nil)
			var sealed dataOf[struct{ Ciphertext string }]
			ok(t, s, "POST", "transit/encrypt/k", "root", map[string]any{"plaintext": "aGVsbG8="}, &sealed)
			opens := func() {
				t.Helper()
				var opened dataOf[struct{ Plaintext string }]
				ok(t, s, "POST", "transit/decrypt/k", "root", map[string]any{"ciphertext": sealed.Data.Ciphertext}, &opened)
				if opened.Data.Plaintext != "aGVsbG8=" {
					t.Errorf("%+v", opened)
				}
			}
			_, old := s.DevInfo()
			var said []string
			var started, made api.RekeyStatus
			ok(t, s, "PUT", "sys/rekey/init", "root", api.StartRekey{SecretShares: 3, SecretThreshold: 2, RequireVerification: true, NewPIN: true}, &started)
			if status := do(t, s, "GET", "sys/rekey/init", "", nil, nil); status != 403 {
				t.Errorf("without a client token: status %d", status)
			}
			ok(t, s, "PUT", "sys/rotate/root/update", "root", api.GiveRekeyShare{Key: old, Nonce: started.Nonce}, &made)
			if !made.Complete || len(made.Keys) != 3 {
				t.Fatalf("%+v", made)
			}
			said = append(said, made.Keys...)
			var verified api.RekeyVerifyStatus
			for _, share := range made.Keys[1:] {
				ok(t, s, "PUT", "sys/rekey/verify", "root", api.GiveRekeyShare{Key: share, Nonce: made.VerificationNonce}, &verified)
			}
			if !verified.Complete {
				t.Fatalf("%+v", verified)
			}
			opens()
			ok(t, s, "PUT", "sys/seal", "root", nil, nil)
			if status := do(t, s, "PUT", "sys/unseal", "", api.Unseal{Key: old}, nil); status != 400 {
				t.Errorf("the old share: status %d", status)
			}
			var state api.SealStatus
			for _, share := range made.KeysBase64[:2] {
				ok(t, s, "PUT", "sys/unseal", "", api.Unseal{Key: share}, &state)
			}
			if state.Sealed || state.N != 3 || state.T != 2 {
				t.Fatalf("%+v", state)
			}
			opens()
			log, err := os.ReadFile(cfg.Audit.Path)
			if err != nil || !strings.Contains(string(log), `"operation":"sys.rekey.verify"`) {
				t.Errorf("%v: %s", err, log)
			}
			for _, secret := range append(said, old) {
				if strings.Contains(string(log), secret) {
					t.Error("a share is in the audit log")
				}
			}
		})
	}
}

// Vault's clients send the nonce of a DELETE in its body; the query holds it too.
func TestCancelRekey(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	for _, inBody := range []bool{false, true} {
		cancel := func(nonce string) int {
			if inBody {
				return do(t, s, "DELETE", "sys/rekey/init", "root", api.CancelRekey{Nonce: nonce}, nil)
			}
			return do(t, s, "DELETE", "sys/rekey/init?nonce="+nonce, "root", nil, nil)
		}
		var started api.RekeyStatus
		ok(t, s, "PUT", "sys/rekey/init", "root", api.StartRekey{SecretShares: 1, SecretThreshold: 1}, &started)
		if status := cancel("another"); status != 400 {
			t.Errorf("in the body %v, the nonce of another: status %d", inBody, status)
		}
		if status := cancel(started.Nonce); status != 204 {
			t.Errorf("in the body %v: status %d", inBody, status)
		}
	}
}
