package guard

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (s *server) mount(path string) {
	s.t.Helper()
	s.must(s.root, op.Write, "sys/mounts/"+path, fill(func(r *api.CreateMount) { r.Type = kindTransit }))
}

func TestUnmount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var emptied []string
	var fail error
	s.unmount = func(_ context.Context, kind, path string) error {
		emptied = append(emptied, kind+" "+path)
		return fail
	}
	s.mount("a/b")
	s.must(s.root, op.Read, "a/b/keys/x", nil)
	fail = errors.New("token gone")
	s.refused(fault.Unavailable, "the mount a/b/ answers no more, but not everything of it is deleted yet", s.root, op.Delete, "sys/mounts/a/b", nil)
	for range 2 { // in memory, and as it is stored
		s.refused(fault.NotFound, "no handler for route", s.root, op.Read, "a/b/keys/x", nil)
		s.refused(fault.Invalid, "path is already in use at a/b/", s.root, op.Write, "sys/mounts/a/b", fill(func(r *api.CreateMount) { r.Type = kindTransit }))
		s.refused(fault.Invalid, "no mount entry found", s.root, op.Write, "sys/mounts/a/b/tune", nil)
		s.Reset()
	}
	fail = nil
	if a, err := s.call(s.root, op.Delete, "sys/mounts/a/b/", nil); err != nil || a.Data != nil {
		t.Errorf("%+v, %v", a, err)
	}
	s.must(s.root, op.Delete, "sys/mounts/a/b", nil) // gone already
	if got := strings.Join(emptied, ", "); got != "transit a/b/, transit a/b/" {
		t.Errorf("emptied %q", got)
	}
	s.mount("a/b")
	s.must(s.root, op.Read, "a/b/keys/x", nil)
	s.must(s.root, op.Delete, "sys/mounts/a/b", nil)
	s.Reset()
	s.refused(fault.Invalid, "No secret engine mount at a/b/", s.root, op.Read, "sys/mounts/a/b", nil)
	for _, path := range []string{"sys", "auth/token"} {
		s.refused(fault.Invalid, `cannot unmount "`+path+`/"`, s.root, op.Delete, "sys/mounts/"+path, nil)
	}
}

// A call that is under way ends before anything is deleted; one that comes
// meanwhile finds nothing.
func TestUnmountWaits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mount("a")
	var order []string
	s.unmount = func(context.Context, string, string) error { order = append(order, "emptied"); return nil }
	done := make(chan error, 1)
	late := errors.New("no late call")
	_, err := s.Handle(t.Context(), &Request{Verb: op.Read, Path: "a/keys/x", Token: s.root, Decode: func(any) ([]string, error) {
		go func() { _, err := s.call(s.root, op.Delete, "sys/mounts/a", nil); done <- err }()
		for { // until the unmount waits for this call
			if _, late = s.call(s.root, op.Read, "a/keys/late", nil); late != nil {
				break
			}
		}
		order = append(order, "call")
		return nil, nil
	}})
	if err != nil || fault.KindOf(late) != fault.NotFound {
		t.Errorf("%v, late call: %v", err, late)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := strings.Join(order, " "); got != "call emptied" {
		t.Errorf("order: %s", got)
	}
}

func TestUnmountUndone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mount("a")
	s.mem.setFail(errors.New("disk full"))
	s.refused(fault.Unavailable, "unmounting a/", s.root, op.Delete, "sys/mounts/a", nil)
	s.mem.setFail(nil)
	s.must(s.root, op.Read, "a/keys/x", nil)
}

func TestTune(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mount("a/b")
	read := func() api.MountTuning { return *s.must(s.root, op.Read, "sys/mounts/a/b/tune", nil).(*api.MountTuning) }
	tune := func(byDefault, longest string, description *string) func(any) {
		return fill(func(r *api.TuneMount) {
			r.DefaultLeaseTTL, r.MaxLeaseTTL, r.Description = byDefault, longest, description
		})
	}
	tuned := func(description string, byDefault, longest api.Seconds) api.MountTuning {
		return api.MountTuning{Description: description, MountConfig: api.MountConfig{DefaultLeaseTTL: byDefault, MaxLeaseTTL: longest}}
	}
	if got := read(); !reflect.DeepEqual(got, tuned("", 2764800, 2764800)) {
		t.Errorf("%+v", got)
	}
	words := "of payments"
	for _, c := range []struct {
		tune func(any)
		want api.MountTuning
	}{
		{tune("3600s", "2d", nil), tuned("", 3600, 172800)},
		{tune("", "", &words), tuned(words, 3600, 172800)},
		{tune("7200", "system", nil), tuned(words, 7200, 2764800)},
		{tune("system", "60", new(string)), tuned("", 60, 60)},
		{tune("2764801", "system", nil), tuned("", 2764801, 2764801)},
	} {
		if a, err := s.call(s.root, op.Write, "sys/mounts/a/b/tune", c.tune); err != nil || a.Data != nil {
			t.Errorf("%+v, %v", a, err)
		}
		if got := read(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
		s.Reset()
		if got := read(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("stored %+v, want %+v", got, c.want)
		}
	}
	m := s.must(s.root, op.Read, "sys/mounts/a/b", nil).(*api.Mount)
	if m.Config.DefaultLeaseTTL != 2764801 {
		t.Errorf("%+v", m)
	}
	refused := func(path, text string, f func(any)) {
		t.Helper()
		s.refused(fault.Invalid, text, s.root, op.Write, "sys/mounts/"+path+"/tune", f)
	}
	refused("a/b", "backend max lease TTL of 60 would be less than backend default lease TTL of 61", tune("61", "1m", nil))
	refused("a/b", `default_lease_ttl: "soon" is neither`, tune("soon", "", nil))
	refused("a/b", `max_lease_ttl: "500ms" is neither`, tune("", "500ms", nil))
	refused("a/b", `"-1" is neither`, tune("-1", "", nil))
	refused("none", `tune of path "none/" failed: no mount entry found`, tune("1", "", nil))
	refused("sys", `cannot tune "sys/"`, tune("1", "", nil))
	s.refused(fault.Invalid, `cannot fetch sysview for path "none/"`, s.root, op.Read, "sys/mounts/none/tune", nil)
	s.must(s.root, op.Read, "transit/keys/x", nil)
}
