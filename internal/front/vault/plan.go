package vault

import (
	"reflect"
	"strings"
)

// member is a field of a struct as it stands on the wire.
type member struct {
	name      string
	omitEmpty bool
	typ       reflect.Type
	index     []int
}

// of returns the field's value in a struct.
func (m *member) of(v reflect.Value) reflect.Value {
	if len(m.index) == 1 {
		return v.Field(m.index[0])
	}
	return v.FieldByIndex(m.index)
}

// members lists the fields of struct type t that are on the wire, in their
// order. Embedded structs without a name count as if their fields stood here; a
// name of the outer struct hides the same name of an embedded one.
func members(t reflect.Type) []member {
	var list []member
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" && options == "":
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			for _, m := range members(f.Type) {
				m.index = append([]int{i}, m.index...)
				list = append(list, m)
			}
		case f.IsExported():
			if name == "" {
				name = f.Name
			}
			list = append(list, member{name, hasOption(options, "omitempty"), f.Type, []int{i}})
		}
	}
	return hideInner(list)
}

// hideInner drops the members whose name a member of an outer level has too.
func hideInner(list []member) []member {
	level := make(map[string]int, len(list))
	for _, m := range list {
		if n, ok := level[m.name]; !ok || len(m.index) < n {
			level[m.name] = len(m.index)
		}
	}
	kept := list[:0]
	for _, m := range list {
		if level[m.name] == len(m.index) {
			kept = append(kept, m)
		}
	}
	return kept
}

func hasOption(options, name string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == name {
			return true
		}
	}
	return false
}
