package custody

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// opened is a bed that is initialised and unsealed with one share.
func opened(t *testing.T, change ...func(*Options)) (b *bed, share string) {
	t.Helper()
	b = newBed(t, change...)
	share = b.init(1, 1).KeysBase64[0]
	b.give(share)
	return b, share
}

func (b *bed) put(key, value string) {
	b.t.Helper()
	c, err := b.sealed.Put("data", key, 0, value)
	if err == nil {
		err = b.sealed.Apply(b.t.Context(), c)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) wantValues(want map[string]string) {
	b.t.Helper()
	for key, value := range want {
		var got string
		if _, err := b.sealed.Get(b.t.Context(), "data", key, &got); err != nil || got != value {
			b.t.Errorf("%s: %q, %v", key, got, err)
		}
	}
}

func (b *bed) term() (term int) {
	return mustInvoke[api.KeyStatus](b, "sys.key-status", nil).Term
}

func TestRotate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b, share := opened(t, func(o *Options) { o.Now = func() time.Time { return now } })
	b.put("one", "of term 1")
	for i, name := range []string{"sys.rotate", "sys.rotate.keyring"} {
		now = now.Add(time.Hour)
		if _, err := b.invoke(name, nil); err != nil {
			t.Fatal(err)
		}
		k := mustInvoke[api.KeyStatus](b, "sys.key-status", nil)
		if k.Term != i+2 || !k.InstallTime.Equal(now) || k.Encryptions != 0 {
			t.Errorf("%+v", k)
		}
		b.put(name, "of a later term")
	}
	all := map[string]string{"one": "of term 1", "sys.rotate": "of a later term", "sys.rotate.keyring": "of a later term"}
	b.wantValues(all)
	if !b.works() {
		t.Error("what the initialisation wrote does not open")
	}
	b.restart()
	b.give(share)
	b.wantValues(all)
	if b.term() != 3 {
		t.Errorf("term %d after a restart", b.term())
	}
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Rotate(t.Context()); fault.KindOf(err) != fault.Sealed {
		t.Errorf("rotation of a sealed server: %v", err)
	}
}

// Every call of a rotation fails in turn, before or after the database did what
// it was asked for. There is the old keyring or the new one, and it opens all.
func TestRotateCrashes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			b, share := opened(t)
			b.put("before", "x")
			b.store.late = late
			b.faults.arm(n)
			err := b.c.Rotate(t.Context())
			at := b.faults.at
			b.faults.arm(0)
			b.store.late = false
			if at == "" {
				break
			}
			seen[at] = true
			want := 1
			if late && at == "store.Apply" {
				want = 2 // the database has it, so it is done
			}
			if (err == nil) != (want == 2) || b.term() != want {
				t.Errorf("%s failed (late: %v): %v, term %d", at, late, err, b.term())
			}
			b.put("after", "y")
			b.restart()
			b.give(share)
			b.wantValues(map[string]string{"before": "x", "after": "y"})
			if b.term() != want {
				t.Errorf("%s failed (late: %v): term %d after a restart", at, late, b.term())
			}
		}
	}
	for _, name := range []string{"token.SealSecret", "store.Get", "store.Apply"} {
		if !seen[name] {
			t.Errorf("%s never failed", name)
		}
	}
}

