package unsealer

import (
	"testing"
	"time"

	"github.com/claviger/claviger/api"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Now()
	sealed := func(progress int, nonce string) api.SealStatus {
		return api.SealStatus{Initialized: true, Sealed: true, T: 3, N: 5, Progress: progress, Nonce: nonce}
	}
	given := memory{given: true, nonce: "a", progress: 1}
	for name, c := range map[string]struct {
		memory memory
		status api.SealStatus
		want   string
	}{
		"not initialised":          {memory{}, api.SealStatus{Sealed: true}, outUninitialized},
		"unsealed":                 {memory{}, api.SealStatus{Initialized: true}, outUnsealed},
		"sealed":                   {memory{}, sealed(0, ""), outGiven},
		"others began":             {memory{}, sealed(2, "a"), outGiven},
		"has it":                   {given, sealed(1, "a"), outWaiting},
		"has it and another":       {given, sealed(2, "a"), outWaiting},
		"reset":                    {given, sealed(0, ""), outGiven},
		"reset, others began":      {given, sealed(1, "b"), outGiven},
		"restart without nonce":    {memory{given: true, progress: 1}, sealed(0, ""), outGiven},
		"dropped, others kept":     {memory{given: true, nonce: "a", progress: 2}, sealed(1, "a"), outGiven},
		"no nonce, has it":         {memory{given: true, progress: 1}, sealed(1, ""), outWaiting},
		"refused a moment ago":     {memory{notBefore: now.Add(time.Second)}, sealed(0, ""), outBackOff},
		"refused a while ago":      {memory{notBefore: now.Add(-time.Second)}, sealed(0, ""), outGiven},
		"unsealed after a refusal": {memory{notBefore: now.Add(time.Second)}, api.SealStatus{Initialized: true}, outUnsealed},
		"unseals itself":           {memory{}, api.SealStatus{Initialized: true, Sealed: true, RecoverySeal: true}, outItself},
		"in migration":             {memory{}, api.SealStatus{Initialized: true, Sealed: true, Migration: true}, outMigration},
	} {
		if got := c.memory.decide(&c.status, now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestBackOffGrows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w := &watcher{interval: time.Minute, now: func() time.Time { return now }}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 16, 16} {
		if got := w.refused(); got != want*time.Minute {
			t.Errorf("refusal %d: %v, want %v minutes", i+1, got, int(want))
		}
		status := api.SealStatus{Initialized: true, Sealed: true}
		if got := w.decide(&status, now.Add(want*time.Minute-20*time.Second)); i > 0 && got != outBackOff && want < 2 {
			t.Errorf("refusal %d: %s too early", i+1, got)
		}
		if got := w.decide(&status, now.Add(want*time.Minute-w.interval*2/10)); got != outGiven {
			t.Errorf("refusal %d: %s at the look of that time", i+1, got)
		}
		now = now.Add(want * time.Minute)
	}
	w.forget()
	if got := w.refused(); got != time.Minute {
		t.Errorf("after it was unsealed: %v", got)
	}
}

func TestPeriodIsWithinInterval(t *testing.T) {
	t.Parallel()
	w := &watcher{interval: time.Second}
	seen := map[time.Duration]bool{}
	for range 100 {
		p := w.period()
		if p < 800*time.Millisecond || p >= 900*time.Millisecond {
			t.Fatalf("period %v", p)
		}
		seen[p] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different periods", len(seen))
	}
}
