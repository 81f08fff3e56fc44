package guard

import (
	"context"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestSystem(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.rec.take()
	done := 0
	run := func(verb op.Verb, path string, err error) error {
		return s.System(t.Context(), verb, path, &api.PolicyName{Name: "p"}, func(_ context.Context, c *op.Call) (any, error) {
			done++
			if c.Mount != "sys/" || c.Caller.DisplayName != "system" || c.Caller.Root {
				t.Errorf("%+v", c)
			}
			return &api.Policy{Name: "p"}, err
		})
	}
	if err := run(op.Read, "sys/policies/acl/p", nil); err != nil {
		t.Fatal(err)
	}
	events := s.rec.take()
	if len(events) != 2 || events[0].Type != EventRequest || events[1].Type != EventResponse || events[0].RequestID != events[1].RequestID {
		t.Fatalf("%+v", events)
	}
	for _, e := range events {
		if e.Operation != "sys.policy.read" || e.DisplayName != "system" || e.Accessor != "" || e.Path != "sys/policies/acl/p" || e.Error != "" || e.Policies != nil {
			t.Errorf("%+v", e)
		}
	}
	if events[0].Data.(*api.PolicyName).Name != "p" || events[1].Data.(*api.Policy).Name != "p" {
		t.Errorf("%+v", events)
	}
	if err := run(op.Read, "sys/policies/acl/p", fault.New(fault.Conflict, "too late")); fault.KindOf(err) != fault.Conflict {
		t.Error(err)
	}
	if events = s.rec.take(); len(events) != 2 || events[1].Error != "too late" {
		t.Errorf("%+v", events)
	}
	if done != 2 {
		t.Errorf("done %d times", done)
	}
}

func TestSystemRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	run := func(path string) error {
		return s.System(t.Context(), op.Read, path, nil, func(context.Context, *op.Call) (any, error) {
			t.Errorf("%s was done", path)
			return nil, nil
		})
	}
	want := func(path string, kind fault.Kind, text string) {
		t.Helper()
		if err := run(path); fault.KindOf(err) != kind || !strings.Contains(fault.Message(err), text) {
			t.Errorf("%s: %v", path, err)
		}
	}
	want("nowhere/x", fault.NotFound, "no handler for route")
	want("sys/nowhere", fault.NotFound, "unsupported path")
	s.rec.setFail(EventRequest)
	want("sys/policies/acl/p", fault.Unavailable, "the operation was not performed")
	s.rec.setFail("")
	s.mu.Lock()
	s.isSealed = true
	s.mu.Unlock()
	want("sys/policies/acl/p", fault.Sealed, "sealed")
}
