package worker

import (
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	t.Run("SoftHSM", func(t *testing.T) {
		tokentest.Run(t, func(t *testing.T) token.Device { return newDevice(t, softConfig(t)) }, tokentest.Options{})
	})
	t.Run("TPM", func(t *testing.T) {
		tpm := tokentest.TPM(t)
		cfg := softConfig(t)
		cfg.Module, cfg.Label, cfg.Env, cfg.WritePaths = tpm.Module, tpm.Label, tpm.Env, []string{tpm.Store}
		cfg.Workers = 1
		tokentest.Run(t, func(t *testing.T) token.Device { return newDevice(t, cfg) },
			tokentest.Options{PIN: tpm.PIN, Sequential: true})
	})
}