// Nobody who writes the database can exchange, reorder or redate storage keys.
func TestTermsAreBound(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(r *record){
		"exchanged": func(r *record) { r.Terms[0].Key, r.Terms[1].Key = r.Terms[1].Key, r.Terms[0].Key },
		"redated":   func(r *record) { r.Terms[1].Installed = r.Terms[1].Installed.Add(time.Hour) },
		"of term 1": func(r *record) { r.Terms[0].Key = slices.Clone(r.StorageKey) },
		"as term 1": func(r *record) { r.StorageKey = r.Terms[0].Key },
		"altered":   func(r *record) { r.Terms[0].Key[3] ^= 1 },
	} {
		b, share := opened(t)
		for range 2 {
			if err := b.c.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.store.edit(t, edit)
		if err := b.c.Rotate(t.Context()); fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: rotation: %v", name, err)
		}
		b.restart()
		if _, err := b.c.Unseal(t.Context(), share); fault.KindOf(err) != fault.Conflict {
			t.Errorf("%s: unsealing: %v", name, err)
		}
		b.wantState(true, true)
	}
	data, _ := json.Marshal(record{})
	if strings.Contains(string(data), "terms") {
		t.Error("a record of a server that never rotated is not as before")
	}
	b, _ := opened(t)
	if err := b.c.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.store.edit(t, func(r *record) { r.Terms[0].Term = 3 })
	if _, err := New(b.opts); err == nil || !strings.Contains(err.Error(), "term 3 stands in the place of term 2") {
		t.Errorf("%v", err)
	}
}

func TestRotationConfig(t *testing.T) {
	t.Parallel()
	b, share := opened(t)
	read := func() api.RotationConfig { return *mustInvoke[api.RotationConfig](b, "sys.rotate.config.read", nil) }
	if got := read(); got != (api.RotationConfig{MaxOperations: 3865470566, Enabled: true}) {
		t.Errorf("%+v", got)
	}
	for _, bad := range []api.WriteRotationConfig{
		{MaxOperations: new(int64(999999))}, {MaxOperations: new(int64(3865470567))}, {MaxOperations: new(int64(-1))},
		{Interval: new(api.Seconds(3600))}, {Interval: new(api.Seconds(-1))}, {Interval: new(maxInterval + 1), Enabled: new(false)},
	} {
		if _, err := b.invoke("sys.rotate.config", &bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if got := read(); !got.Enabled {
		t.Errorf("a refused change counts: %+v", got)
	}
	for _, good := range []api.WriteRotationConfig{{MaxOperations: new(int64(1000000))}, {Interval: new(api.Seconds(86400))}, {Enabled: new(false)}} {
		if _, err := b.invoke("sys.rotate.keyring.config", &good); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	b.restart()
	b.give(share)
	if got := read(); got != (api.RotationConfig{MaxOperations: 1000000, Interval: 86400}) {
		t.Errorf("%+v", got)
	}
}

// The count goes on after a restart, and begins anew with a term.
func TestRotationDue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b, share := opened(t, func(o *Options) { o.Now = func() time.Time { return now } })
	due := func(want string) {
		t.Helper()
		got, err := b.c.RotationDue(t.Context())
		if err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("due %q, %v; want %q", got, err, want)
		}
	}
	count := func() int64 { return mustInvoke[api.KeyStatus](b, "sys.key-status", nil).Encryptions }
	due("")
	for range 100 {
		if _, err := b.sealed.SealBlob("p", nil); err != nil {
			t.Fatal(err)
		}
	}
	before := count()
	b.restart()
	if reason, err := b.c.RotationDue(t.Context()); reason != "" || err != nil {
		t.Errorf("sealed: %q, %v", reason, err)
	}
	b.give(share)
	if n := count(); n < before || n > before+2 || before < 100 {
		t.Errorf("%d seals, then %d after a restart", before, n)
	}
	c, err := b.sealed.Put(table, rotationKey, 0, &rotationRecord{MaxOperations: 100})
	if err == nil {
		err = b.sealed.Apply(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
	due("it sealed")
	if err := b.c.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	due("")
	if _, err := b.invoke("sys.rotate.config", &api.WriteRotationConfig{Interval: new(api.Seconds(86400))}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(24*time.Hour - time.Second)
	due("")
	now = now.Add(time.Second)
	due("it is in use since 2026-01-02T03:04:05Z")
	if _, err := b.invoke("sys.rotate.config", &api.WriteRotationConfig{Enabled: new(false)}); err != nil {
		t.Fatal(err)
	}
	due("")
}
