package soft_test

import (
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
	"github.com/claviger/claviger/internal/token/tokentest"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	t.Run("Disk", func(t *testing.T) {
		tokentest.Run(t, func(t *testing.T) token.Device {
			return soft.NewDevice(soft.Config{Dir: filepath.Join(t.TempDir(), "token"), Label: "suite"})
		}, tokentest.Options{})
	})
	t.Run("Memory", func(t *testing.T) {
		tokentest.Run(t, func(*testing.T) token.Device { return soft.NewDevice(soft.Config{}) }, tokentest.Options{})
	})
	t.Run("Software", func(t *testing.T) { tokentest.RunSoftware(t, soft.Engine{}) })
}
