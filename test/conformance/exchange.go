package conformance

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// File is a sequence of exchanges that stands for itself: they are played in
// their order, and none needs another file.
type File struct {
	Name      string // without extension
	About     string // the text before the first exchange
	Exchanges []*Exchange
}

// Exchange is a request and the answer to it.
type Exchange struct {
	Name    string
	Method  string
	Path    string // below /v1/, or with a slash from the root, with its query
	Headers []string
	Token   string // the client token that is sent, "" stands for the root token
	Keep    []Kept
	Any     []string // paths in the answer whose values are not compared
	Loose   bool     // the request is not what the OpenAPI document asks for, and is taken
	Body    string
	Status  int
	Form    string // what the answer's body is; see Answer
	Golden  string // the body's shape, as JSON
}

// Kept is a value of the answer, for later requests of the file as $NAME.
type Kept struct{ Name, At string }

// NoToken as an exchange's token sends none.
const NoToken = "none"

//go:embed testdata/exchanges/*.txt
var exchanges embed.FS

// Dir is where the files lie, below this package.
const Dir = "testdata/exchanges"

// Load reads the files.
func Load() ([]*File, error) {
	entries, err := exchanges.ReadDir(Dir)
	if err != nil {
		return nil, fmt.Errorf("reading the exchanges: %w", err)
	}
	var files []*File
	for _, e := range entries {
		text, err := exchanges.ReadFile(path.Join(Dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the exchanges: %w", err)
		}
		f, err := Parse(strings.TrimSuffix(e.Name(), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// Parse reads the text of a file:
//
//	What the exchanges are about.
//
//	== name of an exchange
//	POST sys/mounts/x
//	@token none             without it the root token; none, a text, or $NAME
//	@keep NAME = data.id    a value of the answer for later requests
//	@any data.time          a value that is not compared
//	@loose                  the request is not what the OpenAPI document asks for
//	X-Vault-Wrap-TTL: 60s   a header
//	{"type":"transit"}
//	-- 204 nothing
//	the shape of the answer
func Parse(name, text string) (*File, error) {
	about, rest, _ := strings.Cut("\n"+text, "\n== ")
	f := &File{Name: name, About: strings.TrimSpace(about)}
	seen := map[string]bool{}
	if strings.HasPrefix(f.About, "== ") {
		return nil, fmt.Errorf("%s: %q: an exchange begins at the beginning of a line", name, f.About)
	}
	if rest == "" {
		return f, nil
	}
	for part := range strings.SplitSeq(rest, "\n== ") {
		e, err := parseExchange(part)
		if err == nil && seen[e.Name] {
			err = fmt.Errorf("a second exchange of that name")
		}
		if err != nil {
			line, _, _ := strings.Cut(part, "\n")
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		seen[e.Name] = true
		f.Exchanges = append(f.Exchanges, e)
	}
	return f, nil
}

var (
	requestLine = regexp.MustCompile(`^(GET|LIST|POST|PUT|DELETE|PATCH|HEAD) (\S*)$`)
	header      = regexp.MustCompile(`^[A-Z][A-Za-z-]*: `)
	answerLine  = regexp.MustCompile(`^-- (\d{3}) (\S+)$`)
	keepLine    = regexp.MustCompile(`^([a-z][a-z0-9_]*) = (\S+)$`)
)

func parseExchange(text string) (*Exchange, error) {
	request, answer, answered := strings.Cut(text, "\n-- ")
	lines := strings.Split(strings.TrimRight(request, "\n"), "\n")
	e := &Exchange{Name: lines[0]}
	if len(lines) < 2 {
		return nil, fmt.Errorf("it has no request")
	}
	m := requestLine.FindStringSubmatch(lines[1])
	if m == nil {
		return nil, fmt.Errorf("%q is no request: want a method and a path", lines[1])
	}
	e.Method, e.Path = m[1], m[2]
	lines = lines[2:]
	for len(lines) > 0 && (strings.HasPrefix(lines[0], "@") || header.MatchString(lines[0])) {
		if err := e.directive(lines[0]); err != nil {
			return nil, err
		}
		lines = lines[1:]
	}
	e.Body = strings.Join(lines, "\n")
	if !answered {
		return e, nil // its answer is not known yet
	}
	first, golden, _ := strings.Cut("-- "+answer, "\n")
	m = answerLine.FindStringSubmatch(first)
	if m == nil {
		return nil, fmt.Errorf("%q is no answer: want -- STATUS FORM", first)
	}
	fmt.Sscan(m[1], &e.Status)
	e.Form, e.Golden = m[2], strings.TrimSpace(golden)
	return e, nil
}

func (e *Exchange) directive(line string) error {
	if !strings.HasPrefix(line, "@") {
		e.Headers = append(e.Headers, line)
		return nil
	}
	word, value, _ := strings.Cut(line[1:], " ")
	switch {
	case word == "token" && value != "":
		e.Token = value
	case word == "any" && value != "":
		e.Any = append(e.Any, value)
	case word == "loose" && value == "":
		e.Loose = true
	case word == "keep":
		m := keepLine.FindStringSubmatch(value)
		if m == nil {
			return fmt.Errorf("%q: want @keep NAME = PATH", line)
		}
		e.Keep = append(e.Keep, Kept{m[1], m[2]})
	default:
		return fmt.Errorf("%q: want @token, @keep, @any or @loose", line)
	}
	return nil
}

// Text is the file as Parse reads it.
func (f *File) Text() string {
	var b strings.Builder
	if f.About != "" {
		fmt.Fprintf(&b, "%s\n\n", f.About)
	}
	for i, e := range f.Exchanges {
		if i > 0 {
			b.WriteByte('\n')
		}
		e.write(&b)
	}
	return b.String()
}

func (e *Exchange) write(b *strings.Builder) {
	fmt.Fprintf(b, "== %s\n%s %s\n", e.Name, e.Method, e.Path)
	if e.Token != "" {
		fmt.Fprintf(b, "@token %s\n", e.Token)
	}
	for _, k := range e.Keep {
		fmt.Fprintf(b, "@keep %s = %s\n", k.Name, k.At)
	}
	for _, at := range e.Any {
		fmt.Fprintf(b, "@any %s\n", at)
	}
	if e.Loose {
		b.WriteString("@loose\n")
	}
	for _, h := range e.Headers {
		fmt.Fprintf(b, "%s\n", h)
	}
	if e.Body != "" {
		fmt.Fprintf(b, "%s\n", e.Body)
	}
	if e.Form == "" {
		return
	}
	fmt.Fprintf(b, "-- %03d %s\n", e.Status, e.Form)
	if e.Golden != "" {
		fmt.Fprintf(b, "%s\n", e.Golden)
	}
}
