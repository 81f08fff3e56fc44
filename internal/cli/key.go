package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// keyTypes is what --type completes to.
var keyTypes = []string{
	"aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "ed25519", "ecdsa-p256",
	"ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "hmac",
}

func (a *app) keyCommand() *cobra.Command {
	cmd := a.group("key", "Manage keys",
		a.keyCreateCommand(), a.keyListCommand(), a.keyReadCommand(), a.keyRotateCommand(),
		a.keyConfigCommand(), a.keyDeleteCommand(), a.keyPublicCommand(),
		a.keyTrimCommand(), a.keySettingsCommand(),
		a.keySoftDeleteCommand(), a.keyUndeleteCommand(), a.keyCSRCommand(), a.keySetCertificateCommand(),
		a.keyDeriveCommand(), a.keyBackupCommand(), a.keyRestoreCommand(), a.keyWrappingKeyCommand(), a.keyImportCommand(), a.keyImportVersionCommand(),
		a.keyAdoptCommand(), a.keyAdoptAllCommand())
	cmd.Long = "Make, describe, rotate and delete keys of the transit engine."
	cmd.Example = "  claviger key create --type ed25519 release\n  claviger key list"
	return cmd
}

func (a *app) keyCreateCommand() *cobra.Command {
	var req api.CreateKey
	var period time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key",
		Long: `Make a named key. If there is one of this name nothing changes, and a warning
says so.

Types: ` + strings.Join(keyTypes, ", ") + `.

Protection says where the secret lives: "token" an object of the HSM, "wrapped"
outside but opened only inside the HSM, "software" in server memory.`,
		Example: "  claviger key create data\n  claviger key create --type rsa-4096 --protection token ca",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			req.AutoRotatePeriod = seconds(period)
			if req.ExternalKeyRef != "" {
				if cmd.Flags().Changed("type") {
					return usagef("--external says which key it is, and with that its type")
				}
				req.Type = "external-key"
			}
			return a.showKeyOf(c.CreateKey(ctx, req))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&req.Type, "type", "aes256-gcm96", "type of the key")
	f.StringVar(&req.Protection, "protection", "", "token, wrapped or software; default is the server's choice")
	f.IntVar(&req.KeySize, "key-size", 0, "size in bytes of an hmac key, 32 to 512")
	f.DurationVar(&period, "auto-rotate", 0, "rotate by itself after this time, at least 1h")
	f.BoolVar(&req.Derived, "derived", false, "derive a key per context; for AEAD types and ed25519")
	f.BoolVar(&req.ConvergentEncryption, "convergent", false, "same plaintext and context give the same ciphertext; needs --derived")
	f.StringVar(&req.ExternalKeyRef, "external", "", "CONFIG:KEY of an external key that it is made of")
	complete(cmd, "type", keyTypes...)
	complete(cmd, "protection", api.ProtectionToken, api.ProtectionWrapped, api.ProtectionSoftware)
	return cmd
}

func (a *app) keyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the names of all keys",
		Example: "  claviger key list --format json",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			names, err := c.ListKeys(ctx)
			if err != nil {
				return err
			}
			return a.showNames(names)
		}),
	}
}

// showNames prints a list; an empty one prints nothing, or [] in JSON.
func (a *app) showNames(names []string) error {
	if names == nil {
		names = []string{}
	}
	return a.show(api.Keys{Keys: names}, func(t *table) {
		for _, n := range names {
			t.add(n)
		}
	})
}

func (a *app) keyReadCommand() *cobra.Command {
	var keyContext string
	cmd := &cobra.Command{
		Use:   "read NAME",
		Short: "Describe a key",
		Long: `Describe a key. With the --context of a derived key of type ed25519, its JSON
form shows the public keys for that context.`,
		Example: "  claviger key read data\n  claviger key read devices --context device-7 --format json",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			return a.showKeyOf(readKey(ctx, c, args[0], keyContext))
		}),
	}
	keyContextFlag(cmd, &keyContext)
	return cmd
}

func keyContextFlag(cmd *cobra.Command, keyContext *string) {
	cmd.Flags().StringVar(keyContext, "context", "", "context of a derived key")
}

// readKey describes a key, for a context if there is one.
func readKey(ctx context.Context, c *client.Client, name, keyContext string) (*api.Key, error) {
	if keyContext == "" {
		return c.ReadKey(ctx, name)
	}
	return c.ReadKeyFor(ctx, name, []byte(keyContext))
}

func (a *app) keyRotateCommand() *cobra.Command {
	var external string
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Add a version to a key",
		Long: `Add a version to a key. New ciphertexts and signatures are made with it; old
ones are still read. Rewrap moves old ciphertexts to it.`,
		Example: "  claviger key rotate data\n  claviger key rotate --external house:signer2 ca",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if external != "" {
				return a.showKeyOf(c.RotateToExternal(ctx, args[0], external))
			}
			return a.showKeyOf(c.RotateKey(ctx, args[0]))
		}),
	}
	cmd.Flags().StringVar(&external, "external", "", "CONFIG:KEY of an external key that the new version is; default one that is made here")
	return cmd
}

