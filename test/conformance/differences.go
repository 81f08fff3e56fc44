package conformance

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Difference is one place where an answer is not the golden one.
type Difference struct {
	// At is status:N with the status that came, form:X with the form that came,
	// or a path into the shape: data.keys, errors.0. The body of another status
	// is not compared.
	At        string
	Want, Got any
}

// Compare holds an answer against an exchange's golden one. Of another server it
// asks less of error texts and warnings: they may be shorter than Claviger's, which
// say what would be right as well.
func Compare(e *Exchange, a *Answer, other bool) ([]Difference, error) {
	if e.Status != a.Status {
		return []Difference{{"status:" + strconv.Itoa(a.Status), strconv.Itoa(e.Status), a.Golden()}}, nil
	}
	if e.Form != a.Form {
		return []Difference{{"form:" + a.Form, e.Form, a.Golden()}}, nil
	}
	var want any
	if e.Golden != "" {
		var err error
		if want, err = decode([]byte(e.Golden)); err != nil {
			return nil, fmt.Errorf("the golden answer of %q: %w", e.Name, err)
		}
	}
	prefix := ""
	if e.Form == "errors" {
		prefix = "errors"
	}
	found := differences(prefix, want, a.Shape)
	if other {
		found = slices.DeleteFunc(found, Difference.shorter)
	}
	return found, nil
}

// oneError is how Vault shows a list of one error in a text.
var oneError = regexp.MustCompile(`(?s)^1 error occurred:\n\t\* (.*)\n\n$`)

// shorter tells whether the difference is that an error text or a warning is a part
// of the wanted one, or that no hint stands behind it.
func (d Difference) shorter() bool {
	want, got := texts(d.Want), texts(d.Got)
	if d.At != "errors" && !strings.HasPrefix(d.At, "errors.") && !strings.HasPrefix(d.At, "warnings.") {
		return false
	}
	want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, "hint: ") })
	if len(got) == 0 || len(want) != len(got) {
		return false
	}
	for i, s := range got {
		if m := oneError.FindStringSubmatch(s); m != nil {
			s = m[1]
		}
		if s == "" || !strings.Contains(want[i], s) {
			return false
		}
	}
	return true
}

// texts are a text, or the texts of a list.
func texts(v any) []string {
	var list []string
	switch v := v.(type) {
	case string:
		list = append(list, v)
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil
			}
			list = append(list, s)
		}
	}
	return list
}

// differences lists where two shapes differ.
func differences(at string, want, got any) []Difference {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			return differentMembers(at, w, g)
		}
	case []any:
		if g, ok := got.([]any); ok && len(w) == len(g) {
			var list []Difference
			for i := range w {
				list = append(list, differences(join(at, strconv.Itoa(i)), w[i], g[i])...)
			}
			return list
		}
	default:
		switch got.(type) {
		case map[string]any, []any:
		default:
			if want == got {
				return nil
			}
		}
	}
	return []Difference{{at, want, got}}
}

// absent stands for a member that is not there.
type absent struct{}

func (absent) String() string { return "(absent)" }

// MarshalJSON shows it as a text.
func (absent) MarshalJSON() ([]byte, error) { return json.Marshal("(absent)") }

func differentMembers(at string, want, got map[string]any) []Difference {
	names := maps.Clone(want)
	maps.Copy(names, got)
	var list []Difference
	for _, n := range slices.Sorted(maps.Keys(names)) {
		w, wanted := want[n]
		g, there := got[n]
		switch {
		case !there:
			list = append(list, Difference{join(at, n), w, absent{}})
		case !wanted:
			list = append(list, Difference{join(at, n), absent{}, g})
		default:
			list = append(list, differences(join(at, n), w, g)...)
		}
	}
	return list
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// String shows a difference for people.
func (d Difference) String() string {
	show := func(v any) string {
		if s, ok := v.(string); ok {
			return s
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
	return fmt.Sprintf("%s: want %s, got %s", d.At, show(d.Want), show(d.Got))
}

// Expected says that a server answers some exchanges differently.
type Expected struct {
	Server   string
	Exchange string // pattern of FILE/NAME, in which * stands for any text
	At       string // pattern of Difference.At
	Reason   string

	seen bool
}

//go:embed testdata/differences.txt
var differencesText string

// LoadDifferences reads testdata/differences.txt.
func LoadDifferences() ([]*Expected, error) { return ParseDifferences(differencesText) }

// ParseDifferences reads expected differences: lines of three fields with | between
// them, the server's name, the exchange (FILE/NAME) and the place in its answer, of
// which the last two may hold *. The indented lines after a group of them are the
// reason. A line that begins with # is a comment.
func ParseDifferences(text string) ([]*Expected, error) {
	var all, group []*Expected
	reason := ""
	end := func() error {
		if len(group) > 0 && reason == "" {
			return fmt.Errorf("%s | %s | %s: it has no reason", group[0].Server, group[0].Exchange, group[0].At)
		}
		for _, x := range group {
			x.Reason = reason
		}
		all, group, reason = append(all, group...), nil, ""
		return nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == ' ':
			if len(group) == 0 {
				return nil, fmt.Errorf("%q: a reason of nothing", line)
			}
			reason = strings.TrimSpace(reason + " " + strings.TrimSpace(line))
		default:
			if reason != "" {
				if err := end(); err != nil {
					return nil, err
				}
			}
			x, err := parseExpected(line)
			if err != nil {
				return nil, err
			}
			group = append(group, x)
		}
	}
	return all, end()
}

func parseExpected(line string) (*Expected, error) {
	parts := strings.Split(line, " | ")
	if len(parts) != 3 || slices.Contains(parts, "") {
		return nil, fmt.Errorf("%q: want SERVER | FILE/EXCHANGE | PLACE", line)
	}
	return &Expected{Server: parts[0], Exchange: parts[1], At: parts[2]}, nil
}

// Unexpected leaves out the differences that are expected of a server, and
// remembers which were met.
func Unexpected(all []*Expected, server, exchange string, found []Difference) []Difference {
	return slices.DeleteFunc(found, func(d Difference) bool {
		met := false
		for _, x := range all {
			if x.Server == server && matches(x.Exchange, exchange) && matches(x.At, d.At) {
				x.seen, met = true, true
			}
		}
		return met
	})
}

// matches tells whether a text is what a pattern says, in which * stands for any
// text, slashes included.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		_, rest, found := strings.Cut(text, part)
		text, ok = rest, ok && found
	}
	return ok && strings.HasSuffix(text, parts[last])
}

// Gone are the expected differences of a server that no answer had.
func Gone(all []*Expected, server string) []*Expected {
	return slices.DeleteFunc(slices.Clone(all), func(x *Expected) bool { return x.seen || x.Server != server })
}
