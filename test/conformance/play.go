package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Target is the server that exchanges are played against.
type Target struct {
	Addr  string // such as http://127.0.0.1:8200
	Token string // a root token
	// Observe is told of every call and its answer, if it is not nil. The bodies
	// of both may be read.
	Observe func(e *Exchange, req *http.Request, sent []byte, resp *http.Response, got []byte)

	client *http.Client
}

// Play plays the exchanges of a file, and returns the answers in their order. The
// mounts, policies and roles that they make are removed before and afterwards.
func (t *Target) Play(ctx context.Context, f *File) ([]*Answer, error) {
	if t.client == nil {
		t.client = &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	}
	if err := t.clean(ctx, f); err != nil {
		return nil, err
	}
	p := &player{target: t, values: map[string]string{}}
	var answers []*Answer
	for _, e := range f.Exchanges {
		a, err := p.play(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", f.Name, e.Name, err)
		}
		answers = append(answers, a)
	}
	return answers, t.clean(ctx, f)
}

// player plays one file.
type player struct {
	target *Target
	values map[string]string // by name
}

var variable = regexp.MustCompile(`\$[a-z][a-z0-9_]*`)

// fill replaces $NAME by the value that was kept. What an earlier answer lacked
// is "missing".
func (p *player) fill(text string) string { return p.fillWith(text, strings.NewReplacer()) }

// fillWith is fill, with a form for the values.
func (p *player) fillWith(text string, form *strings.Replacer) string {
	return variable.ReplaceAllStringFunc(text, func(name string) string {
		if v, ok := p.values[name[1:]]; ok {
			return form.Replace(v)
		}
		return "missing"
	})
}

func (p *player) play(ctx context.Context, e *Exchange) (*Answer, error) {
	// What was kept of an answer has been a text of JSON, and becomes one again.
	sent := []byte(p.fillWith(e.Body, strings.NewReplacer("\n", `\n`)))
	token := p.target.Token
	switch e.Token {
	case "":
	case NoToken:
		token = ""
	default:
		token = p.fill(e.Token)
	}
	req, err := p.target.request(ctx, e.Method, p.fill(e.Path), token, sent)
	if err != nil {
		return nil, err
	}
	for _, h := range e.Headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, p.fill(value))
	}
	resp, got, err := p.target.do(req)
	if err != nil {
		return nil, err
	}
	if p.target.Observe != nil {
		p.target.Observe(e, req, sent, resp, got)
	}
	for _, k := range e.Keep {
		if v, err := decode(got); err == nil {
			if text, ok := textAt(v, k.At); ok {
				p.values[k.Name] = text
			}
		}
	}
	return answerOf(resp.StatusCode, resp.Header.Get("Content-Type"), got, e.Any, p.known(e)), nil
}

// known are the values by which answers are made comparable: those kept from
// earlier answers that are long enough not to stand in a text by chance.
func (p *player) known(e *Exchange) map[string]string {
	known := map[string]string{}
	for name, value := range p.values {
		if len(value) > 15 && !slices.ContainsFunc(e.Keep, func(k Kept) bool { return k.Name == name }) {
			known[value] = name
		}
	}
	return known
}

func (t *Target) request(ctx context.Context, method, path, token string, body []byte) (*http.Request, error) {
	if !strings.HasPrefix(path, "/") {
		path = "/v1/" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, t.Addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	return req, nil
}

func (t *Target) do(req *http.Request) (*http.Response, []byte, error) {
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return resp, body, nil
}

// made are the paths below which exchanges make what is to be removed.
var made = regexp.MustCompile(`^(sys/mounts|sys/policies/acl|sys/policy|auth/token/roles)/conformance-[^/?]+$`)

// clean removes what the exchanges of a file make.
func (t *Target) clean(ctx context.Context, f *File) error {
	for _, e := range f.Exchanges {
		if e.Method != http.MethodPost && e.Method != http.MethodPut || !made.MatchString(e.Path) {
			continue
		}
		req, err := t.request(ctx, http.MethodDelete, e.Path, t.Token, nil)
		if err != nil {
			return err
		}
		if _, _, err := t.do(req); err != nil {
			return fmt.Errorf("removing %s: %w", e.Path, err)
		}
	}
	return nil
}

// FromEnvironment is the server that the environment names, and its name in
// differences.txt; nil if it names none.
func FromEnvironment() (*Target, string, error) {
	addr := os.Getenv("CLAVIGER_CONFORMANCE_ADDR")
	if addr == "" {
		return nil, "", nil
	}
	token := os.Getenv("CLAVIGER_CONFORMANCE_TOKEN")
	if file := os.Getenv("CLAVIGER_CONFORMANCE_TOKEN_FILE"); token == "" && file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, "", fmt.Errorf("reading the root token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token == "" {
		return nil, "", fmt.Errorf("CLAVIGER_CONFORMANCE_ADDR names a server: CLAVIGER_CONFORMANCE_TOKEN or CLAVIGER_CONFORMANCE_TOKEN_FILE must say its root token")
	}
	return &Target{Addr: strings.TrimRight(addr, "/"), Token: token}, os.Getenv("CLAVIGER_CONFORMANCE_SERVER"), nil
}
