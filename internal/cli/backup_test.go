package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/internal/token/worker"
)

// TestBackup runs the scripts of testdata/backup with a SoftHSM2. The token "main"
// has an extractable EC key "release", an extractable RSA key "web" and the EC key
// "stays"; the tokens "spare" and "third" are empty, one for each script. The PIN of
// all is in the file pin.
func TestBackup(t *testing.T) {
	t.Parallel()
	module, conf := tokentest.SoftHSM(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, label := range []string{"main", "spare", "third"} {
		d, err := worker.NewDevice(worker.Config{Module: module, Label: label, Env: conf})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Create(ctx, []byte("so-pin-81500"), []byte(doctorPIN)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range [][]string{
		{"--label", "release", "--id", "01", "--key-type", "EC:prime256v1", "--extractable"},
		{"--label", "web", "--id", "02", "--key-type", "rsa:2048", "--extractable"},
		{"--label", "stays", "--id", "03", "--key-type", "EC:prime256v1"},
	} {
		tokentest.Tool(t, module, "main", doctorPIN, conf, append([]string{"--keypairgen", "--usage-sign"}, key...)...)
	}
	known, err := os.ReadFile("../transfer/cryptech/testdata/known.json")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/backup",
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("MODULE", module)
			env.Setenv("CLAVIGER_HSM_MODULE", module)
			env.Setenv("SOFTHSM2_CONF", strings.TrimPrefix(conf[0], "SOFTHSM2_CONF="))
			return errors.Join(
				setup(env, "http://127.0.0.1:1", ""), // it calls no server
				os.WriteFile(filepath.Join(env.WorkDir, "known.json"), known, 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "pin"), []byte(doctorPIN+"\n"), 0o600))
		},
	})
}
