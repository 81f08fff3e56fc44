package custody

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
)

func TestUnsealOtherThree(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(5, 3)
	b.give(r.Keys[:3]...)
	b.wantState(true, false)
	b.restart()
	b.wantState(true, true)
	for i, share := range []string{r.Keys[4], r.Keys[2], r.Keys[3]} {
		s := b.give(share)
		if want := (i + 1) % 3; s.Progress != want || (s.Nonce == "") != (want == 0) || s.T != 3 || s.N != 5 {
			t.Errorf("after share %d: %+v", i+1, s)
		}
	}
	b.wantState(true, false)
	if !b.works() {
		t.Error("the records of the first start are lost")
	}
}

func TestUnsealOneOfOne(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(1, 1)
	if s := b.give(r.KeysBase64[0]); s.Sealed {
		t.Errorf("%+v", s)
	}
	s := b.give("not even a share")
	if s.Sealed || s.ClusterID == "" || s.ClusterName != "test" {
		t.Errorf("unsealing an unsealed server: %+v", s)
	}
}

func TestUnsealUninitialised(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, err := b.c.Unseal(t.Context(), vectorShares[0])
	wantFault(t, err, fault.Invalid, "not initialized", "sys/init")
}

func TestUnsealBadShares(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(3, 3)
	shares := parseShares(t, r.Keys...)
	before := b.give(r.Keys[0])
	changed := shares[1]
	changed.Value = shares[2].Value
	renamed := shares[0]
	renamed.X = 3
	for name, c := range map[string]struct {
		text  string
		cause error
	}{
		"mistyped":     {strings.Replace(r.Keys[1], r.Keys[1][30:32], "zz", 1), ErrMalformed},
		"cut":          {r.Keys[1][:95], ErrMalformed},
		"other words":  {"correct horse battery staple", ErrMalformed},
		"foreign":      {vectorShares[1], ErrForeign},
		"altered":      {changed.Hex(), ErrAltered},
		"altered x":    {renamed.Hex(), ErrAltered},
		"repeated":     {r.Keys[0], ErrRepeated},
		"repeated b64": {r.KeysBase64[0], ErrRepeated},
	} {
		_, err := b.c.Unseal(t.Context(), c.text)
		if !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantFault(t, err, fault.Invalid)
		if s := b.c.Status(); *s != *before {
			t.Errorf("%s: changed the progress: %+v", name, s)
		}
	}
	if b.device.tries != 1 {
		t.Error("a PIN was tried")
	}
	b.give(r.Keys[1], r.Keys[2])
	b.wantState(true, false)
}

func TestUnsealReset(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(3, 2)
	first := b.give(r.Keys[0])
	s, err := b.c.Reset(t.Context())
	if err != nil || s.Progress != 0 || s.Nonce != "" {
		t.Fatalf("%+v, %v", s, err)
	}
	again := b.give(r.Keys[0])
	if again.Progress != 1 || again.Nonce == first.Nonce {
		t.Errorf("%+v", again)
	}
	b.give(r.Keys[2])
	b.wantState(true, false)
}

func TestUnsealStoredPINRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(2, 2)
	right := b.device.userPIN
	b.device.userPIN = []byte("changed from outside")
	b.device.tries = 0
	b.give(r.Keys[0])
	_, err := b.c.Unseal(t.Context(), r.Keys[1])
	wantFault(t, err, fault.Conflict, "refused the stored PIN", "not be tried again until", "reset", "0123abcd")
	if s := b.c.Status(); s.Progress != 0 {
		t.Errorf("the shares are still there: %+v", s)
	}
	for range 2 {
		for _, share := range r.Keys {
			_, err := b.c.Unseal(t.Context(), share)
			wantFault(t, err, fault.Conflict, "refused the stored PIN")
		}
		b.restart()
	}
	if b.device.tries != 1 {
		t.Fatalf("the refused PIN was tried %d times", b.device.tries)
	}
	// The PIN was set back: one explicit act allows one more try.
	b.device.userPIN = right
	if _, err := b.c.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.give(r.Keys...)
	b.wantState(true, false)
	b.restart()
	b.give(r.Keys...)
}

