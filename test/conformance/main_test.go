package conformance

import (
	"testing"

	"github.com/claviger/claviger/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
