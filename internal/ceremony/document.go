package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/claviger/claviger/internal/fault"
)

// MaxDocument is the size of a document in bytes, MaxInput that of each file to
// which it points.
const (
	MaxDocument = 256 << 10
	MaxInput    = 16 << 20
)

const maxCustodians = 64

// Document is what every ceremony's file says; "plan" is of its kind.
type Document struct {
	Kind        string `yaml:"ceremony"`
	Title       string `yaml:"title"`
	Description string `yaml:"description"`
	// Date is the day on which the ceremony is held, 2026-11-22 in UTC; "" is any day.
	Date       string     `yaml:"date"`
	Custodians Custodians `yaml:"custodians"`
	// Token is of acts that need no server, Server of those that one performs.
	Token      Token  `yaml:"token"`
	Server     Server `yaml:"server"`
	Transcript string `yaml:"transcript"` // path of the transcript

	path   string
	digest [sha256.Size]byte
	inputs []File
}

// Custodians are the people who must confirm.
type Custodians struct {
	Threshold int      `yaml:"threshold" json:"threshold"`
	Names     []string `yaml:"names" json:"names"`
}

// Token says which HSM token signs: one behind a PKCS#11 module, or a software token.
type Token struct {
	Module     string            `yaml:"module"` // absolute path
	Label      string            `yaml:"label"`
	Serial     string            `yaml:"serial"`
	Env        map[string]string `yaml:"env"`
	ReadPaths  []string          `yaml:"read_paths"`
	WritePaths []string          `yaml:"write_paths"`
	Soft       string            `yaml:"soft"`   // directory of a software token
	Create     bool              `yaml:"create"` // make the software token first
	PINFile    string            `yaml:"pin_file"`
	// TranscriptKey is the label of the key that signs transcripts. It is made if
	// the token has none of that label.
	TranscriptKey string `yaml:"transcript_key"`
}

// Server says which running server performs the act.
type Server struct {
	Address string `yaml:"address"` // as clients name it
	CACert  string `yaml:"ca_cert"` // PEM file of the authorities to trust, "" for the system's
}

// defaultTranscriptKey is the label of the key that signs transcripts.
const defaultTranscriptKey = "claviger-ceremony"

// KindOf reads of which kind a document is, and refuses what can't be one.
func KindOf(text []byte) (string, error) {
	switch {
	case len(text) > MaxDocument:
		return "", invalid("the document has %d bytes; at most %d are taken", len(text), MaxDocument)
	case !utf8.Valid(text):
		return "", invalid("the document is not UTF-8")
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	if err := decoder.Decode(&root); err != nil {
		return "", yamlFault(err)
	}
	var more yaml.Node
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return "", invalid("the document must be one YAML document, and something follows it")
	}
	if err := plain(&root); err != nil {
		return "", err
	}
	var head struct {
		Kind string `yaml:"ceremony"`
	}
	if err := root.Decode(&head); err != nil {
		return "", yamlFault(err)
	}
	if head.Kind == "" {
		return "", invalid(`the document does not say of which kind it is: "ceremony: root", for example`)
	}
	return head.Kind, nil
}

// plain refuses what makes a document say more than what is read in its place.
func plain(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return invalid("line %d: anchors and aliases are not taken: write it out", n.Line)
	}
	for _, c := range n.Content {
		if err := plain(c); err != nil {
			return err
		}
	}
	return nil
}

func yamlFault(err error) error {
	if errors.Is(err, io.EOF) {
		return invalid("the document is empty")
	}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.ReplaceAll(strings.TrimPrefix(text, "unmarshal errors:\n  "), "\n  ", "; ")
	if before, _, ok := strings.Cut(text, " in type "); ok && strings.Contains(before, "not found") {
		text = before + ": there is no such field here"
	}
	return invalid("the document can't be read: %s", text)
}

