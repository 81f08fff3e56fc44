package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readJSON reads the JSON form of a policy:
//
//	{"path": {"transit/encrypt/+": {"capabilities": ["update"]}}}
//
// The value of path may also be a list of such objects, and so may a rule's body.
func readJSON(text string) ([]ruleText, error) {
	d := &policyJSON{json.NewDecoder(strings.NewReader(text))}
	d.UseNumber()
	var rules []ruleText
	err := d.object(func(key string) error {
		switch key {
		case "name":
			var ignored string
			return d.Decode(&ignored)
		case "path":
			return d.objects(func(path string) error {
				r := ruleText{path: path}
				err := d.objects(func(name string) error { return d.attr(&r, name) })
				rules = append(rules, r)
				return err
			})
		}
		return fmt.Errorf(`unknown key %q: a policy is {"path": {"…": {"capabilities": [...]}}}`, key)
	})
	if err != nil {
		return nil, jsonError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is text after the end of the JSON object")
	}
	return rules, nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON object does not end")
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("byte %d: %w", s.Offset, err)
	}
	return err
}

// policyJSON reads objects key by key, since a map would hide repeated keys.
type policyJSON struct{ *json.Decoder }

// objects reads an object, or a list of objects as if they were one.
func (d *policyJSON) objects(value func(key string) error) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		return d.members(value)
	case json.Delim('['):
		for d.More() {
			if err := d.object(value); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return err
	}
	return fmt.Errorf("an object is expected, not %v", t)
}

func (d *policyJSON) object(value func(key string) error) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return fmt.Errorf("an object is expected, not %v", t)
	}
	return d.members(value)
}

func (d *policyJSON) members(value func(key string) error) error {
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return fmt.Errorf("a key is expected, not %v", t)
		}
		if err := value(key); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func (d *policyJSON) attr(r *ruleText, name string) error {
	v, err := d.value()
	r.attrs = append(r.attrs, attr{name: name, value: v})
	return err
}
