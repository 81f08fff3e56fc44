package guard

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (s *server) remount(from, to string) string {
	s.t.Helper()
	r := s.must(s.root, op.Write, "sys/remount", fill(func(r *api.Remount) { r.From, r.To = from, to })).(*api.Remounted)
	return r.MigrationID
}

func TestRemount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mount("team/a")
	before := s.must(s.root, op.Read, "sys/mounts/team/a", nil).(*api.Mount)
	id := s.remount("/team/a/", "b")
	for range 2 { // in memory, then as stored
		after := s.must(s.root, op.Read, "sys/mounts/b", nil).(*api.Mount)
		if after.UUID != before.UUID || after.Accessor != before.Accessor {
			t.Errorf("%+v became %+v", before, after)
		}
		s.refused(fault.Invalid, "No secret engine mount", s.root, op.Read, "sys/mounts/team/a", nil)
		s.refused(fault.NotFound, "no handler for route", s.root, op.Read, "team/a/keys/k", nil)
		s.must(s.root, op.Read, "b/keys/k", nil)
		got := s.must(s.root, op.Read, "sys/remount/status/"+id, nil).(*api.RemountStatus)
		if want := (api.MigrationInfo{SourceMount: "team/a/", TargetMount: "b/", Status: "success"}); got.MigrationInfo != want || got.MigrationID != id {
			t.Errorf("%+v", got)
		}
		// The engine knows the mount by the name that it had.
		if did := s.done(); !slices.Equal(did, []string{"team/a/k"}) {
			t.Errorf("done %q", did)
		}
		s.Reset()
	}
	s.refused(fault.NotFound, "", s.root, op.Read, "sys/remount/status/none", nil)
	if id := s.remount("b", "b/c"); id == "" {
		t.Error("no ID")
	}
	s.remount("b/c", "team/a")
	s.must(s.root, op.Read, "team/a/keys/k", nil)
	if did := s.done(); !slices.Equal(did, []string{"team/a/k"}) {
		t.Errorf("done %q", did)
	}
}

// A new mount at the path of one that was moved away, inside of it or around it
// shares nothing with it.
func TestRemountThenMount(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mount("a/b")
	s.remount("a/b", "moved")
	s.must(s.root, op.Read, "moved/keys/k", nil)
	var emptied []string
	s.unmount = func(_ context.Context, _, mount string) error { emptied = append(emptied, mount); return nil }
	var names []string
	for _, path := range []string{"a/b", "a/b/c", "a"} {
		s.mount(path)
		s.Reset()
		s.must(s.root, op.Read, path+"/keys/k", nil)
		s.must(s.root, op.Delete, "sys/mounts/"+path, nil)
	}
	names = s.done()
	if len(names) != 4 || names[0] != "a/b/k" {
		t.Fatalf("done %q", names)
	}
	for i, name := range names[1:] {
		if !strings.HasPrefix(name, "~") || strings.Count(name, "/") != 1 || name != emptied[i]+"k" {
			t.Errorf("the new mount is named %q, and %q was emptied", name, emptied[i])
		}
	}
	s.must(s.root, op.Delete, "sys/mounts/moved", nil)
	if last := emptied[len(emptied)-1]; last != "a/b/" {
		t.Errorf("unmounting emptied %q", last)
	}
	s.mount("a/b")
	s.must(s.root, op.Read, "a/b/keys/k", nil)
	if did := s.done(); !slices.Equal(did, []string{"a/b/k"}) {
		t.Errorf("done %q", did)
	}
}

func TestRemountRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mount("a")
	s.mount("b/c")
	for _, c := range []struct{ from, to, want string }{
		{"", "x", "both 'from' and 'to' path must be specified"},
		{"a", "", "both 'from' and 'to' path must be specified"},
		{"none", "x", `no matching mount at "none/"`},
		{"b", "x", `no matching mount at "b/"`},
		{"a", "a", `path already in use at "a/"`},
		{"a", "b", `path already in use at "b/c/"`},
		{"a", "b/c/d", `path already in use at "b/c/"`},
		{"a", "transit", `path already in use at "transit/"`},
		{"sys", "x", `cannot remount "sys/"`},
		{"auth/token", "x", `cannot remount "auth/token/"`},
		{"a", "auth/x", "'to' path"},
		{"a", "a b", "'to' path"},
		{"a", "../x", "'to' path"},
		{"a", strings.Repeat("x", 200), "'to' the path of a mount has at most"},
	} {
		s.refused(fault.Invalid, c.want, s.root, op.Write, "sys/remount", fill(func(r *api.Remount) { r.From, r.To = c.from, c.to }))
	}
	// A failing database leaves the old mount.
	s.mem.setFail(errors.New("disk full"))
	s.refused(fault.Unavailable, "moving a/ to x/", s.root, op.Write, "sys/remount", fill(func(r *api.Remount) { r.From, r.To = "a", "x" }))
	s.mem.setFail(nil)
	for range 2 {
		s.must(s.root, op.Read, "a/keys/k", nil)
		s.refused(fault.NotFound, "", s.root, op.Read, "x/keys/k", nil)
		s.Reset()
	}
	// What is being unmounted is not moved.
	s.unmount = func(context.Context, string, string) error { return errors.New("no") }
	s.refused(fault.Unavailable, "answers no more", s.root, op.Delete, "sys/mounts/a", nil)
	s.refused(fault.Invalid, `no matching mount at "a/"`, s.root, op.Write, "sys/remount", fill(func(r *api.Remount) { r.From, r.To = "a", "x" }))
	token := s.limited(`path "sys/remount" { capabilities = ["update"] }`)
	s.refused(fault.Denied, "permission denied", token, op.Write, "sys/remount", nil)
}
