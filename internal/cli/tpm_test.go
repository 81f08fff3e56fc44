package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

// TestTPMScripts runs the scripts of testdata/tpm: A and B are TPMs, key.pem is a
// private key in software.
func TestTPMScripts(t *testing.T) {
	t.Parallel()
	a, b := tpmtest.New(t), tpmtest.New(t)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/tpm",
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("A", a.Device)
			env.Setenv("B", b.Device)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return err
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return err
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			return errors.Join(
				setup(env, "http://127.0.0.1:1", ""), // no server is called
				os.WriteFile(filepath.Join(env.WorkDir, "key.pem"), text, 0o600))
		},
	})
}
