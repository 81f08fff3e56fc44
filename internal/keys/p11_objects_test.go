package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	id := objectID("ab")
	put := func(attributes ...api.P11Attribute) (*api.P11Object, error) {
		return e.p11PutObject(ctx, everything(), &api.P11PutObject{ID: id, Attributes: attributes})
	}
	for range 2 {
		o, err := put(number(attrClass, 1), attribute(attrLabel, "cert"), attribute(attrID, "\x01"), attribute(0x11, "DER"))
		must(t, err)
		if o.ID != id || len(o.Attributes) != 4 || string(o.Attributes[3].Value) != "DER" || fmt.Sprint(o.May) != "[change delete]" {
			t.Errorf("%+v", o)
		}
		for _, r := range []api.P11Find{{Label: ptr("cert")}, {ID: []byte{1}}, {Class: "certificate"}, {Object: id}, {}} {
			e.finds(everything(), r, "abab")
		}
		e.finds(everything(), api.P11Find{Class: "key"}, "")
		e.restart()
	}
	if o := e.found(judged("read"), api.P11Find{}).Objects[0]; o.May != nil {
		t.Errorf("%+v", o)
	}
	before := e.found(everything(), api.P11Find{}).Change
	_, err := put(number(attrClass, 2), attribute(attrLabel, "public"))
	must(t, err)
	e.finds(everything(), api.P11Find{Label: ptr("public"), Class: "key", Changed: before}, "abab")
	e.finds(everything(), api.P11Find{Label: ptr("cert")}, "")
	_, err = e.p11DeleteObject(ctx, everything(), &api.P11ObjectName{ID: id})
	must(t, err)
	e.finds(everything(), api.P11Find{}, "")
	_, err = e.p11DeleteObject(ctx, everything(), &api.P11ObjectName{ID: id})
	wantFault(t, err, fault.NotFound, "there is no object")
	_, err = put(number(attrClass, 0))
	must(t, err)
	must(t, e.Unmount(ctx, "transit/"))
	if e.count(tableObjects) != 0 {
		t.Error("an object is left")
	}
}

func TestObjectsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	class := number(attrClass, 0)
	many := []api.P11Attribute{class}
	for i := range uint64(maxObjectAttributes) {
		many = append(many, number(0x1000+i, 0))
	}
	for text, r := range map[string]api.P11PutObject{
		"no identifier":    {ID: strings.ToUpper(objectID("ab")), Attributes: []api.P11Attribute{class}},
		`"abc" is no`:      {ID: "abc", Attributes: []api.P11Attribute{class}},
		"CKA_CLASS":        {ID: objectID("00")},
		"0 for data":       {ID: objectID("00"), Attributes: []api.P11Attribute{number(attrClass, 3)}},
		"must be a number": {ID: objectID("00"), Attributes: []api.P11Attribute{attribute(attrClass, "12345678")}},
		"given twice":      {ID: objectID("00"), Attributes: []api.P11Attribute{class, attribute(3, ""), attribute(3, "")}},
		"form 3":           {ID: objectID("00"), Attributes: []api.P11Attribute{class, {Type: 4, Form: 3}}},
		"0 or 1":           {ID: objectID("00"), Attributes: []api.P11Attribute{class, {Type: 4, Form: 1, Value: []byte{2}}}},
		"8 bytes":          {ID: objectID("00"), Attributes: []api.P11Attribute{class, {Type: 4, Form: 2, Value: []byte{2}}}},
		"at most 65536":    {ID: objectID("00"), Attributes: []api.P11Attribute{class, attribute(3, strings.Repeat("x", 64<<10))}},
		"at most 64":       {ID: objectID("00"), Attributes: many},
	} {
		_, err := e.p11PutObject(ctx, everything(), &r)
		wantFault(t, err, fault.Invalid, text)
	}
	if e.count(tableObjects) != 0 {
		t.Error("something was stored")
	}
	ix, err := e.ready(ctx, "transit/", "transit/")
	must(t, err)
	ix.objects = make([]*listed, maxStoredObjects)
	_, err = e.p11PutObject(ctx, everything(), &api.P11PutObject{ID: objectID("00"), Attributes: []api.P11Attribute{class}})
	wantFault(t, err, fault.Invalid, "the most that are possible")
}

// What a program stores comes back as it was, or is refused.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`[{"type":0,"form":2,"value":"AAAAAAAAAAE="},{"type":3,"form":0,"value":"bA=="}]`))
	f.Add([]byte(`[{"type":0,"form":2,"value":"AAAAAAAAAAE="},{"type":1,"form":1,"value":"AQ=="}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r p11ObjectRecord
		if json.Unmarshal(text, &r.Attributes) != nil || r.check() != nil {
			return
		}
		l := r.listed(objectID("00"))
		if class, ok := r.class(); !ok || class != l.class || len(l.ids) > 1 {
			t.Fatalf("%+v", l)
		}
	})
}
