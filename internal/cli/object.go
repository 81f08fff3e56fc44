package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// objectFlags are those that name an object of the HSM token.
func objectFlags(cmd *cobra.Command, label, id, class *string) {
	f := cmd.Flags()
	f.StringVar(label, "label", "", "CKA_LABEL of the object")
	f.StringVar(id, "id", "", "CKA_ID of the object, in hex")
	f.StringVar(class, "class", "", "private or secret; default both")
	complete(cmd, "class", "private", "secret")
}

func (a *app) hsmObjectsCommand() *cobra.Command {
	var req api.HSMObjects
	cmd := &cobra.Command{
		Use:   "objects",
		Short: "List the keys that lie in the HSM token",
		Long: `List the private and secret keys in the HSM token, whoever made them: those that
"key adopt" can make named keys of, those of Claviger itself, and those that it
can't use, with the reason. It needs the capability sudo on sys/hsm/objects.`,
		Example: "  claviger hsm objects\n  claviger hsm objects --label signer --class private",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			list, err := c.HSMObjects(ctx, req)
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.showJSON(list)
			}
			if _, err := fmt.Fprint(a.out, renderObjects(list)); err != nil {
				return err
			}
			if list.More {
				a.say("There are more; --limit or --label shows them.")
			}
			return nil
		}),
	}
	objectFlags(cmd, &req.Label, &req.ID, &req.Class)
	cmd.Flags().IntVar(&req.Limit, "limit", 0, "most objects to list; default 1000")
	return cmd
}

func renderObjects(list *api.HSMObjectList) string {
	t := table{head: true}
	t.add("label", "id", "class", "kind", "adoptable as", "note")
	for i := range list.Objects {
		o := &list.Objects[i]
		notes := []string{}
		if o.UsedBy != "" {
			notes = append(notes, "key "+o.UsedBy)
		} else if o.Note != "" {
			notes = append(notes, o.Note)
		}
		if o.Extractable {
			notes = append(notes, "extractable")
		}
		if !o.Sensitive {
			notes = append(notes, "not sensitive")
		}
		if !o.Private {
			notes = append(notes, "not private")
		}
		t.add(o.Label, o.ID, o.Class, o.Kind, o.Type, strings.Join(notes, ", "))
	}
	return t.render()
}

func (a *app) keyAdoptCommand() *cobra.Command {
	var req api.AdoptKey
	var cfg string
	cmd := &cobra.Command{
		Use:   "adopt NAME",
		Short: "Make a named key of a key that lies in the HSM token already",
		Long: `Make a named key of a private or secret key that another program made in the HSM
token. Nothing moves: the object stays where it is, and that program can go on
using it. --label, --id or both must fit one key ("hsm objects" lists them).
Deleting the named key leaves the object in the token, unless --delete-object was
given here. It needs the capability sudo.

If the object of an adopted key is gone, as after a restore with another HSM token, an
object with the same public key takes its place.

--pkcs11-cfg reads the label and the ID from a file pkcs11.cfg of ONAP's SoftHSM
plug-ins, whose key_id is a decimal number.`,
		Example: "  claviger key adopt --label ca-signer ca\n  claviger key adopt --id 0a1b --class private old",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if cfg != "" {
				if err := readPKCS11Cfg(cfg, &req); err != nil {
					return err
				}
			}
			if req.Label == "" && req.ID == "" {
				return usagef("--label or --id must say which key to adopt")
			}
			req.Name = args[0]
			return a.showKeyOf(c.AdoptKey(ctx, req))
		}),
	}
	objectFlags(cmd, &req.Label, &req.ID, &req.Class)
	cmd.Flags().StringVar(&cfg, "pkcs11-cfg", "", "pkcs11.cfg that names the object, in place of --label and --id")
	cmd.Flags().BoolVar(&req.DeleteObject, "delete-object", false, "destroy the object too when the named key is deleted")
	return cmd
}
