package p11

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// fake is a server with some EC keys.
type fake struct {
	mu     sync.Mutex
	change uint64
	keys   []*api.P11Key
	secret map[string]*ecdsa.PrivateKey // by name
	calls  []string
	err    error // of every call
	errs   int   // how often; negative always
}

func (f *fake) add(t testing.TB, name, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secret == nil {
		f.secret = map[string]*ecdsa.PrivateKey{}
	}
	f.change++
	f.secret[name] = key
	f.keys = append(f.keys, &api.P11Key{Name: name, KeyID: id, Type: "ecdsa-p256", Deletable: true, May: []string{"sign", "change", "delete"},
		Versions: []api.P11Version{{Version: 1, ID: idOf(der), Public: der, Signs: true}}})
}

func (f *fake) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change++
	for i, k := range f.keys {
		if k.Name == name {
			f.keys = append(f.keys[:i:i], f.keys[i+1:]...)
		}
	}
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == path {
			n++
		}
	}
	return n
}

// Call is that of Backend.
func (f *fake) Call(_ context.Context, c *Call, in, out any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c.Path)
	if f.errs != 0 {
		f.errs--
		return f.err
	}
	if c.Token != "good" {
		return fault.New(fault.Denied, "permission denied")
	}
	switch {
	case c.Path == "transit/pkcs11-find":
		f.find(in.(*api.P11Find), out.(*api.P11Found))
		return nil
	case strings.HasPrefix(c.Path, "transit/sign/"):
		return f.sign(strings.TrimPrefix(c.Path, "transit/sign/"), in.(*api.Sign), out.(*api.Signature))
	case c.Path == "auth/token/lookup-self":
		return nil
	}
	return fault.New(fault.NotFound, "no route")
}

func (f *fake) find(q *api.P11Find, out *api.P11Found) {
	*out = api.P11Found{Change: f.change}
	if q.Changed != 0 && q.Changed == f.change {
		out.Unchanged = true
		return
	}
	for _, k := range f.keys {
		switch {
		case q.Object != "" && q.Object != k.KeyID, q.Label != nil && *q.Label != k.Name, q.After != "" && k.Name <= q.After:
			continue
		}
		if len(out.Keys) == 2 { // pages are small
			out.Next = out.Keys[1].Name
			return
		}
		out.Keys = append(out.Keys, *k)
	}
}

func (f *fake) sign(name string, q *api.Sign, out *api.Signature) error {
	for _, k := range f.keys {
		if k.Name == name {
			r, s, err := ecdsa.Sign(rand.Reader, f.secret[name], q.Input)
			raw := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
			out.Signature = "vault:v1:" + base64.RawURLEncoding.EncodeToString(raw)
			return err
		}
	}
	return fault.New(fault.Invalid, "signing key not found")
}

func newFake(t testing.TB, names ...string) (*fake, *Service) {
	t.Helper()
	f := &fake{change: 100}
	for _, n := range names {
		f.add(t, n, "id-"+n)
	}
	s, err := New(Options{Slots: []Slot{{Label: "test", Mounts: []string{"transit"}}}, Backend: f, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

func privateOf(t testing.TB, s *Service, c *Caller, label string) *Object {
	t.Helper()
	var template Attributes
	template.addNumber(CKA_CLASS, CKO_PRIVATE_KEY)
	template.addBytes(CKA_LABEL, []byte(label))
	found, err := s.Find(t.Context(), c, template, nil, 10)
	if err != nil || len(found.Objects) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	return found.Objects[0]
}

func code(err error) Code {
	if e, ok := err.(*Error); ok {
		return e.Code
	}
	return CKR_OK
}