func TestUnsealTokenAway(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(3, 3)
	good := b.device.st
	for name, c := range map[string]struct {
		change func()
		kind   fault.Kind
		word   string
	}{
		"absent":         {func() { b.device.st.Present = false }, fault.Unavailable, "is not there"},
		"emptied":        {func() { b.device.st.Initialized = false }, fault.Unavailable, "is not there"},
		"other serial":   {func() { b.device.st.Serial = "beef" }, fault.Conflict, "no PIN was tried"},
		"other label":    {func() { b.device.st.Label = "else" }, fault.Conflict, "no PIN was tried"},
		"locked":         {func() { b.device.st.PINLocked = true }, fault.Conflict, "locked"},
		"unreachable":    {func() { b.device.openErr = token.ErrUnavailable }, fault.Unavailable, "does not answer"},
		"away at login":  {func() { b.device.openErr = fmt.Errorf("slot: %w", token.ErrAbsent) }, fault.Unavailable, "is not there"},
		"module failure": {func() { b.device.openErr = errors.New("CKR_GENERAL_ERROR") }, fault.Unavailable, "server's log"},
	} {
		t.Run(name, func(t *testing.T) {
			b.device.tries = 0
			b.give(r.Keys[0], r.Keys[1])
			nonce := b.c.Status().Nonce
			c.change()
			for range 2 {
				_, err := b.c.Unseal(t.Context(), r.Keys[2])
				wantFault(t, err, c.kind, c.word)
				if s := b.c.Status(); s.Progress != 2 || s.Nonce != nonce || !s.Sealed {
					t.Errorf("the shares are not kept: %+v", s)
				}
			}
			if b.device.tries != 0 {
				t.Error("a PIN was tried")
			}
			b.device.st, b.device.openErr = good, nil
			b.give(r.Keys[2])
			b.wantState(true, false)
			if err := b.c.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUnsealLockedAtLogin(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(2, 2)
	b.device.openErr = token.ErrLocked
	b.give(r.Keys[0])
	_, err := b.c.Unseal(t.Context(), r.Keys[1])
	wantFault(t, err, fault.Conflict, "locked", "SO PIN")
	if s := b.c.Status(); s.Progress != 0 {
		t.Errorf("shares wait in memory for an HSM that is locked: %+v", s)
	}
}

func TestUnsealAlteredRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(r *record)
		word   string
	}{
		"PINs":        {func(r *record) { r.PINs[20] ^= 1 }, "seal record in the database was altered"},
		"PINs cut":    {func(r *record) { r.PINs = r.PINs[:5] }, "seal record in the database was altered"},
		"cluster":     {func(r *record) { r.ClusterID = "other" }, "seal record in the database was altered"},
		"created":     {func(r *record) { r.Created = r.Created.Add(time.Second) }, "seal record in the database was altered"},
		"adopted":     {func(r *record) { r.Adopted = !r.Adopted }, "seal record in the database was altered"},
		"storage key": {func(r *record) { r.StorageKey[20] ^= 1 }, "can't open the storage key"},
		"label":       {func(r *record) { r.TokenLabel = "claviger2" }, "no PIN was tried"},
		"serial":      {func(r *record) { r.TokenSerial = "" }, "no PIN was tried"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			r := b.init(2, 2)
			b.store.edit(t, c.change)
			b.restart()
			b.give(r.Keys[0])
			_, err := b.c.Unseal(t.Context(), r.Keys[1])
			wantFault(t, err, fault.Conflict, c.word)
			b.wantState(true, true)
		})
	}
}

func TestUnsealStorageKeyGone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(1, 1)
	b.device.key = nil
	_, err := b.c.Unseal(t.Context(), r.Keys[0])
	wantFault(t, err, fault.Conflict, "no storage key", "backup")
	b.wantState(true, true)
}

func TestUnsealFailures(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	r := b.init(2, 2)
	at := map[string]bool{}
	for n := 1; ; n++ {
		b.give(r.Keys[0])
		b.faults.arm(n)
		_, err := b.c.Unseal(t.Context(), r.Keys[1])
		if b.faults.at == "" {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		at[b.faults.at] = true
		wantFault(t, err, fault.Unavailable, "last share again")
		b.wantState(true, true)
		if _, err := b.c.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.wantState(true, false)
	for _, name := range []string{"device.State", "device.Open", "token.OpenSecret", "hook.Unsealed"} {
		if !at[name] {
			t.Errorf("%s never failed", name)
		}
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if err := b.c.Seal(t.Context()); err != nil {
		t.Error("sealing an empty server:", err)
	}
	r := b.init(3, 2)
	stops := b.stops
	b.give(r.Keys[0])
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := b.c.Status(); s.Progress != 0 || b.stops != stops {
		t.Errorf("sealing a sealed server: %+v, %d stops", s, b.stops-stops)
	}
	b.give(r.Keys[0], r.Keys[1])
	for range 2 {
		if err := b.c.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.wantState(true, true)
	}
	if b.stops != stops+1 || b.works() {
		t.Errorf("%d stops; services work: %v", b.stops-stops, b.works())
	}
	b.give(r.Keys[2], r.Keys[1])
	b.c.Close()
	b.wantState(true, true)
	_, err := b.c.Unseal(t.Context(), r.Keys[0])
	wantFault(t, err, fault.Unavailable, "shutting down")
}
