// Package clients tests Claviger with programs and libraries of other people,
// unmodified: what takes Vault for granted must take Claviger for it. It is a
// module of its own, so that their requirements do not become Claviger's.
package clients

import (
	"testing"

	"github.com/claviger/claviger/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
