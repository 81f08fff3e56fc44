package keys

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// judge allows paths by their verb and beginning: "write transit/sign/".
type judge struct {
	allow []string
	stamp uint64
}

func (j *judge) May(verb op.Verb, path string) bool {
	for _, a := range j.allow {
		if strings.HasPrefix(verb.String()+" "+path, a) {
			return true
		}
	}
	return false
}

func (j *judge) Stamp() uint64 { return j.stamp }

// judged is a call of a caller whose policies allow only this.
func judged(allow ...string) *op.Call {
	c := call()
	c.Judge = &judge{allow: allow}
	return c
}

// everything is a call of a caller who may do all.
func everything() *op.Call { return judged("") }

func (e *env) p11(r api.P11Create) *api.P11Key {
	e.t.Helper()
	k, err := e.p11Create(context.Background(), everything(), &r)
	must(e.t, err)
	return k
}

func (e *env) found(c *op.Call, r api.P11Find) *api.P11Found {
	e.t.Helper()
	f, err := e.p11Find(context.Background(), c, &r)
	must(e.t, err)
	return f
}

// names of what was found, objects after keys, separated by blanks.
func names(f *api.P11Found) string {
	var out []string
	for _, k := range f.Keys {
		out = append(out, k.Name)
	}
	for _, o := range f.Objects {
		out = append(out, o.ID[:4])
	}
	return strings.Join(out, " ")
}

func (e *env) finds(c *op.Call, r api.P11Find, want string) {
	e.t.Helper()
	if got := names(e.found(c, r)); got != want {
		e.t.Errorf("found %q, want %q", got, want)
	}
}

func sessionName(digit string) string { return sessionPrefix + strings.Repeat(digit, 32) }

func attribute(attr uint64, value string) api.P11Attribute {
	return api.P11Attribute{Type: attr, Form: formBytes, Value: []byte(value)}
}

func number(attr, value uint64) api.P11Attribute {
	return api.P11Attribute{Type: attr, Form: formNumber, Value: binary.BigEndian.AppendUint64(nil, value)}
}

// objectID repeats two digits.
func objectID(digits string) string { return strings.Repeat(digits, 16) }

// putObject stores data under an identifier of these two digits.
func (e *env) putObject(c *op.Call, digits string, attributes ...api.P11Attribute) {
	e.t.Helper()
	attributes = append(attributes, number(attrClass, uint64(classData)))
	_, err := e.p11PutObject(context.Background(), c, &api.P11PutObject{ID: objectID(digits), Attributes: attributes})
	must(e.t, err)
}

func changeOf(r store.Record) store.Change {
	return store.Change{Table: r.Table, Key: r.Key, Expect: r.Version, Data: r.Data}
}

// fill writes the records of n Ed25519 keys of one secret, k000000 and so on.
func (e *env) fill(n int) {
	e.t.Helper()
	ctx := context.Background()
	secret, public, err := e.software.Generate(token.Spec{Type: token.Ed25519})
	must(e.t, err)
	var changes []store.Change
	for i := range n {
		id := newID()
		name := keyName{"transit/", fmt.Sprintf("k%06d", i)}
		meta := keyRecord{Format: recordFormat, ID: hex.EncodeToString(id[:]), Type: token.Ed25519,
			Protection: api.ProtectionSoftware, Created: e.now(), Latest: 1, MinDecryption: 1}
		put, err := e.store.Put(tableKeys, name.record(), 0, meta)
		must(e.t, err)
		version, err := e.store.Put(tableVersions, name.version(1), 0, versionRecord{Format: recordFormat, KeyID: meta.ID, Number: 1, Created: e.now(),
			Main: secretRecord{Type: token.Ed25519, Place: api.ProtectionSoftware, Public: public, Secret: secret}})
		must(e.t, err)
		if changes = append(changes, put, version); len(changes) >= 2000 || i == n-1 {
			must(e.t, e.store.Apply(ctx, changes...))
			changes = changes[:0]
		}
	}
}
