package guard

import (
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

func TestEnsureMount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for range 2 {
		if err := s.EnsureMount(t.Context(), "deep/other", kindTransit, "made by the configuration"); err != nil {
			t.Fatal(err)
		}
	}
	m := (*s.loaded.Load().mounts.table.Load())["deep/other/"]
	if m == nil || m.Kind != kindTransit || m.version != 1 {
		t.Errorf("%+v", m)
	}
	for path, kind := range map[string]fault.Kind{"deep/other": fault.Conflict, "deep": fault.Invalid, "sys": fault.Invalid, "a b": fault.Invalid} {
		if err := s.EnsureMount(t.Context(), path, "another", ""); fault.KindOf(err) != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
	s.setSealed(true)
	s.Reset()
	if err := s.EnsureMount(t.Context(), "third", kindTransit, ""); fault.KindOf(err) != fault.Sealed {
		t.Errorf("sealed: %v", err)
	}
}
