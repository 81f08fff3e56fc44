package worker

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// Report is what Examine finds out about a module.
type Report struct {
	Library  LibraryReport
	Slots    []SlotReport
	Hardened []string // measures that confine a worker
	Missing  []string // measures that this system lacks, with the reason

	// With a PIN only:
	Types  []TypeReport
	Quirks []string
	Rates  []Rate
}

// LibraryReport is what the module says of itself.
type LibraryReport struct{ Manufacturer, Description, Version, Cryptoki string }

// SlotReport is a slot with its token.
type SlotReport struct {
	ID                                           uint64
	Description, Label, Serial                   string
	Manufacturer, Model, Firmware                string
	Hardware, Initialized, UserPINSet, PINLocked bool
	MinPIN, MaxPIN                               int // bytes
	Detail                                       SlotDetail
	Mechanisms                                   []MechanismReport
}

// SlotDetail is what else PKCS#11 tells of a slot and its token, for programs that
// print it as it is.
type SlotDetail struct {
	SlotManufacturer, SlotHardware, SlotFirmware, TokenHardware string
	TokenPresent                                                bool
	SlotFlags, TokenFlags                                       []string // "CKF_RNG", …
	MaxSessions, Sessions, MaxRWSessions, RWSessions            uint64
	TotalPublic, FreePublic, TotalPrivate, FreePrivate          uint64 // bytes; all ones: not told
	UTCTime                                                     string
}

// MechanismReport is a mechanism; the sizes are in the mechanism's own unit.
type MechanismReport struct {
	Name     string
	Min, Max uint64
	Flags    []string // "encrypt", "sign", …
}

// TypeReport says how the token holds keys of a type, by trying with session objects.
type TypeReport struct {
	Type       token.Type
	Held       bool
	Wrapped    bool
	Note       string // why it is not held, or not as wrapped keys
	Operations []OperationReport
}

// OperationReport is an operation: How is "native", "composed" or "no".
type OperationReport struct{ Name, How, Note string }

// Rate is a throughput in operations per second.
type Rate struct {
	Workers   int
	Operation string
	PerSecond float64
}

// Examine loads a module in a worker and describes it. With the user PIN of the
// configured token it also tries every key type with session objects, which
// leaves nothing in the token, and measures the throughput for 1, 2, 4, … up to
// Config.Workers processes.
func Examine(ctx context.Context, cfg Config, pin []byte) (Report, error) {
	cfg.CallTimeout = max(cfg.CallTimeout, time.Minute) // RSA keys are made in the hot lane here
	d, err := NewDevice(cfg)
	if err != nil {
		return Report{}, err
	}
	var v view
	err = d.alone(ctx, func(ctx context.Context) error {
		c, seen, err := look(ctx, &d.cfg, false, true)
		if err == nil {
			c.end()
			v = seen
		}
		return err
	})
	if err != nil {
		return Report{}, err
	}
	r := reportView(v)
	if pin == nil {
		return r, nil
	}
	if err := d.examineTypes(ctx, pin, &r); err != nil {
		return r, err
	}
	return r, d.measure(ctx, pin, &r)
}

func detail(s *slotView) SlotDetail {
	u := &s.token.Usage
	return SlotDetail{
		SlotManufacturer: s.slot.Manufacturer, SlotHardware: s.slot.Hardware.String(), SlotFirmware: s.slot.Firmware.String(),
		TokenHardware: s.token.Hardware.String(), TokenPresent: s.slot.Flags&1 != 0,
		SlotFlags: pkcs11.FlagNames(pkcs11.SlotFlags, s.slot.Flags), TokenFlags: pkcs11.FlagNames(pkcs11.TokenFlags, s.token.Flags),
		MaxSessions: u.MaxSessions, Sessions: u.Sessions, MaxRWSessions: u.MaxRWSessions, RWSessions: u.RWSessions,
		TotalPublic: u.TotalPublic, FreePublic: u.FreePublic, TotalPrivate: u.TotalPrivate, FreePrivate: u.FreePrivate,
		UTCTime: u.UTCTime,
	}
}

