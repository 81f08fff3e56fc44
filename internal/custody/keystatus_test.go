package custody

import (
	"os"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestKeyStatus(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if _, err := b.invoke("sys.key-status", nil); fault.KindOf(err) != fault.Uninitialized {
		t.Errorf("before the initialisation: %v", err)
	}
	mustInvoke[api.InitResult](b, "sys.init", &api.Init{SecretShares: 1, SecretThreshold: 1, HSMToken: Create})
	k := mustInvoke[api.KeyStatus](b, "sys.key-status", nil)
	if k.Term != 1 || !k.InstallTime.Equal(b.c.record().Created) || k.InstallTime.IsZero() {
		t.Errorf("%+v", k)
	}
}

func TestHAStatus(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	nodes := mustInvoke[api.HAStatus](b, "sys.ha-status", nil).Nodes
	if len(nodes) != 1 || nodes[0].Hostname != host || !nodes[0].ActiveNode || nodes[0].Version == "" || nodes[0].LastEcho != nil {
		t.Errorf("%+v", nodes)
	}
}
