package vault

import (
	"fmt"
	"reflect"
	"strings"
)

const objectWanted = "must be an object, such as {}"

func tooMany() error { return wrong(fmt.Sprintf("has more than %d items", maxItems)) }

func sliceCodec(t reflect.Type, begun map[reflect.Type]*structPlan) *codec {
	switch t.Elem().Kind() {
	case reflect.Uint8:
		return &codec{json: jsonBytes, text: textBytes}
	case reflect.String:
		return &codec{json: jsonTexts, text: textTexts, texts: textsTexts}
	}
	elem := codecOf(t.Elem(), begun)
	return &codec{
		json: func(d *decoder, v reflect.Value) error {
			if err := d.expect('[', "must be a list, such as []"); err != nil {
				return err
			}
			return d.list(v, elem)
		},
		text: textNo("a list; send JSON"),
	}
}

// expect makes sure that a list or an object is next; want says so to the caller.
func (d *decoder) expect(opening byte, want string) error {
	switch d.peek() {
	case opening:
		return nil
	case 0, '}', ']', ',', ':':
		return d.fail("expected a value")
	}
	return wrong(want)
}

// list reads a list into v. Room for all items is made once it is known how many
// bytes the first one takes.
func (d *decoder) list(v reflect.Value, elem *codec) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	d.lists++
	defer func() { d.lists-- }()
	start := d.pos
	more, err := d.begin(']')
	for n := 0; more && err == nil; n++ {
		if n == maxItems {
			return tooMany()
		}
		if n == v.Cap() {
			v.Grow(d.itemsToCome(n, d.pos-start))
		}
		v.SetLen(n + 1)
		if err = d.value(elem, v.Index(n)); err != nil {
			return inItem(n, err)
		}
		more, err = d.more(']')
	}
	return err
}

// itemsToCome estimates how many items follow n items that took size bytes.
func (d *decoder) itemsToCome(n, size int) int {
	if n == 0 {
		return 1
	}
	return min((len(d.in)-d.pos)*n/size+1, maxItems-n)
}

var stringCodec = &codec{json: jsonString, text: textString}

// jsonTexts reads a list of texts, or one text with commas.
func jsonTexts(d *decoder, v reflect.Value) error {
	if d.peek() == '[' {
		return d.list(v, stringCodec)
	}
	text := reflect.New(v.Type().Elem()).Elem()
	if err := jsonString(d, text); err != nil {
		if _, ok := err.(*valueError); ok {
			return wrong("must be a list of texts, or a text with commas")
		}
		return err
	}
	return textTexts(v, text.String())
}

// textTexts splits a text at its commas.
func textTexts(v reflect.Value, s string) error {
	if strings.TrimSpace(s) == "" {
		return textsTexts(v, nil)
	}
	if strings.Count(s, ",") >= maxItems {
		return tooMany()
	}
	return textsTexts(v, strings.Split(s, ","))
}

func textsTexts(v reflect.Value, s []string) error {
	list := reflect.MakeSlice(v.Type(), len(s), len(s))
	for i := range s {
		list.Index(i).SetString(strings.TrimSpace(s[i]))
	}
	v.Set(list)
	return nil
}

// mapCodec reads objects with any names. Of a map of texts the form
// "name=value,name=value" is good too.
func mapCodec(t reflect.Type, elem *codec) *codec {
	c := &codec{
		json: func(d *decoder, v reflect.Value) error { return d.object(v, elem) },
		text: textNo("an object; send JSON"),
	}
	if t.Elem().Kind() == reflect.String {
		c.text = textPairs
		c.texts = textsPairs
	}
	return c
}

func (d *decoder) object(v reflect.Value, elem *codec) error {
	if err := d.expect('{', objectWanted); err != nil {
		return err
	}
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	more, err := d.begin('}')
	for more && err == nil {
		name, err := d.key()
		if err != nil {
			return err
		}
		key := reflect.New(t.Key()).Elem()
		key.SetString(d.keep(name))
		item := reflect.New(t.Elem()).Elem()
		if err := d.value(elem, item); err != nil {
			return inField(clip(key.String()), err)
		}
		v.SetMapIndex(key, item)
		if v.Len() > maxItems {
			return tooMany()
		}
		if more, err = d.more('}'); err != nil {
			return err
		}
	}
	return err
}

func textPairs(v reflect.Value, s string) error {
	if strings.Count(s, ",") >= maxItems {
		return tooMany()
	}
	return textsPairs(v, strings.Split(s, ","))
}

func textsPairs(v reflect.Value, pairs []string) error {
	t := v.Type()
	m := reflect.MakeMapWithSize(t, len(pairs))
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return wrong("must be an object, or a text such as name=value,name=value")
		}
		m.SetMapIndex(reflect.ValueOf(strings.TrimSpace(name)).Convert(t.Key()), reflect.ValueOf(value).Convert(t.Elem()))
	}
	v.Set(m)
	return nil
}
