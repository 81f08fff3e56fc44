package custodians

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/ceremony"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pgp"
)

const maxShares = 255

// maxKey is the size of an OpenPGP public key in bytes.
const maxKey = 1 << 20

// holderPlan is a custodian with a key, as documents name one.
type holderPlan struct {
	Custodian   string `yaml:"custodian"`
	Key         string `yaml:"key"`         // file with the OpenPGP public key, armored or binary
	Fingerprint string `yaml:"fingerprint"` // of that key; blanks and case don't count
	File        string `yaml:"file"`        // new file for what is handed over
}

// sharesPlan is what new shares are like.
type sharesPlan struct {
	Shares    []holderPlan `yaml:"shares"`
	Threshold int          `yaml:"threshold"`
	Signers   []holderPlan `yaml:"signers"` // others who may sign the transcript
	// ShareSet is a new file for what everybody may know of the shares.
	ShareSet string `yaml:"share_set"`
}

type initPlan struct {
	sharesPlan      `yaml:",inline"`
	HSMToken        string     `yaml:"hsm_token"`
	TransferableKEK bool       `yaml:"transferable_kek"`
	Recovery        bool       `yaml:"recovery"`
	RootToken       holderPlan `yaml:"root_token"`
}

type rekeyPlan struct {
	sharesPlan `yaml:",inline"`
	NewPIN     bool `yaml:"new_pin"`
}

type rootPlan struct {
	RootToken holderPlan   `yaml:"root_token"`
	OTP       bool         `yaml:"otp"`
	PadFile   string       `yaml:"pad_file"` // new file for the one-time pad
	Signers   []holderPlan `yaml:"signers"`
	// WithoutToken uses the form for callers without a client token.
	WithoutToken bool `yaml:"without_token"`
}

// Ceremony is a document that was read, with the keys that it names.
type Ceremony struct {
	Document *ceremony.Document
	asked    ceremony.Asked
	keys     []*pgp.Key // of asked.Shares
	rootKey  *pgp.Key   // of asked.Root, nil with a one-time pad
	files    []string   // of asked.Shares
	rootFile string
	padFile  string
	shareSet string
	open     bool // the form without a client token
}

// Kinds are the names of all kinds with what they do.
func Kinds() (names, help []string) {
	return []string{api.ActInit, api.ActRekey, api.ActGenerateRoot},
		[]string{"initialise a server: its HSM token, the shares, the root token",
			"replace the shares of a server: other custodians, another threshold, a new PIN",
			"make a root token with the shares of the custodians"}
}

// Is tells whether a kind is one of this package.
func Is(kind string) bool {
	names, _ := Kinds()
	return slices.Contains(names, kind)
}

//go:embed examples/*.yaml
var examples embed.FS

// Example is a document of a kind of this package, with remarks.
func Example(kind string) (string, error) {
	b, err := examples.ReadFile("examples/" + kind + ".yaml")
	return string(b), err
}

// Parse reads a document of a kind of this package, and the keys that it names, which
// must be good at that time. path is where it is from.
func Parse(text []byte, path string, now time.Time) (*Ceremony, error) {
	kind, err := ceremony.KindOf(text)
	if err != nil {
		return nil, err
	}
	c := new(Ceremony)
	switch kind {
	case api.ActInit:
		err = c.parseInit(text, path, now)
	case api.ActRekey:
		err = c.parseRekey(text, path, now)
	case api.ActGenerateRoot:
		err = c.parseRoot(text, path, now)
	default:
		err = invalid("there is no ceremony %q of a server", kind)
	}
	if err != nil {
		return nil, err
	}
	c.asked.Act = kind
	if c.Document.Server.Address == "" {
		return nil, invalid("the document has no server: its address is the URL of the server that performs the act")
	}
	return c, nil
}

func (c *Ceremony) parseInit(text []byte, path string, now time.Time) error {
	d, p, err := ceremony.Parse[initPlan](text, path)
	if err != nil {
		return err
	}
	c.Document = d
	if p.HSMToken != "create" && p.HSMToken != "adopt" {
		return invalid("hsm_token %q must be create (a new HSM token) or adopt (one that is there)", p.HSMToken)
	}
	c.asked.HSMToken, c.asked.TransferableKEK, c.asked.Recovery = p.HSMToken, p.TransferableKEK, p.Recovery
	if err := c.readShares(&p.sharesPlan, now); err != nil {
		return err
	}
	return c.readRoot(&p.RootToken, now)
}

func (c *Ceremony) parseRekey(text []byte, path string, now time.Time) error {
	d, p, err := ceremony.Parse[rekeyPlan](text, path)
	if err != nil {
		return err
	}
	c.Document, c.asked.NewPIN = d, p.NewPIN
	return c.readShares(&p.sharesPlan, now)
}

