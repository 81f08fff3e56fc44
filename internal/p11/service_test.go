package p11

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// TestOneRoundTrip: a signature with a key that was seen lately is one call, and
// after a second one more that asks whether anything changed.
func TestOneRoundTrip(t *testing.T) {
	t.Parallel()
	f, s := newFake(t, "a")
	now := time.Now()
	s.now = func() time.Time { return now }
	c := &Caller{Token: "good"}
	k := Key{Handle: privateOf(t, s, c, "a").Handle}
	m := &Mechanism{Number: CKM_ECDSA}
	sign := func() error {
		_, err := s.Sign(t.Context(), c, k, m, false, make([]byte, 32))
		return err
	}
	for range 10 {
		if err := sign(); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.count("transit/pkcs11-find"); n != 1 {
		t.Errorf("%d questions for ten signatures", n)
	}
	now = now.Add(2 * time.Second)
	for range 10 {
		if err := sign(); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.count("transit/pkcs11-find"); n != 2 {
		t.Errorf("%d questions after two seconds", n)
	}
	// Another program's service knows the handle without having found it.
	_, other := newFake(t)
	other.backend = f
	if _, err := other.Sign(t.Context(), c, k, m, false, make([]byte, 32)); err != nil {
		t.Errorf("with a handle from before: %v", err)
	}
	// The same name with another record is another key.
	f.remove("a")
	f.add(t, "a", "id-new")
	now = now.Add(2 * time.Second)
	if err := sign(); code(err) != CKR_KEY_HANDLE_INVALID {
		t.Errorf("the key's name is another's now: %v", err)
	}
	f.remove("a")
	if err := sign(); code(err) != CKR_KEY_HANDLE_INVALID {
		t.Errorf("deleted: %v", err)
	}
}

// TestFindPages: every object comes once, whatever the page.
func TestFindPages(t *testing.T) {
	t.Parallel()
	_, s := newFake(t, "a", "b", "c", "d", "e")
	c := &Caller{Token: "good"}
	for most := uint32(1); most < 12; most++ {
		seen := map[uint64]bool{}
		for from := []byte(nil); ; {
			found, err := s.Find(t.Context(), c, nil, from, most)
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Objects) > int(most) {
				t.Errorf("%d objects, at most %d were asked", len(found.Objects), most)
			}
			for _, o := range found.Objects {
				if seen[o.Handle] {
					t.Errorf("%x twice", o.Handle)
				}
				seen[o.Handle] = true
			}
			if from = found.Next; len(from) == 0 {
				break
			}
		}
		if len(seen) != 10 {
			t.Errorf("%d objects in pages of %d", len(seen), most)
		}
	}
	for _, bad := range [][]byte{{1}, {0, 0, 0, 0}, make([]byte, 2000)} {
		if _, err := s.Find(t.Context(), c, nil, bad, 1); code(err) != CKR_DATA_INVALID {
			t.Errorf("%x: %v", bad[:1], err)
		}
	}
	if found, err := s.Find(t.Context(), c, nil, []byte{9, 9, 0, 0, 0, 0}, 1); err != nil || len(found.Objects) > 0 || len(found.Next) > 0 {
		t.Errorf("beyond the last mount: %+v, %v", found, err)
	}
}

// TestRetries: what is safe is tried again until the deadline, what is not is only
// where nothing was sent.
func TestRetries(t *testing.T) {
	t.Parallel()
	f, s := newFake(t, "a")
	c := &Caller{Token: "good"}
	k := Key{Handle: privateOf(t, s, c, "a").Handle}
	try := func(wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		_, err := s.Sign(ctx, c, k, &Mechanism{Number: CKM_ECDSA}, false, make([]byte, 32))
		return err
	}
	for kind, want := range map[fault.Kind]Code{
		fault.Unavailable: CKR_OK, fault.Sealed: CKR_OK, fault.Internal: CKR_FUNCTION_FAILED, fault.TooLarge: CKR_DATA_LEN_RANGE,
		fault.Unsupported: CKR_FUNCTION_NOT_SUPPORTED, fault.Uncertain: CKR_FUNCTION_FAILED,
	} {
		f.err, f.errs = fault.New(kind, "not now"), 2
		if err := try(10 * time.Second); code(err) != want {
			t.Errorf("%v: %v", kind, err)
		}
		f.errs = 0
	}
	f.err, f.errs = fault.New(fault.Sealed, "Vault is sealed"), -1
	began := time.Now()
	if err := try(200 * time.Millisecond); code(err) != CKR_DEVICE_ERROR || time.Since(began) > 2*time.Second {
		t.Errorf("sealed for good: %v after %s", err, time.Since(began))
	}
	f.errs = 0
	for _, k := range []struct {
		call Call
		err  error
		want bool
	}{
		{Call{Repeatable: true}, fault.New(fault.Unavailable, "x"), true},
		{Call{}, fault.New(fault.Unavailable, "x"), false},
		{Call{}, fault.Wrap(fault.Unavailable, errors.Join(ErrNotSent), "x"), true},
		{Call{}, fault.New(fault.Sealed, "x"), true},
		{Call{Repeatable: true}, fault.New(fault.Denied, "x"), false},
	} {
		if again(&k.call, k.err) != k.want {
			t.Errorf("%+v after %v", k.call, k.err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, slots := range [][]Slot{nil, {{Label: "x"}}, {{Mounts: []string{"transit"}}}, {{Label: fmt.Sprintf("%33d", 1), Mounts: []string{"a"}}}} {
		if _, err := New(Options{Slots: slots}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", slots, err)
		}
	}
}

// TestViewsAreBounded: many callers are forgotten, not kept.
func TestViewsAreBounded(t *testing.T) {
	t.Parallel()
	_, s := newFake(t)
	for i := range 3 * maxViews {
		s.view(&Caller{Token: fmt.Sprint(i)})
	}
	if len(s.views) > maxViews {
		t.Errorf("%d views", len(s.views))
	}
}

func BenchmarkSign(b *testing.B) {
	_, s := newFake(b, "a")
	c := &Caller{Token: "good"}
	w := &Writer{}
	w.U8(OpSign)
	w.U32(5000)
	w.U32(0)
	w.Text("good")
	w.U64(privateOf(b, s, c, "a").Handle)
	w.U64(CKM_ECDSA)
	w.U8(ParamNone)
	w.U8(0)
	w.Bytes(make([]byte, 32))
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		if out = s.Handle(b.Context(), "test", w.B, out[:0]); out[3] != 0 {
			b.Fatalf("%x", out)
		}
	}
}
