package keys

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// With its mount a key goes whatever its rules say, with all that is kept of it;
// keys of other mounts stay.
func TestUnmount(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	for i := range 3 {
		e.makeAs(api.CreateKey{Name: fmt.Sprintf("k%d", i), Type: "aes256-gcm96", Protection: api.ProtectionToken})
	}
	text := e.enc("k0", "gone") // counts
	e.rotateNow("k1")
	e.makeAs(api.CreateKey{Name: "soft", Protection: api.ProtectionSoftware})
	other := &op.Call{Mount: "transit2/", MayCreate: true, MayUpdate: true}
	if _, err := e.createKey(ctx, other, &api.CreateKey{Name: "k0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.writeKeySettings(ctx, call(), &api.SetKeySettings{DisableUpsert: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.softDelete(ctx, call(), &api.KeyName{Name: "k2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.readWrappingKey(ctx, call(), nil); err != nil {
		t.Fatal(err)
	}
	must(t, e.Unmount(ctx, "transit/"))
	if n := e.count(tableSettings) + e.count(tableWrapping); n != 0 {
		t.Errorf("%d records of the mount itself are left", n)
	}
	if keys, versions, counters, intents, objects := e.count(tableKeys), e.count(tableVersions), e.count(tableCounters), e.count(tableIntents), len(e.hsm.ids()); keys != 1 || versions != 1 || counters != 0 || intents != 0 || objects != 0 {
		t.Errorf("left: %d keys, %d versions, %d counters, %d intents, %d objects", keys, versions, counters, intents, objects)
	}
	if _, err := e.dec("k0", text); err == nil {
		t.Error("a deleted key decrypts")
	}
	if _, err := e.readKey(ctx, other, &api.ReadKey{Name: "k0"}); err != nil {
		t.Error(err)
	}
	must(t, e.Unmount(ctx, "transit/"))
}

// An unmount that was interrupted goes on; objects that could not be destroyed
// are at the next start.
func TestUnmountInterrupted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	for i := range 4 {
		e.makeAs(api.CreateKey{Name: fmt.Sprintf("k%d", i), Type: "aes256-gcm96", Protection: api.ProtectionToken})
	}
	e.db.hook(func(n int64) (before, after error) {
		if n >= 3 {
			return errBoom, nil
		}
		return nil, nil
	})
	e.hsm.destroy = func(token.Stored) error { return token.ErrUnavailable }
	if err := e.Unmount(ctx, "transit/"); fault.KindOf(err) != fault.Unavailable && !errors.Is(err, errBoom) {
		t.Errorf("%v", err)
	}
	e.db.hook(nil)
	if n := e.count(tableKeys); n == 0 || n == 4 {
		t.Fatalf("%d keys are left", n)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Unmount(ended, "transit/"); err == nil {
		t.Error("went on although nobody waits")
	}
	must(t, e.Unmount(ctx, "transit/"))
	if e.count(tableKeys)+e.count(tableVersions) != 0 || len(e.hsm.ids()) == 0 {
		t.Errorf("%d keys, %d versions, %d objects", e.count(tableKeys), e.count(tableVersions), len(e.hsm.ids()))
	}
	e.hsm.destroy = nil
	e.restart()
	if e.count(tableIntents) != 0 || len(e.hsm.ids()) != 0 {
		t.Errorf("%d intents, %d objects", e.count(tableIntents), len(e.hsm.ids()))
	}
	e.holder.Set(nil)
	if err := e.Unmount(ctx, "transit/"); fault.KindOf(err) != fault.Sealed {
		t.Errorf("%v", err)
	}
}
