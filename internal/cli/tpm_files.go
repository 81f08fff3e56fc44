package cli

import (
	"crypto"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm"
)

// tpmPart is a file of tpm2-tools: a TPM2B with the end of its name.
type tpmPart struct {
	suffix string
	data   []byte
}

// tpmContent is what a file holds, whatever its kind.
type tpmContent struct {
	Kind      string `json:"kind"`
	Type      string `json:"type"`
	Name      string `json:"name,omitempty"`
	Parent    string `json:"parent,omitempty"`
	InnerKey  *bool  `json:"inner_key,omitempty"`
	Password  *bool  `json:"password,omitempty"`
	PublicKey string `json:"public_key,omitempty"`

	parts []tpmPart
}

// readTPMContent reads a file of any kind.
func readTPMContent(path string) (*tpmContent, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if s, err := tpm.ParseStorageKey(text); err == nil {
		return &tpmContent{Kind: "storage key", Type: s.Type(), Name: s.Name(), parts: []tpmPart{{".pub", s.Public()}}}, nil
	}
	if k, err := tpm.ParseKey(text); err == nil {
		password := k.NeedsPassword()
		c := &tpmContent{
			Kind: "key", Type: k.Type(), Parent: k.ParentName(), Password: &password,
			parts: []tpmPart{{".pub", k.Public()}, {".priv", k.Private()}},
		}
		return c.with(k.PublicKey())
	}
	x, err := tpm.ParseDuplicate(text)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s is no file of claviger tpm: neither a storage key nor a key nor a duplicate", path)
	}
	inner, password := x.NeedsInnerKey(), x.NeedsPassword()
	c := &tpmContent{
		Kind: "duplicate", Type: x.Type(), Parent: x.ParentName(), InnerKey: &inner, Password: &password,
		parts: []tpmPart{{".pub", x.Public()}, {".dup", x.Private()}, {".seed", x.Seed()}},
	}
	return c.with(x.PublicKey())
}

func (c *tpmContent) with(public crypto.PublicKey, err error) (*tpmContent, error) {
	if err == nil {
		c.PublicKey, err = publicPEM(public)
	}
	return c, err
}

func (a *app) tpmShowCommand() *cobra.Command {
	var public bool
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "Show what a file of these commands holds",
		Long:    "Show what a file of these commands holds, or the public key of it in PEM. No TPM is\nneeded.",
		Example: "  claviger tpm show key.json\n  claviger tpm show key.json --public-key > key.pem",
		Args:    takes("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := readTPMContent(args[0])
			if err != nil {
				return err
			}
			if public {
				if c.PublicKey == "" {
					return usagef("%s holds a storage key, whose public key is of no use by itself", args[0])
				}
				return a.lines(c.PublicKey)
			}
			return a.show(c, c.fill)
		},
	}
	cmd.Flags().BoolVar(&public, "public-key", false, "only the public key, in PEM")
	return cmd
}

func (c *tpmContent) fill(t *table) {
	t.field("Kind", c.Kind)
	t.field("Type", c.Type)
	if c.Name != "" {
		t.field("Name", c.Name)
	}
	if c.Parent != "" {
		t.field("Storage key", c.Parent)
	}
	if c.InnerKey != nil {
		t.field("Inner key", *c.InnerKey)
	}
	if c.Password != nil {
		t.field("Password", *c.Password)
	}
}

func (a *app) tpmUnpackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unpack FILE PREFIX",
		Short: "Take a file apart into the files of tpm2-tools",
		Long: `Take a file of these commands apart into the structures of the TPM 2.0
specification, as tpm2-tools and tpm2_ptool read them: PREFIX.pub (TPM2B_PUBLIC),
and of a key PREFIX.priv (TPM2B_PRIVATE), of a duplicate PREFIX.dup (TPM2B_PRIVATE)
and PREFIX.seed (TPM2B_ENCRYPTED_SECRET). The key of an inner wrapping is in the
form of tpm2-tools already.`,
		Example: "  claviger tpm unpack key.json key",
		Args:    takes("FILE", "PREFIX"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := readTPMContent(args[0])
			if err != nil {
				return err
			}
			for _, part := range c.parts {
				if err := needNewFiles(args[1] + part.suffix); err != nil {
					return err
				}
			}
			for i, part := range c.parts {
				if err := writeNewFile(args[1]+part.suffix, part.data); err != nil {
					for _, written := range c.parts[:i] {
						_ = os.Remove(args[1] + written.suffix) // the first error counts
					}
					return err
				}
				a.say("%s", args[1]+part.suffix)
			}
			return nil
		},
	}
}

// packFlags name files of tpm2-tools.
type packFlags struct {
	parent, public, private, duplicate, seed, out string
	inner, password                               bool
}

func (a *app) tpmPackCommand() *cobra.Command {
	var p packFlags
	cmd := &cobra.Command{
		Use:   "pack",
		Short: "Put files of tpm2-tools together: a key, or a duplicate",
		Long: `Put files of tpm2-tools together into the one file that these commands read: those
of tpm2_create (--public, --private) into a key, those of tpm2_duplicate (--public,
--duplicate, --seed) into a duplicate. --parent is the storage key above the key, or
for which the duplicate was wrapped.`,
		Example: "  claviger tpm pack --parent own.json --public key.pub --private key.priv --out key.json\n" +
			"  claviger tpm pack --parent spare.json --public key.pub --duplicate key.dup --seed key.seed --out moving.json",
		Args: takes(),
		RunE: func(*cobra.Command, []string) error { return p.pack() },
	}
	fl := cmd.Flags()
	fl.StringVar(&p.parent, "parent", "", "file of claviger tpm parent, or TPM2B_PUBLIC of tpm2_readpublic")
	fl.StringVar(&p.public, "public", "", "file with TPM2B_PUBLIC")
	fl.StringVar(&p.private, "private", "", "file with TPM2B_PRIVATE of a key")
	fl.StringVar(&p.duplicate, "duplicate", "", "file with TPM2B_PRIVATE of a duplicate")
	fl.StringVar(&p.seed, "seed", "", "file with TPM2B_ENCRYPTED_SECRET of a duplicate")
	fl.BoolVar(&p.inner, "inner-key", false, "the duplicate has an inner wrapping")
	fl.BoolVar(&p.password, "password", false, "the key has a password")
	newFileFlag(cmd, &p.out)
	return cmd
}

func (p *packFlags) pack() error {
	key, duplicate := p.private != "", p.duplicate != "" && p.seed != ""
	if key == duplicate || key && (p.duplicate != "" || p.seed != "" || p.inner) || p.public == "" || p.parent == "" {
		return usagef("give --parent, --public and --private for a key, or --parent, --public, --duplicate and --seed for a duplicate")
	}
	if err := needNewFiles(p.out); err != nil {
		return err
	}
	parent, err := readTPMFile(p.parent, tpm.ParseStorageKey)
	if err != nil {
		return err
	}
	var parts [][]byte
	for _, path := range []string{p.public, p.private, p.duplicate, p.seed} {
		var b []byte
		if path != "" {
			if b, err = readFile(path); err != nil {
				return fmt.Errorf("read a part: %w", err)
			}
		}
		parts = append(parts, b)
	}
	if key {
		k, err := tpm.NewKey(parent, parts[0], parts[1], p.password)
		if err != nil {
			return err
		}
		return writeTPMFile(p.out, k)
	}
	x, err := tpm.NewDuplicate(parent, parts[0], parts[2], parts[3], p.inner, p.password)
	if err != nil {
		return err
	}
	return writeTPMFile(p.out, x)
}
