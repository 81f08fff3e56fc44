package guard

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	hcltoken "github.com/hashicorp/hcl/hcl/token"
)

const (
	// maxPolicySize bounds the text of a policy, in bytes.
	maxPolicySize = 256 << 10
	// maxPolicyOpeners bounds the brackets and braces that a policy text opens.
	// The parser recurses at most once for each, so this bounds its stack.
	maxPolicyOpeners = 8192
	// maxRulePath bounds the path of a rule, in bytes.
	maxRulePath = 1024
)

// caps is a set of capabilities.
type caps uint16

const (
	capCreate caps = 1 << iota
	capRead
	capUpdate
	capPatch
	capDelete
	capList
	capSudo
	capDeny
)

// capNames are in alphabetical order, as answers show them.
var capNames = []struct {
	name string
	cap  caps
}{
	{"create", capCreate}, {"delete", capDelete}, {"deny", capDeny}, {"list", capList},
	{"patch", capPatch}, {"read", capRead}, {"sudo", capSudo}, {"update", capUpdate},
}

const capList8 = "create, delete, deny, list, patch, read, sudo, update"

// oldPolicies are the capabilities that the old attribute "policy" stands for.
var oldPolicies = map[string]caps{
	"deny":  capDeny,
	"read":  capRead | capList,
	"write": capCreate | capRead | capUpdate | capDelete | capList,
	"sudo":  capCreate | capRead | capUpdate | capDelete | capList | capSudo,
}

// rule is one path of a policy.
type rule struct {
	path   string // without a leading slash
	caps   caps
	limits *limits // nil if any parameters will do
	// templated: the path has templates. There is nothing yet that they could
	// stand for, so that the rule matches no path.
	templated bool
}

// ruleText is a rule as either syntax spells it.
type ruleText struct {
	path  string
	line  int // 0 if the syntax does not tell
	attrs []attr
}

// attr is an attribute of a rule; see value for what it may be.
type attr struct {
	name  string
	line  int
	value any
}