// Parse reads a document whose plan is a P. path is where it is from: other files
// that it names are relative to it.
func Parse[P any](text []byte, path string) (*Document, *P, error) {
	kind, err := KindOf(text)
	if err != nil {
		return nil, nil, err
	}
	var all struct {
		Document `yaml:",inline"`
		Plan     P `yaml:"plan"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&all); err != nil {
		return nil, nil, yamlFault(err)
	}
	d := &all.Document
	d.Kind, d.path, d.digest = kind, path, sha256.Sum256(text)
	if d.Token.TranscriptKey == "" && d.Server.Address == "" {
		d.Token.TranscriptKey = defaultTranscriptKey
	}
	return d, &all.Plan, d.check()
}

func (d *Document) check() error {
	if err := line("title", d.Title); err != nil {
		return err
	}
	if strings.ContainsFunc(d.Description, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) {
		return invalid("the description has a control character")
	}
	if d.Transcript == "" {
		return invalid("transcript is missing: it is the path of the file that proves the ceremony")
	}
	if d.Date != "" {
		if _, err := time.Parse(time.DateOnly, d.Date); err != nil {
			return invalid("date %q must be a day such as 2026-11-22", d.Date)
		}
	}
	if err := d.Custodians.check(); err != nil {
		return err
	}
	if d.Server.Address != "" {
		return d.checkServer()
	}
	if d.Server.CACert != "" {
		return invalid("server has no address: it is the URL of the server that performs the act")
	}
	return d.Token.check()
}

func (d *Document) checkServer() error {
	t := &d.Token
	if t.Module+t.Label+t.Serial+t.Soft+t.PINFile+t.TranscriptKey != "" || t.Create || len(t.Env)+len(t.ReadPaths)+len(t.WritePaths) > 0 {
		return invalid("the document has both a token and a server: an act is performed by one of both")
	}
	return line("address of the server", d.Server.Address)
}

// onTime refuses another day than the document's.
func (d *Document) onTime(now time.Time) error {
	if today := now.UTC().Format(time.DateOnly); d.Date != "" && d.Date != today {
		return invalid("the document is for %s, and today is %s (UTC)", d.Date, today)
	}
	return nil
}

func (c *Custodians) check() error {
	seen := map[string]bool{}
	for _, name := range c.Names {
		if err := line("the name of a custodian", name); err != nil {
			return err
		}
		if seen[name] {
			return invalid("the custodian %q is named twice", name)
		}
		seen[name] = true
	}
	switch n := len(c.Names); {
	case n == 0 || n > maxCustodians:
		return invalid("custodians has %d names; there are 1 to %d custodians", n, maxCustodians)
	case c.Threshold < 1 || c.Threshold > n:
		return invalid("custodians has a threshold of %d; it is from 1 to %d, the number of names", c.Threshold, n)
	}
	return nil
}

func (t *Token) check() error {
	switch {
	case (t.Module == "") == (t.Soft == ""):
		return invalid("token must have either module (the path of a PKCS#11 module) or soft (the directory of a software token)")
	case t.Module != "" && !filepath.IsAbs(t.Module):
		return invalid("token: module %q must be an absolute path", t.Module)
	case t.Label == "":
		return invalid("token has no label; it is that of the HSM token")
	case t.Create && t.Soft == "":
		return invalid("token: create makes software tokens only; initialise another one with its own tools")
	case t.Soft != "" && (t.Serial != "" || len(t.Env)+len(t.ReadPaths)+len(t.WritePaths) > 0):
		return invalid("token: serial, env, read_paths and write_paths go with module, not with soft")
	}
	return line("transcript_key", t.TranscriptKey)
}

// line refuses a text that is empty, or more than one line.
func line(what, text string) error {
	if strings.TrimSpace(text) == "" {
		return invalid("%s is missing", what)
	}
	if strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid("%s %q must be one line of text, without blanks around it", what, text)
	}
	return nil
}

// Digest is the SHA-256 of the document's bytes, in hexadecimal.
func (d *Document) Digest() string { return hex.EncodeToString(d.digest[:]) }

// Path is a path of the document: relative ones are relative to where it lies.
func (d *Document) Path(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.path), path)
}

// Read reads a file that the document names, and notes its digest for the
// transcript; field is where it is named.
func (d *Document) Read(field, path string) ([]byte, error) {
	f, err := os.Open(d.Path(path))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s", field)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxInput+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s", field)
	}
	if len(data) > MaxInput {
		return nil, invalid("%s: %s has more than %d bytes", field, path, MaxInput)
	}
	if in := (File{Name: path, SHA256: sum(data)}); !slices.Contains(d.inputs, in) {
		d.inputs = append(d.inputs, in)
	}
	return data, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...)
}

// heading is what is shown of a document before the plan.
func (d *Document) heading(rehearsal bool) string {
	var b strings.Builder
	if rehearsal {
		b.WriteString("REHEARSAL: keys are of a scratch token, and what is signed is worth nothing\n\n")
	}
	fmt.Fprintf(&b, "Ceremony    %s\nTitle       %s\n", d.Kind, d.Title)
	for i, l := range strings.Split(strings.TrimSpace(d.Description), "\n") {
		if l != "" {
			fmt.Fprintf(&b, "%-11s %s\n", []string{"Description", ""}[min(i, 1)], strings.TrimSpace(l))
		}
	}
	if d.Date != "" {
		fmt.Fprintf(&b, "Date        %s\n", d.Date)
	}
	fmt.Fprintf(&b, "Document    %s\n            SHA-256 %s\n", filepath.Base(d.path), d.Digest())
	for _, in := range d.inputs {
		fmt.Fprintf(&b, "Input       %s\n            SHA-256 %s\n", in.Name, in.SHA256)
	}
	fmt.Fprintf(&b, "Custodians  %d of %d: %s\n", d.Custodians.Threshold, len(d.Custodians.Names), strings.Join(d.Custodians.Names, ", "))
	return b.String()
}
