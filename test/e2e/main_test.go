// Package e2e tests the real binary from outside: on SoftHSM2, with processes
// that are killed, files that vanish and callers that send nonsense.
package e2e

import (
	"testing"

	"github.com/claviger/claviger/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
