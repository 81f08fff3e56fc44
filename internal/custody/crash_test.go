package custody

import (
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Every call of an initialisation fails in turn. Afterwards it can be repeated
// at once, or after what the error says to do was done.
func TestInitCrashes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{Create, Adopt} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for n := 1; ; n++ {
				at := crashInit(t, mode, n)
				if at == "" {
					break
				}
				seen[at] = true
			}
			names := []string{"store.Get", "store.Check", "device.State", "device.Open", "token.Provision", "token.SealSecret", "hook.Unsealed", "hook.Genesis", "store.Apply"}
			if mode == Create {
				names = append(names, "device.Create")
			}
			for _, name := range names {
				if !seen[name] {
					t.Errorf("%s never failed", name)
				}
			}
		})
	}
}

func crashInit(t *testing.T, mode string, n int) (at string) {
	t.Helper()
	b := newBed(t)
	req := &api.Init{SecretShares: 2, SecretThreshold: 2, HSMToken: mode}
	if mode == Adopt {
		b.device.initialise([]byte("so pin"), []byte("135792"))
		req.HSMPIN = "135792"
	}
	b.faults.arm(n)
	_, err := b.c.Init(t.Context(), req)
	at = b.faults.at
	b.faults.arm(0)
	if at == "" {
		if err != nil {
			t.Fatal(err)
		}
		return ""
	}
	if err == nil {
		t.Fatalf("%s failed and the initialisation did not", at)
	}
	wantFault(t, err, fault.Unavailable)
	b.wantState(false, true)
	if b.store.len() != 0 {
		t.Errorf("%s failed: %d records are left", at, b.store.len())
	}
	if mode == Create && b.device.st.Initialized {
		wantFault(t, err, fault.Unavailable, "Nothing was stored", "was created and stays", "softhsm2-util --delete-token")
		b.device.st.Initialized = false
		b.device.key = nil
	}
	b.restart()
	r, err := b.c.Init(t.Context(), req)
	if err != nil {
		t.Fatalf("after %s failed: %v", at, err)
	}
	b.give(r.Keys...)
	if !b.works() {
		t.Errorf("after %s failed the server does not work", at)
	}
	return at
}

// The process ends between the making of the token and the record: no error
// reached anybody, so the next attempt has to say what to do.
func TestInitAfterKill(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.device.initialise(NewPIN(4), NewPIN(4))
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Conflict, "initialised already", "interrupted initialisation", "softhsm2-util --delete-token --token")
}

func TestInitLateStoreFailure(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.store.late = true
	b.faults.armOn("store.Apply")
	r, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		t.Fatalf("the record was written, but the shares are lost: %v", err)
	}
	b.give(r.Keys...)
	b.wantState(true, false)
}

// Nobody can tell whether the transaction was made: the error says so.
func TestInitUncertain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	flaky := &flakyStore{memStore: b.store}
	b.opts.Store = flaky
	b.restart()
	flaky.on = true
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1})
	wantFault(t, err, fault.Uncertain, "It is unknown whether anything was stored", "delete its database", "was created and stays")
	if strings.Contains(fault.Message(err), "Nothing was stored") {
		t.Error(err)
	}
	b.wantState(false, true)
}

func TestStartWithDamagedRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(r *record)
		word   string
	}{
		"format":      {func(r *record) { r.Format = 2 }, "format 2"},
		"threshold":   {func(r *record) { r.Threshold = 1 }, "altered"},
		"shares":      {func(r *record) { r.Shares = 4 }, "altered"},
		"set":         {func(r *record) { r.SetID = vectorSet }, "altered"},
		"commitments": {func(r *record) { r.Commitments[0], r.Commitments[1] = r.Commitments[1], r.Commitments[0] }, "altered"},
	} {
		b := newBed(t)
		b.init(3, 2)
		b.store.edit(t, c.change)
		_, err := New(b.opts)
		if err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBed(t)
	b.init(3, 2)
	row := b.store.records[table+"/"+recordKey]
	row.Data = row.Data[:len(row.Data)/2]
	b.store.records[table+"/"+recordKey] = row
	if _, err := New(b.opts); err == nil {
		t.Error("half a record was accepted")
	}
}