// parsePolicy reads a policy: HCL 1 as Vault writes it, or JSON if the first
// character is a brace. Errors say the line and what would be right.
//
//	path "transit/encrypt/+" {
//	  capabilities = ["update"]
//	}
func parsePolicy(text string) ([]rule, error) {
	if len(text) > maxPolicySize {
		return nil, fmt.Errorf("the policy has %d bytes; at most %d are allowed", len(text), maxPolicySize)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("the policy is not valid UTF-8")
	}
	if n := strings.Count(text, "{") + strings.Count(text, "["); n > maxPolicyOpeners {
		return nil, fmt.Errorf("the policy opens %d braces and brackets; at most %d are allowed", n, maxPolicyOpeners)
	}
	read := readHCL
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		read = readJSON
	}
	texts, err := read(text)
	if err != nil {
		return nil, err
	}
	rules := make([]rule, 0, len(texts))
	for _, t := range texts {
		r, err := t.rule()
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// rule checks what the text says.
func (t *ruleText) rule() (rule, error) {
	r := rule{path: strings.TrimPrefix(t.path, "/")}
	plain, err := withoutTemplates(t.path)
	if err == nil {
		err = checkRulePath(plain)
	}
	if err != nil {
		return r, atLine(t.line, "path %q: %w", t.path, err)
	}
	r.templated = plain != t.path
	seen := map[string]bool{}
	for _, a := range t.attrs {
		if seen[a.name] {
			return r, atLine(a.line, "path %q: %s is given twice", t.path, a.name)
		}
		seen[a.name] = true
		if err := a.apply(&r); err != nil {
			return r, atLine(a.line, "path %q: %w", t.path, err)
		}
	}
	if err := r.limits.check(); err != nil {
		return r, atLine(t.line, "path %q: %w", t.path, err)
	}
	return r, nil
}

func checkRulePath(path string) error {
	switch {
	case len(path) > maxRulePath:
		return fmt.Errorf("longer than %d bytes", maxRulePath)
	case strings.Contains(path, "+*"):
		return errors.New(`"+*" is not allowed: "+" stands for one whole segment, "*" only at the end for any rest`)
	case strings.Contains(strings.TrimSuffix(path, "*"), "*"):
		return errors.New(`"*" is allowed only at the end; "+" stands for one whole segment`)
	}
	return nil
}

// apply adds what an attribute says to a rule.
func (a *attr) apply(r *rule) error {
	switch a.name {
	case "capabilities":
		c, err := a.capabilities()
		r.caps |= c
		return err
	case "policy":
		text, _ := a.value.(string)
		c, ok := oldPolicies[text]
		if !ok {
			return errors.New(`policy is one of "read", "write", "deny", "sudo"; better use capabilities = [...]`)
		}
		r.caps |= c
		return nil
	case "comment":
		return nil
	case "allowed_parameters", "denied_parameters", "required_parameters", "min_wrapping_ttl", "max_wrapping_ttl":
		if r.limits == nil {
			r.limits = &limits{}
		}
		return a.limit(r.limits)
	case "mfa_methods", "control_group", "pagination_limit", "expiration", "list_scan_response_keys_filter_path":
		return fmt.Errorf("%s is not supported, and a rule that is not enforced is not accepted: leave it out and allow narrower paths or fewer capabilities", a.name)
	}
	return fmt.Errorf("unknown attribute %q: a rule has capabilities = [...]", a.name)
}

func (a *attr) capabilities() (caps, error) {
	names, ok := texts(a.value)
	if !ok {
		return 0, errors.New(`capabilities is a list of strings, such as ["read", "list"]`)
	}
	var set caps
	for _, name := range names {
		c, ok := capByName(name)
		if !ok {
			return 0, fmt.Errorf("unknown capability %q: use %s", name, capList8)
		}
		set |= c
	}
	return set, nil
}

func capByName(name string) (caps, bool) {
	for _, c := range capNames {
		if c.name == name {
			return c.cap, true
		}
	}
	return 0, false
}

func atLine(line int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if line <= 0 {
		return err
	}
	return fmt.Errorf("line %d: %w", line, err)
}

// readHCL reads HCL 1. The parser is a library whose panics on odd texts must
// not leave this function.
func readHCL(text string) (rules []ruleText, err error) {
	defer func() {
		if r := recover(); r != nil {
			rules, err = nil, errors.New("the policy is not HCL")
		}
	}()
	file, err := parser.Parse([]byte(text))
	if err != nil {
		return nil, hclError(err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, errors.New("the policy is not HCL")
	}
	for _, item := range list.Items {
		if rules, err = hclItem(rules, item); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func hclError(err error) error {
	if p, ok := errors.AsType[*parser.PosError](err); ok {
		return atLine(p.Pos.Line, "%w", p.Err)
	}
	return err
}

// hclItem reads an item of the top level: path "x" { … }, or a name.
func hclItem(rules []ruleText, item *ast.ObjectItem) ([]ruleText, error) {
	keys, err := hclKeys(item)
	if err != nil {
		return nil, err
	}
	line := item.Pos().Line
	body, isBody := item.Val.(*ast.ObjectType)
	switch {
	case keys[0] == "name" && len(keys) == 1 && !isBody:
		return rules, nil
	case keys[0] != "path":
		return nil, atLine(line, `unknown key %q: a policy is made of path "…" { capabilities = [...] }`, keys[0])
	case len(keys) != 2 || !isBody:
		return nil, atLine(line, `a rule is written path "…" { capabilities = [...] }`)
	}
	r := ruleText{path: keys[1], line: line}
	for _, item := range body.List.Items {
		a, err := hclAttr(item)
		if err != nil {
			return nil, err
		}
		r.attrs = append(r.attrs, a)
	}
	return append(rules, r), nil
}

func hclKeys(item *ast.ObjectItem) ([]string, error) {
	if len(item.Keys) == 0 {
		return nil, errors.New("the policy has a value without a key")
	}
	keys := make([]string, len(item.Keys))
	for i, k := range item.Keys {
		keys[i] = k.Token.Text
		if k.Token.Type != hcltoken.STRING {
			continue
		}
		text, err := hclstrconv.Unquote(k.Token.Text)
		if err != nil {
			return nil, atLine(k.Pos().Line, "%s is not a proper string", k.Token.Text)
		}
		keys[i] = text
	}
	return keys, nil
}

func hclAttr(item *ast.ObjectItem) (attr, error) {
	keys, err := hclKeys(item)
	if err != nil {
		return attr{}, err
	}
	a := attr{name: keys[0], line: item.Pos().Line}
	if len(keys) > 1 {
		return attr{}, atLine(a.line, "unknown block %q in a rule: a rule has capabilities = [...]", a.name)
	}
	a.value, err = hclValue(item.Val)
	return a, err
}
