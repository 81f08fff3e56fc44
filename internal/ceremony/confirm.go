package ceremony

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/claviger/claviger/internal/fault"
)

// Item is something that a key of the token will sign.
type Item struct {
	Name string `json:"name"`
	Data []byte `json:"data"` // the bytes that are signed
}

// Plan is what an act will do, exactly.
type Plan struct {
	Text  string // all of it, for people
	Items []Item
	// Exceptions are the rules that the document allows it to break.
	Exceptions []string
}

// digest binds a confirmation to the document, to everything that will be signed,
// and to whether it is a rehearsal.
func (p *Plan) digest(document string, rehearsal bool) []byte {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte("claviger ceremony plan 1"))
	part([]byte(document))
	if rehearsal {
		part([]byte("rehearsal"))
	} else {
		part([]byte("ceremony"))
	}
	for _, i := range p.Items {
		part([]byte(i.Name))
		part(i.Data)
	}
	return h.Sum(nil)
}

// letters are digits and letters that are not taken for each other.
var letters = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// phrase is what a custodian types to confirm a plan: 80 bits in four groups.
func phrase(custodian string, digest []byte) string {
	s := sha256.Sum256(slices.Concat([]byte("claviger ceremony confirmation 1\x00"+custodian+"\x00"), digest))
	text := letters.EncodeToString(s[:10])
	return text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:]
}

// typed is a phrase as people type it: case, blanks and dashes don't count.
func typed(text string) string {
	return strings.NewReplacer(" ", "", "-", "", "\t", "").Replace(strings.ToLower(strings.TrimSpace(text)))
}

// People are those in front of the screen.
type People interface {
	// Show shows what will happen. Nothing is confirmed before it returns.
	Show(text string) error
	// Ask returns what a custodian types when asked for a phrase; "" if nothing.
	Ask(ctx context.Context, custodian, phrase string) (string, error)
}

// Confirmations are those of a file, for ceremonies without a terminal. They are
// bound to the document, as nobody knows beforehand what will be signed; the
// transcript says so.
type Confirmations struct {
	Document    string   `yaml:"document"`     // its SHA-256 in hexadecimal
	ConfirmedBy []string `yaml:"confirmed_by"` // names of custodians
	Reason      string   `yaml:"reason"`       // why nobody is asked

	file string // SHA-256
}

// ParseConfirmations reads a file of confirmations.
func ParseConfirmations(text []byte) (*Confirmations, error) {
	if len(text) > MaxDocument {
		return nil, invalid("the confirmations have %d bytes; at most %d are taken", len(text), MaxDocument)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	c := &Confirmations{file: sum(text)}
	if err := decoder.Decode(c); err != nil {
		return nil, fault.Wrap(fault.Invalid, yamlFault(err), "the file of confirmations")
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, invalid("the file of confirmations must be one YAML document")
	}
	if err := line("reason in the file of confirmations", c.Reason); err != nil {
		return nil, err
	}
	return c, nil
}

// wrongPhrases is how often a custodian may mistype before it counts as a refusal.
const wrongPhrases = 3

const (
	howPhrase = "phrase"
	howFile   = "file"
)

// fromFile checks confirmations against a document.
func (c *Confirmations) fromFile(d *Document) ([]Confirmation, error) {
	if !strings.EqualFold(c.Document, d.Digest()) {
		return nil, invalid("the confirmations are of another document: they name the SHA-256 %s, and it is %s", c.Document, d.Digest())
	}
	var all []Confirmation
	seen := map[string]bool{}
	for _, name := range c.ConfirmedBy {
		if !slices.Contains(d.Custodians.Names, name) {
			return nil, invalid("the confirmations name %q, who is none of the custodians", name)
		}
		if seen[name] {
			return nil, invalid("the confirmations name %q twice", name)
		}
		seen[name] = true
		all = append(all, Confirmation{Custodian: name, How: howFile, File: c.file, Reason: c.Reason})
	}
	return all, d.Custodians.enough(len(all))
}

// ask asks the custodians in turn until there are enough.
func (d *Document) ask(ctx context.Context, people People, digest []byte) ([]Confirmation, error) {
	var all []Confirmation
	for _, name := range d.Custodians.Names {
		if len(all) == d.Custodians.Threshold {
			break
		}
		yes, err := askOne(ctx, people, name, phrase(name, digest))
		if err != nil {
			return nil, err
		}
		if yes {
			all = append(all, Confirmation{Custodian: name, How: howPhrase, Phrase: phrase(name, digest)})
		}
	}
	return all, d.Custodians.enough(len(all))
}

func askOne(ctx context.Context, people People, name, want string) (bool, error) {
	for range wrongPhrases {
		answer, err := people.Ask(ctx, name, want)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || typed(answer) == "" {
			return false, err
		}
		if typed(answer) == typed(want) {
			return true, nil
		}
	}
	return false, nil
}

func (c *Custodians) enough(n int) error {
	if n >= c.Threshold {
		return nil
	}
	return fault.New(fault.Denied, "%d custodians confirmed, and %d must; nothing was signed, and nothing stays", n, c.Threshold)
}
