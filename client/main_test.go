package client_test

import (
	"os"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// TestMain starts a development server for the examples and the programs of the
// guide; they find it as users' programs do, by the environment.
func TestMain(m *testing.M) {
	harness.MainWithDev(m, func(addr, token string) {
		os.Setenv("CLAVIGER_ADDR", addr)
		os.Setenv("CLAVIGER_TOKEN", token)
	})
}