func reportView(v view) Report {
	r := Report{Hardened: v.hardened, Missing: v.missing, Library: LibraryReport{
		v.library.Manufacturer, v.library.Description, v.library.Library.String(), v.library.Cryptoki.String(),
	}}
	for _, s := range v.slots {
		sr := SlotReport{
			ID: uint64(s.id), Description: s.slot.Description, Label: s.token.Label, Serial: s.token.Serial,
			Manufacturer: s.token.Manufacturer, Model: s.token.Model, Firmware: s.token.Firmware.String(),
			Hardware: s.slot.Flags&pkcs11.FlagHWSlot != 0, Initialized: s.token.Flags&pkcs11.FlagInitialized != 0,
			UserPINSet: s.token.Flags&pkcs11.FlagUserPINSet != 0, PINLocked: s.token.Flags&pkcs11.FlagPINLocked != 0,
			MinPIN: s.token.MinPIN, MaxPIN: s.token.MaxPIN, Detail: detail(&s),
		}
		for _, m := range s.mechs {
			sr.Mechanisms = append(sr.Mechanisms, MechanismReport{m.Type.String(), m.Min, m.Max, flagNames(m.Flags)})
		}
		r.Slots = append(r.Slots, sr)
	}
	return r
}

func flagNames(flags uint64) (names []string) {
	for _, f := range []struct {
		bit  uint64
		name string
	}{
		{pkcs11.FlagHW, "hardware"}, {pkcs11.FlagEncrypt, "encrypt"}, {pkcs11.FlagDecrypt, "decrypt"}, {0x400, "digest"},
		{pkcs11.FlagSign, "sign"}, {0x2000, "verify"}, {pkcs11.FlagGen, "generate"}, {pkcs11.FlagGenPair, "generate pair"},
		{pkcs11.FlagWrap, "wrap"}, {pkcs11.FlagUnwrap, "unwrap"}, {0x80000, "derive"},
	} {
		if flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return names
}

// openWith opens the token with a number of workers, all of which are up.
func (d *Device) openWith(ctx context.Context, pin []byte, workers int) (*hsm, error) {
	c := newDeviceOf(d.cfg)
	c.cfg.Workers = workers
	h, err := c.open(ctx, pin)
	if err != nil {
		return nil, err
	}
	for i := range h.pool.procs {
		for h.pool.procs[i].Load() == nil {
			select {
			case <-ctx.Done():
				h.Close()
				return nil, unavailable(ctx, "waiting for the workers")
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return h, nil
}

func (d *Device) examineTypes(ctx context.Context, pin []byte, r *Report) error {
	h, err := d.openWith(ctx, pin, 1)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, t := range token.Types() {
		tr := TypeReport{Type: t, Note: h.lacks(t)}
		if tr.Held = tr.Note == ""; tr.Held {
			why, err := h.try(ctx, t)
			if err != nil {
				return err
			}
			if tr.Wrapped = why == nil; why != nil {
				tr.Note = "not as wrapped keys: " + why.Error()
			}
			tr.Operations = h.examineOps(ctx, t)
		}
		r.Types = append(r.Types, tr)
	}
	r.Quirks = h.Info().Quirks
	return ctx.Err()
}

// trial is an operation that Examine tries.
type trial struct {
	name string
	op   token.Op
	item token.Item
}

func trials(t token.Type) []trial {
	digest := func(h crypto.Hash) token.Item { return token.Item{In: make([]byte, h.Size())} }
	switch t.Class() {
	case token.ClassAEAD:
		return []trial{
			{"seal", token.Op{Kind: token.Seal}, token.Item{Nonce: make([]byte, 12), In: make([]byte, 1024)}},
			{"open", token.Op{Kind: token.Open}, token.Item{Nonce: make([]byte, 12), In: make([]byte, 1040)}},
		}
	case token.ClassHMAC:
		return []trial{
			{"HMAC SHA-256", token.Op{Kind: token.MAC, Hash: crypto.SHA256}, digest(crypto.SHA256)},
			{"HMAC SHA-512", token.Op{Kind: token.MAC, Hash: crypto.SHA512}, digest(crypto.SHA256)},
		}
	case token.ClassRSA:
		modulus := token.Item{In: make([]byte, t.Bits()/8)}
		return []trial{
			{"sign PKCS#1 v1.5", token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: crypto.SHA256}, digest(crypto.SHA256)},
			{"sign PSS SHA-256", token.Op{Kind: token.Sign, Scheme: token.PSS, Hash: crypto.SHA256, Salt: 32}, digest(crypto.SHA256)},
			{"sign PSS SHA-512", token.Op{Kind: token.Sign, Scheme: token.PSS, Hash: crypto.SHA512, Salt: 64}, digest(crypto.SHA512)},
			{"decrypt OAEP SHA-1", token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA1}, modulus},
			{"decrypt OAEP SHA-256", token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA256}, modulus},
		}
	}
	return []trial{{"sign", token.Op{Kind: token.Sign}, digest(crypto.SHA256)}}
}

// ephemeral returns a key that each worker makes for itself as a session object.
func (h *hsm) ephemeral(t token.Type) *key {
	st := token.Stored{Type: t}
	if t == token.HMAC {
		st.Size = 64
	}
	return newKey(h, st, fromEphemeral, "")
}

func (h *hsm) examineOps(ctx context.Context, t token.Type) (rs []OperationReport) {
	k := h.ephemeral(t)
	for _, tr := range trials(t) {
		items := []token.Item{tr.item}
		err := k.Do(ctx, tr.op, items)
		if err == nil && !errors.Is(items[0].Err, token.ErrOpen) {
			// The ciphertexts are none: that the token says so is what is wanted.
			err = items[0].Err
		}
		o := OperationReport{Name: tr.name, How: "native"}
		if err != nil {
			o.How, o.Note = "no", err.Error()
		} else if l := k.last.Load(); l.plan.op.Mech == pkcs11.RSAX509 {
			o.How, o.Note = "composed", "of CKM_RSA_X_509"
		}
		rs = append(rs, o)
	}
	return rs
}

// measureFor is the length of one measurement.
const measureFor = 300 * time.Millisecond

func (d *Device) measure(ctx context.Context, pin []byte, r *Report) error {
	for n := 1; ; n = min(2*n, d.cfg.Workers) {
		h, err := d.openWith(ctx, pin, n)
		if err != nil {
			return err
		}
		for _, m := range []struct {
			typ   token.Type
			name  string
			trial trial
		}{
			{token.P256, "ECDSA P-256 sign", trials(token.P256)[0]},
			{token.AES256, "AES-256-GCM seal 1 KiB", trials(token.AES256)[0]},
		} {
			if h.lacks(m.typ) != "" {
				continue
			}
			rate, err := h.rate(ctx, m.typ, m.trial, 4*n)
			if err != nil {
				h.Close()
				return fmt.Errorf("measuring %s: %w", m.name, err)
			}
			r.Rates = append(r.Rates, Rate{n, m.name, rate})
		}
		h.Close()
		if n == d.cfg.Workers {
			return nil
		}
	}
}

// rate returns how many operations per second a number of callers gets done.
func (h *hsm) rate(ctx context.Context, t token.Type, tr trial, callers int) (float64, error) {
	k := h.ephemeral(t)
	var count atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, callers)
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(begin) < measureFor {
				items := []token.Item{tr.item}
				if err := errors.Join(k.Do(ctx, tr.op, items), items[0].Err); err != nil {
					errs <- err
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(count.Load()) / elapsed.Seconds(), nil
	}
}

// String returns the report as text for a terminal.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "module     %s, %s %s, Cryptoki %s\n", r.Library.Manufacturer, r.Library.Description, r.Library.Version, r.Library.Cryptoki)
	for _, s := range r.Slots {
		fmt.Fprintf(&b, "slot %d\n  token      %q, serial %s, %s %s, firmware %s\n", s.ID, s.Label, s.Serial, s.Manufacturer, s.Model, s.Firmware)
		fmt.Fprintf(&b, "  state      initialised %t, user PIN set %t, PIN locked %t, PIN of %d to %d bytes\n",
			s.Initialized, s.UserPINSet, s.PINLocked, s.MinPIN, s.MaxPIN)
		for _, m := range s.Mechanisms {
			fmt.Fprintf(&b, "  %-32s %d to %d  %s\n", m.Name, m.Min, m.Max, strings.Join(m.Flags, ", "))
		}
	}
	fmt.Fprintf(&b, "workers    %s\n", strings.Join(r.Hardened, ", "))
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "  without  %s\n", m)
	}
	for _, t := range r.Types {
		fmt.Fprintf(&b, "%-20s held %t, wrapped %t", t.Type, t.Held, t.Wrapped)
		if t.Note != "" {
			fmt.Fprintf(&b, " (%s)", t.Note)
		}
		b.WriteByte('\n')
		for _, o := range t.Operations {
			fmt.Fprintf(&b, "  %-22s %s %s\n", o.Name, o.How, o.Note)
		}
	}
	for _, q := range r.Quirks {
		fmt.Fprintf(&b, "quirk      %s\n", q)
	}
	for _, rt := range r.Rates {
		fmt.Fprintf(&b, "rate       %-24s %d workers  %8.0f/s\n", rt.Operation, rt.Workers, rt.PerSecond)
	}
	return b.String()
}
