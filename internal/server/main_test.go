package server

import (
	"os"
	"testing"

	"github.com/claviger/claviger/internal/token/worker"
)

// The test binary is the worker of the servers that tests start in it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "token-worker" {
		os.Exit(worker.Main())
	}
	os.Exit(m.Run())
}
