package vault

import (
	"net/url"
	"reflect"
	"slices"
	"sort"

	"github.com/claviger/claviger/internal/fault"
)

// reserved are parameters of a URL that choose the verb and are no fields.
var reserved = []string{"list", "help"}

// decodeQuery fills req from the parameters of a URL.
func decodeQuery(query string, req any) (unknown []string, err error) {
	if query == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query of the URL is not name=value&name=value in URL encoding")
	}
	for _, name := range reserved {
		delete(values, name)
	}
	return decodeValues(values, req)
}

// decodeForm fills req from a body of type application/x-www-form-urlencoded.
func decodeForm(body []byte, req any) (unknown []string, err error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fault.New(fault.Invalid, "the body is not a form (name=value&name=value in URL encoding)").
			WithHint("send JSON, which any Content-Type may carry")
	}
	return decodeValues(values, req)
}

// decodeValues fills req and returns the names that it does not have, sorted.
func decodeValues(values url.Values, req any) (unknown []string, err error) {
	v := reflect.ValueOf(req).Elem()
	plan := planOf(v.Type())
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		i, ok := plan.find([]byte(name), 0)
		if !ok {
			unknown = report(unknown, name)
			continue
		}
		f := &plan.fields[i]
		if err := f.codec.parameter(f.of(v), values[name]); err != nil {
			return nil, invalid(inField(f.name, err))
		}
	}
	return slices.Clip(unknown), nil
}

func (c *codec) parameter(v reflect.Value, values []string) error {
	switch {
	case len(values) == 1:
		return c.text(v, values[0])
	case c.texts != nil:
		return c.texts(v, values)
	}
	return wrong("is given more than once")
}
