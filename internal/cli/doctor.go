package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
)

// examination is what doctor is to look at.
type examination struct {
	Module config.PKCS11
	Label  string
	PIN    []byte // nil: only what the module shows without login
}

// doctorReport is what doctor found out about a module.
type doctorReport struct {
	Module       string       `json:"module"`
	Description  string       `json:"description"`
	Manufacturer string       `json:"manufacturer"`
	Cryptoki     string       `json:"cryptoki_version"`
	Library      string       `json:"library_version"`
	Slots        []doctorSlot `json:"slots"`
	Hardened     []string     `json:"hardened"`
	Missing      []string     `json:"hardening_missing"`

	// With a PIN only:
	KeyTypes []doctorKeyType `json:"key_types,omitempty"`
	Quirks   []string        `json:"quirks,omitempty"`
	Rates    []doctorRate    `json:"rates,omitempty"`
}

type doctorSlot struct {
	ID          uint64            `json:"id"`
	Description string            `json:"description"`
	Label       string            `json:"label"`
	Serial      string            `json:"serial"`
	Model       string            `json:"model"`
	Firmware    string            `json:"firmware"`
	Flags       []string          `json:"flags"`
	Mechanisms  []doctorMechanism `json:"mechanisms"`
}

type doctorMechanism struct {
	Name   string   `json:"name"`
	MinKey uint64   `json:"min_key_size"`
	MaxKey uint64   `json:"max_key_size"`
	Flags  []string `json:"flags"`
}

type doctorKeyType struct {
	Type    string `json:"type"`
	Held    string `json:"held"` // native, composed or no
	Wrapped bool   `json:"wrapped"`
	Token   bool   `json:"token"`
	Note    string `json:"note"`
}

type doctorRate struct {
	Operation string  `json:"operation"`
	Workers   int     `json:"workers"`
	PerSecond float64 `json:"per_second"`
}

type doctorFlags struct {
	config  string
	module  string
	label   string
	serial  string
	env     map[string]string
	login   bool
	pinFile string
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine a PKCS#11 module and its tokens",
		Long: `Load a PKCS#11 module in a worker process and show its slots, its mechanisms,
which key types Claviger can hold there, natively or composed, and what it works
around. With a PIN (--login or --pin-file) it really tries them, with session
objects that leave nothing behind, and measures a few rates. A wrong PIN counts
against the token's limit; it is tried once.`,
		Example: "  claviger token doctor --module /usr/lib/softhsm/libsofthsm2.so\n  claviger token doctor --config /etc/claviger/claviger.toml --login",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.doctor(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "take module, label and the rest from this configuration file")
	fl.StringVar(&f.module, "module", "", "the module's shared object")
	fl.StringVar(&f.label, "label", "", "label of the token; default the only one")
	fl.StringVar(&f.serial, "serial", "", "serial number of the token")
	fl.StringToStringVar(&f.env, "env", nil, "NAME=value for the worker's environment; may be repeated")
	fl.BoolVar(&f.login, "login", false, "ask for the user PIN, and try everything")
	fl.StringVar(&f.pinFile, "pin-file", "", "file with the user PIN")
	return cmd
}

func (a *app) doctor(ctx context.Context, f doctorFlags) error {
	e, err := f.examination()
	if err != nil {
		return err
	}
	if f.login || f.pinFile != "" {
		if e.PIN, err = a.pin(ctx, f.pinFile); err != nil {
			return err
		}
		defer clear(e.PIN)
		if len(e.PIN) == 0 {
			return errors.New("the PIN is empty")
		}
	}
	report, err := examine(ctx, e)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.showJSON(report)
	}
	_, err = fmt.Fprint(a.out, renderDoctor(report))
	return err
}

// examination puts configuration file and flags together.
func (f *doctorFlags) examination() (examination, error) {
	var e examination
	cfg := config.Default()
	if f.config != "" {
		var err error
		if cfg, err = config.Load(f.config); err != nil {
			return e, err
		}
		e.Label = cfg.Token.Label
	}
	e.Module = cfg.Token.PKCS11
	override(&e.Module.Module, f.module)
	override(&e.Module.Serial, f.serial)
	override(&e.Label, f.label)
	// The lock is shared with a server; before the first start its directory
	// need not exist, and without a configuration there is none.
	if _, err := os.Stat(filepath.Dir(e.Module.LockFile)); f.config == "" || errors.Is(err, fs.ErrNotExist) {
		e.Module.LockFile = ""
	}
	for name, value := range f.env {
		e.Module.Env[name] = value
	}
	if e.Module.Module == "" {
		return e, usagef("doctor needs --module FILE, or --config of a server with a module")
	}
	return e, nil
}

// renderDoctor returns the report as sections of tables.
func renderDoctor(r *doctorReport) string {
	var module table
	module.field("Module", r.Module)
	module.field("Description", r.Description)
	module.field("Manufacturer", r.Manufacturer)
	module.field("Cryptoki", r.Cryptoki)
	module.field("Library", r.Library)
	module.field("Confined by", strings.Join(r.Hardened, ", "))
	module.field("Not confined by", strings.Join(r.Missing, ", "))
	var b strings.Builder
	b.WriteString(module.render())
	for _, s := range r.Slots {
		b.WriteString("\n" + renderSlot(s))
	}
	if len(r.KeyTypes) > 0 {
		b.WriteString("\n" + renderKeyTypes(r.KeyTypes))
	}
	b.WriteString(renderQuirks(r.Quirks))
	if len(r.Rates) > 0 {
		b.WriteString("\n" + renderRates(r.Rates))
	}
	return b.String()
}

func renderSlot(s doctorSlot) string {
	var t table
	t.field("Slot", s.ID)
	t.field("Description", s.Description)
	t.field("Token", s.Label)
	t.field("Serial", s.Serial)
	t.field("Model", s.Model)
	t.field("Firmware", s.Firmware)
	t.field("Flags", strings.Join(s.Flags, ", "))
	if len(s.Mechanisms) == 0 {
		return t.render()
	}
	m := table{head: true}
	m.add("mechanism", "key size", "uses")
	for _, x := range s.Mechanisms {
		m.add(x.Name, keySizes(x.MinKey, x.MaxKey), strings.Join(x.Flags, ", "))
	}
	return t.render() + "\n" + m.render()
}

func keySizes(least, most uint64) string {
	switch {
	case most == 0:
		return ""
	case least == most:
		return strconv.FormatUint(most, 10)
	}
	return fmt.Sprintf("%d–%d", least, most)
}

func renderKeyTypes(types []doctorKeyType) string {
	t := table{head: true}
	t.add("key type", "held", "protections", "note")
	for _, k := range types {
		t.add(k.Type, k.Held, protections(k.Wrapped, k.Token), k.Note)
	}
	return t.render()
}

func renderRates(rates []doctorRate) string {
	t := table{head: true}
	t.add("operation", "workers", "per second")
	for _, r := range rates {
		t.add(r.Operation, strconv.Itoa(r.Workers), strconv.FormatFloat(r.PerSecond, 'f', 0, 64))
	}
	return t.render()
}
