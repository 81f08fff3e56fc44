package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// adoptAllLimit is the most objects that the server lists.
const adoptAllLimit = 10000

// adoption is what happens to one object of the HSM token.
type adoption struct {
	Label  string `json:"label"`
	ID     string `json:"id"`
	Class  string `json:"class"`
	Type   string `json:"type,omitempty"`
	Name   string `json:"name,omitempty"`
	Result string `json:"result"` // adopted, there already, would be adopted, left, failed
	Reason string `json:"reason,omitempty"`
}

const (
	resultAdopted = "adopted"
	resultThere   = "there already"
	resultWould   = "would be adopted"
	resultLeft    = "left"
	resultFailed  = "failed"
)

// namings say what name an object gets, or why it is left; see keyAdoptAllCommand.
var namings = map[string]func(*api.HSMObject) (name, reason string){
	"label": nameByLabel, "hsmdaemon": nameOfHSMDaemon, "mo-vault": nameOfMoVault,
}

func (a *app) keyAdoptAllCommand() *cobra.Command {
	var naming string
	var dry bool
	cmd := &cobra.Command{
		Use:   "adopt-all",
		Short: "Make named keys of all keys that lie in the HSM token",
		Long: `Make named keys of all private and secret keys in the HSM token that are nobody's
yet. Nothing moves, and the programs that use them go on. It may be repeated: what
is a named key already stays as it is.

--names says what they are called, and which are meant:
  label      all; by CKA_LABEL, with the CKA_ID where two have the same
  hsmdaemon  RSA pairs of ownCloud's hsmdaemon, by their UUID
  mo-vault   RSA and AES keys of Mo-Vault, as its front calls them`,
		Example: "  claviger key adopt-all --dry-run\n  claviger key adopt-all --names mo-vault",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			name, ok := namings[naming]
			if !ok {
				return usagef("--names %s: it is label, hsmdaemon or mo-vault", naming)
			}
			list, err := c.HSMObjects(ctx, api.HSMObjects{Limit: adoptAllLimit})
			if err != nil {
				return err
			}
			plan := planAdoptions(list.Objects, name)
			for i := range plan {
				if err := plan[i].run(ctx, c, naming == "mo-vault", dry); err != nil {
					return err
				}
			}
			if err := a.showAdoptions(plan); err != nil {
				return err
			}
			if list.More {
				a.say("The token has more than %d keys; those behind them were not looked at.", adoptAllLimit)
			}
			return adoptionsFailed(plan)
		}),
	}
	cmd.Flags().StringVar(&naming, "names", "label", "label, hsmdaemon or mo-vault")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would happen, and change nothing")
	complete(cmd, "names", "label", "hsmdaemon", "mo-vault")
	return cmd
}

// planAdoptions gives names to the objects. Of those that would share one, all get
// their CKA_ID behind it.
func planAdoptions(objects []api.HSMObject, naming func(*api.HSMObject) (name, reason string)) []adoption {
	var plan []adoption
	same := map[string]int{}
	for i := range objects {
		o := &objects[i]
		if o.UsedBy != "" || o.System {
			continue
		}
		d := adoption{Label: o.Label, ID: o.ID, Class: o.Class, Type: o.Type}
		if o.Type == "" {
			d.Result, d.Reason = resultLeft, o.Note
		} else if d.Name, d.Reason = naming(o); d.Name == "" {
			d.Result = resultLeft
		}
		same[d.Name]++
		plan = append(plan, d)
	}
	for i := range plan {
		if d := &plan[i]; d.Name != "" && same[d.Name] > 1 && d.ID != "" {
			d.Name += "-" + d.ID
		}
	}
	return plan
}

// run adopts the object. Only what makes every other attempt useless is an error.
func (d *adoption) run(ctx context.Context, c *client.Client, deletes, dry bool) error {
	if d.Result != "" {
		return nil
	}
	_, err := c.ReadKey(ctx, d.Name)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return err
	}
	existed := err == nil
	if dry {
		d.Result = resultWould
		if existed {
			d.Result = resultThere
		}
		return nil
	}
	_, err = c.AdoptKey(ctx, api.AdoptKey{Name: d.Name, Label: d.Label, ID: d.ID, Class: d.Class, DeleteObject: deletes})
	switch {
	case isStatus(err, http.StatusBadRequest), isStatus(err, http.StatusConflict):
		d.Result, d.Reason = resultFailed, err.Error()
	case err != nil:
		return err
	case existed:
		d.Result = resultThere
	default:
		d.Result = resultAdopted
	}
	return nil
}

func (a *app) showAdoptions(plan []adoption) error {
	return a.show(map[string]any{"keys": append([]adoption{}, plan...)}, func(t *table) {
		t.head = true
		t.add("label", "id", "class", "type", "named key", "result")
		for _, d := range plan {
			t.add(d.Label, d.ID, d.Class, d.Type, d.Name, strings.Join(strings.Fields(d.Result+" "+d.Reason), " "))
		}
	})
}

func adoptionsFailed(plan []adoption) error {
	failed := 0
	for _, d := range plan {
		if d.Result == resultFailed {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d keys could not be adopted", failed, len(plan))
	}
	return nil
}

// nameByLabel makes a name of the label: what can't stand in one becomes '-'.
func nameByLabel(o *api.HSMObject) (name, reason string) {
	name = strings.Trim(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, o.Label), "-.")
	if name == "" && o.ID != "" {
		name = "id-" + o.ID
	}
	if name == "" {
		return "", "it has neither a label nor an ID"
	}
	return name[:min(len(name), 120)], ""
}

func nameOfHSMDaemon(o *api.HSMObject) (name, reason string) {
	id, err := hex.DecodeString(o.ID)
	if err != nil || len(id) != 16 || o.Class != "private" || !strings.HasPrefix(o.Type, "rsa-") {
		return "", "not an RSA pair whose CKA_ID is a UUID"
	}
	return uuid.UUID(id).String(), ""
}

func nameOfMoVault(o *api.HSMObject) (name, reason string) {
	types := map[string]string{"rsa-2048": api.MoVaultRSA, "aes128-gcm96": api.MoVaultAES}
	id, err := hex.DecodeString(o.ID)
	version, ok := api.MoVaultVersion(id)
	// A version may be any number. One of more than 8 bytes is another program's ID.
	if typ := types[o.Type]; err == nil && ok && len(id) <= 8 && typ != "" && o.Label != "" {
		return api.MoVaultKeyName(typ, o.Label, version), ""
	}
	return "", "not RSA-2048 or AES-128 with a label and a version for its CKA_ID"
}
