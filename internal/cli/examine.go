package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token/worker"
)

// examine loads the module in a worker and reports on it.
func examine(ctx context.Context, e examination) (*doctorReport, error) {
	r, err := worker.Examine(ctx, server.WorkerConfig(&config.Token{Label: e.Label, PKCS11: e.Module}), e.PIN)
	if err != nil {
		return nil, err
	}
	report := &doctorReport{
		Module: e.Module.Module, Description: r.Library.Description, Manufacturer: r.Library.Manufacturer,
		Cryptoki: r.Library.Cryptoki, Library: r.Library.Version,
		// In JSON none of something is a list too.
		Slots: []doctorSlot{}, Hardened: append([]string{}, r.Hardened...), Missing: append([]string{}, r.Missing...),
		Quirks: r.Quirks,
	}
	for _, s := range r.Slots {
		report.Slots = append(report.Slots, reportSlot(s))
	}
	for _, t := range r.Types {
		report.KeyTypes = append(report.KeyTypes, reportKeyType(t))
	}
	for _, x := range r.Rates {
		report.Rates = append(report.Rates, doctorRate{x.Operation, x.Workers, x.PerSecond})
	}
	return report, nil
}

func reportSlot(s worker.SlotReport) doctorSlot {
	slot := doctorSlot{
		ID: s.ID, Description: s.Description, Label: s.Label, Serial: s.Serial, Model: s.Model, Firmware: s.Firmware,
		Flags: []string{}, Mechanisms: []doctorMechanism{},
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{s.Hardware, "hardware"}, {s.Initialized, "initialised"}, {s.UserPINSet, "user PIN set"}, {s.PINLocked, "PIN locked"}} {
		if f.set {
			slot.Flags = append(slot.Flags, f.name)
		}
	}
	for _, m := range s.Mechanisms {
		slot.Mechanisms = append(slot.Mechanisms, doctorMechanism{m.Name, m.Min, m.Max, append([]string{}, m.Flags...)})
	}
	return slot
}

// reportKeyType sums up the operations of a type: it is native if all of them are.
func reportKeyType(t worker.TypeReport) doctorKeyType {
	k := doctorKeyType{Type: t.Type.String(), Held: "no", Wrapped: t.Wrapped, Token: t.Held, Note: t.Note}
	if !t.Held {
		return k
	}
	k.Held = "native"
	notes := []string{t.Note}
	for _, o := range t.Operations {
		if o.How == "native" {
			continue
		}
		if k.Held == "native" || o.How == "no" {
			k.Held = map[string]string{"composed": "composed", "no": "in part"}[o.How]
		}
		notes = append(notes, o.Name+": "+o.How+" "+o.Note)
	}
	k.Note = strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; ")
	return k
}
