package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/hashicorp/hcl/hcl/ast"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	hcltoken "github.com/hashicorp/hcl/hcl/token"
)

// A value of a policy, in either syntax, is a string, a json.Number in decimal,
// a bool, nil, a []any of values, or members.
type members []member

type member struct {
	name  string
	value any
}

// hclValue returns the value of a node.
func hclValue(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.LiteralType:
		return hclLiteral(n)
	case *ast.ListType:
		list := []any{}
		for _, e := range n.List {
			v, err := hclValue(e)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case *ast.ObjectType:
		list := members{}
		for _, item := range n.List.Items {
			keys, err := hclKeys(item)
			if err != nil {
				return nil, err
			}
			if len(keys) != 1 {
				return nil, atLine(item.Pos().Line, "unknown block %q in a rule", keys[0])
			}
			v, err := hclValue(item.Val)
			if err != nil {
				return nil, err
			}
			list = append(list, member{keys[0], v})
		}
		return list, nil
	}
	return nil, errors.New("the policy is not HCL")
}

func hclLiteral(l *ast.LiteralType) (any, error) {
	text := l.Token.Text
	switch l.Token.Type {
	case hcltoken.STRING:
		if text, err := hclstrconv.Unquote(text); err == nil {
			return text, nil
		}
	case hcltoken.BOOL:
		return text == "true", nil
	case hcltoken.NUMBER: // also 0x1f and 017
		if n, err := strconv.ParseInt(text, 0, 64); err == nil {
			return json.Number(strconv.FormatInt(n, 10)), nil
		}
	case hcltoken.FLOAT:
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return json.Number(text), nil
		}
	}
	return nil, atLine(l.Pos().Line, "%.80s is neither a proper string in quotes nor a number nor true or false", text)
}

// value reads the next JSON value token by token, since a map would hide
// repeated names.
func (d *policyJSON) value() (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := d.value()
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	case json.Delim('{'):
		list := members{}
		err := d.members(func(name string) error {
			v, err := d.value()
			list = append(list, member{name, v})
			return err
		})
		return list, err
	}
	if _, odd := t.(json.Delim); odd {
		return nil, fmt.Errorf("a value is expected, not %v", t)
	}
	return t, nil
}

// texts returns a value that is a list of texts.
func texts(v any) (list []string, ok bool) {
	values, ok := v.([]any)
	if !ok {
		return nil, false
	}
	for _, v := range values {
		text, ok := v.(string)
		if !ok {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}
