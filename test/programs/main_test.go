package programs

import (
	"fmt"
	"os"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// scratch is a directory of the run, for what is made once.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "claviger-programs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	harness.Main(m, checkTable, func() error { return os.RemoveAll(scratch) })
}

// full tells whether everything is to be run, however long it takes.
var full = os.Getenv("CLAVIGER_TEST_FULL") != ""

// kinds of keys, by the names of key types in Claviger.
var allKinds = []string{"rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"}

// someKinds are those of every run.
var someKinds = []string{"rsa-2048", "ecdsa-p256"}

// kinds are those of this run.
func kinds() []string {
	if full {
		return allKinds
	}
	return someKinds
}
