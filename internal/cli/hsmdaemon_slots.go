package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/token/worker"
)

type slot = worker.SlotReport

// slots loads the module in a worker and lists its slots that hold a token.
func (d *daemon) slots(ctx context.Context) ([]slot, error) {
	module := config.Default().Token
	module.PKCS11.Module, module.PKCS11.LockFile, module.PKCS11.Workers = d.file.PKCS11.Module, "", 1
	d.log.Debug("initialize pkcs11 module", "module", module.PKCS11.Module)
	r, err := worker.Examine(ctx, server.WorkerConfig(&module), nil)
	if err != nil {
		return nil, err
	}
	ids := []uint64{}
	for i := range r.Slots {
		ids = append(ids, r.Slots[i].ID)
	}
	d.log.Info("Slots found", "slotIds", ids)
	return r.Slots, nil
}

func (a *app) listSlotsCommand(f *hsmdaemonFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "listslots",
		Short:   "List the slots of the PKCS#11 module",
		Long:    "List the slots of the configured PKCS#11 module with their tokens. It needs no PIN.",
		Example: "  claviger hsmdaemon listslots",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.openDaemon(f)
			if err != nil {
				return err
			}
			defer d.close()
			slots, err := d.slots(cmd.Context())
			if err != nil {
				return err
			}
			return a.lines(renderSlots(slots))
		},
	}
}

// renderSlots is the list as hsmdaemon prints it.
func renderSlots(slots []slot) string {
	var b strings.Builder
	b.WriteString("Available slots:\n")
	for i := range slots {
		appendSlot(&b, &slots[i])
	}
	return b.String()
}

// Flags that the list says in words.
var (
	saidOfSlot  = []string{"CKF_TOKEN_PRESENT"}
	saidOfToken = []string{"CKF_USER_PIN_INITIALIZED", "CKF_TOKEN_INITIALIZED"}
)

func appendSlot(b *strings.Builder, s *slot) {
	t := &s.Detail
	field := func(name string, value any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%s: %v", name, value), " ") + "\n")
	}
	fmt.Fprintf(b, "Slot: %d,\nSlot info:\n", s.ID)
	field("Description", s.Description)
	field("Manufacturer ID", t.SlotManufacturer)
	field("Hardware version", t.SlotHardware)
	field("Firmware version", t.SlotFirmware)
	field("Token present", yesNo(t.TokenPresent))
	field("Flags", otherFlags(t.SlotFlags, saidOfSlot))
	b.WriteString("Token info:\n")
	field("Manufacturer ID", s.Manufacturer)
	field("Model", s.Model)
	field("Hardware version", t.TokenHardware)
	field("Firmware version", s.Firmware)
	field("Serial number", s.Serial)
	field("Initialized", yesNo(s.Initialized))
	field("User PIN init.", yesNo(s.UserPINSet))
	field("Label", s.Label)
	field("MaxSessionCount", t.MaxSessions)
	field("SessionCount", t.Sessions)
	field("MaxRwSessionCount", t.MaxRWSessions)
	field("RwSessionCount", t.RWSessions)
	field("MaxPinLen", strconv.Itoa(s.MaxPIN))
	field("MinPinLen", strconv.Itoa(s.MinPIN))
	field("TotalPublicMemory", t.TotalPublic)
	field("FreePublicMemory", t.FreePublic)
	field("TotalPrivateMemory", t.TotalPrivate)
	field("FreePrivateMemory", t.FreePrivate)
	field("UTCTime", t.UTCTime)
	field("Flags", otherFlags(t.TokenFlags, saidOfToken))
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func otherFlags(flags, said []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return slices.Contains(said, f) }), " ")
}
