package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
)

// limits are what a rule demands of a call beside the capability.
type limits struct {
	allowed  params // empty: all
	denied   params
	required []string // names of parameters, in lower case
	// The time for which an answer must be wrapped; 0 for no bound. A bound of
	// either kind makes wrapping a duty.
	minWrap, maxWrap api.Seconds
}

// params are names of parameters in lower case, "*" for all others, with values;
// no values stand for any. A value is a string, a json.Number, a bool, or a list
// of them.
type params map[string][]any

const allParams = "*"

// limit reads an attribute into limits.
func (a *attr) limit(l *limits) (err error) {
	switch a.name {
	case "allowed_parameters":
		l.allowed, err = a.params()
	case "denied_parameters":
		l.denied, err = a.params()
	case "min_wrapping_ttl":
		l.minWrap, err = a.wrapTTL()
	case "max_wrapping_ttl":
		l.maxWrap, err = a.wrapTTL()
	case "required_parameters":
		names, ok := texts(a.value)
		if !ok || slices.Contains(names, "") {
			return errors.New(`required_parameters is a list of names, such as ["ttl"]`)
		}
		for _, name := range names {
			l.required = append(l.required, strings.ToLower(name))
		}
	}
	return err
}

func (a *attr) params() (params, error) {
	list, ok := a.value.(members)
	if !ok {
		return nil, fmt.Errorf(`%s is an object of lists, such as { "type" = ["aes256-gcm96"], "*" = [] }`, a.name)
	}
	p := params{}
	for _, m := range list {
		name := strings.ToLower(m.name)
		if _, again := p[name]; again || name == "" {
			return nil, fmt.Errorf("%s: the name %q is empty or given twice", a.name, name)
		}
		values, ok := m.value.([]any)
		if !ok || !areParamValues(values, true) {
			return nil, fmt.Errorf("%s: %q needs a list of texts, numbers, booleans and lists of them; [] stands for any value", a.name, m.name)
		}
		p[name] = values
	}
	return p, nil
}

// areParamValues tells whether all values are such as limits compare.
func areParamValues(values []any, lists bool) bool {
	for _, v := range values {
		switch v := v.(type) {
		case string, bool, json.Number:
		case []any:
			if !lists || !areParamValues(v, false) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// wrapTTL reads a time: a number of seconds, or a text such as "90s" or "1h".
func (a *attr) wrapTTL() (api.Seconds, error) {
	text, isText := a.value.(string)
	if n, ok := a.value.(json.Number); ok {
		text, isText = n.String(), true
	}
	d, ok := seconds(text)
	if !isText || !ok || d < 0 || d > maxWrapTTL {
		return 0, fmt.Errorf(`%s is a time of 0 to %d seconds, such as 90, "90s" or "1h"`, a.name, maxWrapTTL)
	}
	return d, nil
}

// seconds reads a whole number of seconds, or a text such as "1h30m".
func seconds(text string) (api.Seconds, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return api.Seconds(n), true
	}
	d, err := time.ParseDuration(text)
	return api.Seconds(d / time.Second), err == nil && d%time.Second == 0
}

// check refuses limits that no call could keep.
func (l *limits) check() error {
	if l != nil && l.minWrap > 0 && l.maxWrap > 0 && l.maxWrap < l.minWrap {
		return errors.New("max_wrapping_ttl cannot be less than min_wrapping_ttl")
	}
	return nil
}

// with unites the limits of two rules on one path, as Vault does: what either
// rule allows, denies or requires by name is allowed, denied or required; of two
// bounds on the wrapping time the lesser counts. A rule without limits does not
// lift those of the other. Neither l nor m is changed.
func (l *limits) with(m *limits) *limits {
	if l == nil || m == nil {
		if l == nil {
			return m
		}
		return l
	}
	return &limits{
		allowed: l.allowed.with(m.allowed), denied: l.denied.with(m.denied),
		required: slices.Compact(slices.Sorted(slices.Values(slices.Concat(l.required, m.required)))),
		minWrap:  lesserBound(l.minWrap, m.minWrap), maxWrap: lesserBound(l.maxWrap, m.maxWrap),
	}
}

// with unites the values of equal names; no values, which stand for any, remain.
func (p params) with(q params) params {
	if len(p) == 0 {
		return q
	}
	union := maps.Clone(p)
	for name, values := range q {
		if old, ok := union[name]; !ok {
			union[name] = values
		} else if len(old) == 0 || len(values) == 0 {
			union[name] = nil
		} else {
			union[name] = slices.Concat(old, values)
		}
	}
	return union
}

func lesserBound(a, b api.Seconds) api.Seconds {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