func (a *app) keyConfigCommand() *cobra.Command {
	var minDecryption, minEncryption int
	var deletion bool
	var period time.Duration
	cmd := &cobra.Command{
		Use:     "config NAME",
		Short:   "Change the rules of a key",
		Long:    "Change the rules of a key. What is not given stays as it is.",
		Example: "  claviger key config --min-decryption-version 2 data\n  claviger key config --deletion-allowed data",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, cmd *cobra.Command, args []string) error {
			req := api.ConfigKey{Name: args[0]}
			given := cmd.Flags().Changed
			if given("min-decryption-version") {
				req.MinDecryptionVersion = &minDecryption
			}
			if given("min-encryption-version") {
				req.MinEncryptionVersion = &minEncryption
			}
			if given("deletion-allowed") {
				req.DeletionAllowed = &deletion
			}
			if given("auto-rotate") {
				req.AutoRotatePeriod = new(seconds(period))
			}
			if req == (api.ConfigKey{Name: args[0]}) {
				return usagef("key config changes nothing without a rule")
			}
			return a.showKeyOf(c.ConfigKey(ctx, req))
		}),
	}
	f := cmd.Flags()
	f.IntVar(&minDecryption, "min-decryption-version", 0, "oldest version that still decrypts and verifies")
	f.IntVar(&minEncryption, "min-encryption-version", 0, "oldest version that may encrypt and sign; 0 means every version that still decrypts")
	f.BoolVar(&deletion, "deletion-allowed", false, "whether the key may be deleted")
	f.DurationVar(&period, "auto-rotate", 0, "rotate by itself after this time, 0 never")
	return cmd
}

func (a *app) keyDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a key with all its versions",
		Long: `Delete a key with all its versions, for ever: what it encrypted can't be read
again. Its rules must allow it first (key config --deletion-allowed).`,
		Example: "  claviger key config --deletion-allowed old\n  claviger key delete old",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			if err := c.DeleteKey(ctx, args[0]); err != nil {
				return err
			}
			a.say("Key %s is deleted.", args[0])
			return nil
		}),
	}
}

func (a *app) keyPublicCommand() *cobra.Command {
	var version int
	var out, keyContext string
	cmd := &cobra.Command{
		Use:   "public NAME",
		Short: "Print the public key of an asymmetric key",
		Long: `Print the public key of an asymmetric key: PEM of its PKIX form, or base64 of
the 32 bytes of an Ed25519 key. A derived key has one for each --context.`,
		Example: "  claviger key public release > release.pem\n  claviger key public devices --context device-7",
		Args:    takes("NAME"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			k, err := readKey(ctx, c, args[0], keyContext)
			if err != nil {
				return err
			}
			if version == 0 {
				version = k.LatestVersion
			}
			public, err := publicOf(k, version)
			if err != nil {
				return err
			}
			pem := strings.TrimSpace(public.PublicKey) + "\n"
			if a.format == "json" && out == "" {
				return a.showJSON(public)
			}
			if out != "" {
				return writeFile(out, []byte(pem), 0o644)
			}
			return a.lines(pem)
		}),
	}
	keyContextFlag(cmd, &keyContext)
	cmd.Flags().IntVar(&version, "version", 0, "version of the key; default the newest")
	cmd.Flags().StringVar(&out, "out", "", "write into this file instead of standard output")
	return cmd
}

// publicOf returns a version's public key.
func publicOf(k *api.Key, version int) (*api.KeyVersion, error) {
	raw, ok := k.Keys[strconv.Itoa(version)]
	if !ok {
		return nil, fmt.Errorf("key %s shows no version %d; it has %s", k.Name, version, strings.Join(versions(k), ", "))
	}
	var v api.KeyVersion
	if err := json.Unmarshal(raw, &v); err == nil && v.PublicKey == "" && k.Derived {
		return nil, usagef("key %s is derived: it has a public key for each --context", k.Name)
	} else if err != nil || v.PublicKey == "" {
		return nil, fmt.Errorf("key %s is of type %s, which has no public key", k.Name, k.Type)
	}
	return &v, nil
}

// versions returns the versions of k that the server shows, oldest first.
func versions(k *api.Key) []string {
	return slices.SortedFunc(maps.Keys(k.Keys), func(a, b string) int {
		if d := len(a) - len(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

func (a *app) showKeyOf(k *api.Key, err error) error {
	if err != nil {
		return err
	}
	return a.show(k, func(t *table) {
		t.field("Name", k.Name)
		t.field("Type", k.Type)
		t.field("Protection", k.Protection)
		t.field("Latest version", k.LatestVersion)
		t.field("Versions", strings.Join(versions(k), ", "))
		t.field("Min decryption version", k.MinDecryptionVersion)
		t.field("Min encryption version", k.MinEncryptionVersion)
		if k.MinAvailableVersion > 0 {
			t.field("Min available version", k.MinAvailableVersion)
		}
		t.field("Deletion allowed", k.DeletionAllowed)
		if k.Derived {
			t.field("Derived", k.KDF)
			t.field("Convergent", k.ConvergentEncryption != nil && *k.ConvergentEncryption)
		}
		if k.SoftDeleted {
			t.field("Soft-deleted", true)
		}
		t.field("Can", strings.Join(abilities(k), ", "))
		if k.AutoRotatePeriod > 0 {
			t.field("Rotates every", k.AutoRotatePeriod.Duration())
		}
	})
}

func abilities(k *api.Key) []string {
	var can []string
	for _, x := range []struct {
		yes  bool
		name string
	}{
		{k.SupportsEncryption, "encrypt"}, {k.SupportsDecryption, "decrypt"},
		{k.SupportsSigning, "sign"}, {k.SupportsDerivation, "derive"},
	} {
		if x.yes {
			can = append(can, x.name)
		}
	}
	return append(can, "hmac")
}

// seconds rounds up, so that no time that was asked for becomes none.
func seconds(d time.Duration) api.Seconds {
	return api.Seconds((d + time.Second - 1) / time.Second)
}