func (c *Ceremony) parseRoot(text []byte, path string, now time.Time) error {
	d, p, err := ceremony.Parse[rootPlan](text, path)
	if err != nil {
		return err
	}
	c.Document, c.open = d, p.WithoutToken
	if err := c.readSigners(p.Signers, now); err != nil {
		return err
	}
	if !p.OTP {
		if p.PadFile != "" {
			return invalid("pad_file goes with otp: true")
		}
		return c.readRoot(&p.RootToken, now)
	}
	r := &p.RootToken
	switch {
	case r.Key != "" || r.Fingerprint != "":
		return invalid("otp and a key of root_token exclude each other")
	case r.File == "" || p.PadFile == "" || hidden(r.File+p.PadFile+r.Custodian):
		return invalid("with otp, root_token has the file for the encoded token, and pad_file is the one for the one-time pad")
	}
	c.rootFile, c.padFile = r.File, p.PadFile
	c.asked.Root = &ceremony.Holder{Custodian: r.Custodian, Fingerprint: api.ForOTP, File: filepath.Base(r.File)}
	return nil
}

// readShares reads the new shares' custodians.
func (c *Ceremony) readShares(p *sharesPlan, now time.Time) error {
	n := len(p.Shares)
	switch {
	case n < 1 || n > maxShares:
		return invalid("shares has %d custodians; there are 1 to %d shares", n, maxShares)
	case p.Threshold < 1 || p.Threshold > n:
		return invalid("threshold is %d; it is from 1 to %d, the number of shares", p.Threshold, n)
	}
	c.asked.Threshold, c.shareSet = p.Threshold, p.ShareSet
	names, prints := map[string]bool{}, map[string]string{}
	for i := range p.Shares {
		h, key, err := c.readHolder(fmt.Sprintf("share %d", i+1), &p.Shares[i], now)
		if err != nil {
			return err
		}
		if h.File == "" {
			return invalid("share %d: file is missing: it is the new file for the encrypted share of %q", i+1, h.Custodian)
		}
		if names[h.Custodian] {
			return invalid("share %d: the custodian %q is named twice", i+1, h.Custodian)
		}
		if other, twice := prints[h.Fingerprint]; twice {
			return invalid("share %d: %q and %q have the same OpenPGP key %s; each custodian needs a key of his own", i+1, other, h.Custodian, h.Fingerprint)
		}
		names[h.Custodian], prints[h.Fingerprint] = true, h.Custodian
		c.asked.Shares, c.keys, c.files = append(c.asked.Shares, *h), append(c.keys, key), append(c.files, p.Shares[i].File)
	}
	return c.readSigners(p.Signers, now)
}

func (c *Ceremony) readSigners(signers []holderPlan, now time.Time) error {
	for i := range signers {
		what := fmt.Sprintf("signer %d", i+1)
		h, _, err := c.readHolder(what, &signers[i], now)
		switch {
		case err != nil:
			return err
		case h.File != "":
			return invalid("%s: nothing is handed over to signers: file is for shares", what)
		}
		c.asked.Signers = append(c.asked.Signers, *h)
	}
	return nil
}

func (c *Ceremony) readRoot(p *holderPlan, now time.Time) error {
	h, key, err := c.readHolder("root_token", p, now)
	if err == nil && h.File == "" {
		err = invalid("root_token: file is missing: it is the new file for the encrypted root token")
	}
	c.asked.Root, c.rootKey, c.rootFile = h, key, p.File
	return err
}

// readHolder reads the key of a custodian and holds it against the fingerprint.
func (c *Ceremony) readHolder(what string, p *holderPlan, now time.Time) (*ceremony.Holder, *pgp.Key, error) {
	switch {
	case strings.TrimSpace(p.Custodian) != p.Custodian || p.Custodian == "" || hidden(p.Custodian):
		return nil, nil, invalid("%s: custodian %q must be a name in one line, without blanks around it", what, p.Custodian)
	case hidden(p.File):
		return nil, nil, invalid("%s: file %q has a character that can't be shown", what, p.File)
	case p.Key == "":
		return nil, nil, invalid("%s: key is missing: it is the file with the OpenPGP public key of %q", what, p.Custodian)
	}
	data, err := c.Document.Read(what+": key", p.Key)
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxKey {
		return nil, nil, invalid("%s: %s has more than %d bytes", what, p.Key, maxKey)
	}
	text := string(data)
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		text = base64.StdEncoding.EncodeToString(data)
	}
	key, err := pgp.Parse(text, now)
	if err != nil {
		return nil, nil, invalid("%s: the OpenPGP key of %q in %s: %v", what, p.Custodian, p.Key, err)
	}
	if want := plainPrint(p.Fingerprint); want != key.Fingerprint {
		return nil, nil, invalid("%s: the OpenPGP key of %q in %s has the fingerprint %s, and the document says %q", what, p.Custodian, p.Key, key.Fingerprint, p.Fingerprint)
	}
	public, err := key.Public()
	if err != nil {
		return nil, nil, err
	}
	h := &ceremony.Holder{Custodian: p.Custodian, Fingerprint: key.Fingerprint, PublicKey: public}
	if p.File != "" {
		h.File = filepath.Base(p.File)
	}
	return h, key, nil
}

// hidden tells whether something of a text can't be shown.
func hidden(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// plainPrint is a fingerprint as programs write it.
func plainPrint(s string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", ":", "", "\t", "").Replace(strings.TrimPrefix(strings.TrimSpace(s), "0x")))
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}
