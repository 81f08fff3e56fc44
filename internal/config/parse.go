package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/claviger/claviger/internal/fault"
)

//go:embed example.toml
var example []byte

// Example returns a configuration file that explains every option. What is not
// commented out is the default.
func Example() []byte { return bytes.Clone(example) }

// maxFile bounds the configuration file, in bytes.
const maxFile = 1 << 20

// Load reads and validates a configuration file. Its errors are *fault.Error
// of kind Invalid, or NotFound if there is no such file.
func Load(path string) (*Config, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the configuration file %s does not exist", path).
			WithHint("claviger config example > %s writes one that explains every option", path)
	}
	if err == nil && info.Size() > maxFile {
		return nil, fault.New(fault.Invalid, "%s has %d bytes; a configuration file has at most %d", path, info.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read the configuration")
	}
	c, err := Parse(b)
	if err != nil {
		return nil, inFile(path, err)
	}
	if err := c.Validate(); err != nil {
		return nil, inFile(path, err)
	}
	return c, nil
}

func inFile(path string, err error) error {
	return fault.New(fault.Invalid, "configuration %s: %v", path, err).
		WithHint("claviger config example shows every option with its default")
}

// Parse reads the text of a configuration file: options that it does not name
// have their defaults. Unknown keys and wrong types are errors that name the
// key, its line and the nearest right name. It does not validate values.
func Parse(text []byte) (*Config, error) {
	c := defaults()
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, explain(reflect.TypeFor[Config](), text, err)
	}
	c.complete()
	return c, nil
}

// explain puts the decoder's errors into the words of the file's author. typ is
// what the file is decoded into.
func explain(typ reflect.Type, text []byte, err error) error {
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var all []error
		for _, e := range missing.Errors {
			line, _ := e.Position()
			all = append(all, fmt.Errorf("line %d: %s", line, unknownKey(typ, e.Key())))
		}
		return errors.Join(all...)
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := e.Position()
		message := strings.TrimPrefix(e.Error(), "toml: ")
		if key := strings.Join(e.Key(), "."); key != "" {
			return fmt.Errorf("line %d: %s: %s", line, key, message)
		}
		return fmt.Errorf("line %d: %s", line, message)
	}
	if e, ok := errors.AsType[*valueError](err); ok {
		return e.locate(text)
	}
	return err
}

// locate adds the line of the first option that has the value, if there is one.
func (e *valueError) locate(text []byte) error {
	line := 0
	for l := range strings.Lines(string(text)) {
		line++
		name, value, _ := strings.Cut(l, "=")
		if rest, ok := strings.CutPrefix(strings.TrimSpace(value), e.Text); ok && !strings.ContainsAny(rest, "0123456789.") {
			return fmt.Errorf("line %d: %s: %w", line, strings.TrimSpace(name), e)
		}
	}
	return e
}

func unknownKey(typ reflect.Type, key []string) string {
	name := key[len(key)-1]
	siblings := keysOf(typ, key[:len(key)-1])
	if near := Nearest(name, siblings); near != "" {
		return fmt.Sprintf("unknown key %q; did you mean %q?", strings.Join(key, "."), near)
	}
	if slices.Contains(keysOf(typ, nil), name) {
		return fmt.Sprintf("unknown key %q; %s belongs above the first section", strings.Join(key, "."), name)
	}
	if home := homeOf(typ, "", name); home != "" {
		return fmt.Sprintf("unknown key %q; %s belongs into [%s]", strings.Join(key, "."), name, home)
	}
	return fmt.Sprintf("unknown key %q; known here: %s", strings.Join(key, "."), strings.Join(siblings, ", "))
}

// keysOf returns the keys of the table at path below t, sorted.
func keysOf(t reflect.Type, path []string) []string {
	t = element(t)
	if t.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for _, f := range reflect.VisibleFields(t) {
		name := f.Tag.Get("toml")
		if name == "" || name == "-" {
			continue
		}
		if len(path) > 0 && strings.EqualFold(name, path[0]) {
			return keysOf(f.Type, path[1:])
		}
		keys = append(keys, name)
	}
	if len(path) > 0 {
		return nil
	}
	slices.Sort(keys)
	return keys
}

// homeOf returns the table in which a key called name stands, "" if none.
func homeOf(t reflect.Type, table, name string) string {
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("toml")
		if tag == "" || tag == "-" {
			continue
		}
		if tag == name && table != "" {
			return table
		}
		if inner := element(f.Type); inner.Kind() == reflect.Struct {
			if home := homeOf(inner, strings.TrimPrefix(table+"."+tag, "."), name); home != "" {
				return home
			}
		}
	}
	return ""
}

func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// Nearest returns the candidate that word was most likely meant to be, or ""
// if none is near: at most a third of its letters may be wrong.
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is Levenshtein's: single letters inserted, deleted or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
