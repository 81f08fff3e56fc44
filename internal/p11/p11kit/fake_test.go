package p11kit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/p11"
)

// fake is a server with some P-256 keys. The client token is "good".
type fake struct {
	mu      sync.Mutex
	change  uint64
	keys    []*api.P11Key
	secrets map[string]*ecdsa.PrivateKey
	calls   []string
}

func (f *fake) add(name string, session bool) *api.P11Key {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secrets == nil {
		f.secrets = map[string]*ecdsa.PrivateKey{}
	}
	f.change++
	f.secrets[name] = key
	id := sha256.Sum256(der)
	k := &api.P11Key{Name: name, KeyID: name, Type: "ecdsa-p256", Session: session, Deletable: true, May: []string{"sign", "change", "delete"},
		Versions: []api.P11Version{{Version: 1, ID: id[:20], Public: der, Signs: true}}}
	f.keys = append(f.keys, k)
	return k
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if strings.HasPrefix(c, path) {
			n++
		}
	}
	return n
}

// Call is that of p11.Backend.
func (f *fake) Call(_ context.Context, c *p11.Call, in, out any) error {
	f.mu.Lock()
	f.calls = append(f.calls, c.Path)
	f.mu.Unlock()
	if c.Path == "sys/seal-status" {
		*out.(*api.SealStatus) = api.SealStatus{Initialized: true, Version: "1.2.3"}
		return nil
	}
	if c.Token != "good" {
		return fault.New(fault.Denied, "permission denied")
	}
	name, isKey := strings.CutPrefix(c.Path, "transit/keys/")
	switch {
	case c.Path == "transit/pkcs11-find":
		f.find(in.(*api.P11Find), out.(*api.P11Found))
	case strings.HasPrefix(c.Path, "transit/sign/"):
		return f.sign(strings.TrimPrefix(c.Path, "transit/sign/"), in.(*api.Sign), out.(*api.Signature))
	case c.Path == "auth/token/lookup-self":
	case c.Path == "transit/random":
		n := in.(*api.Random).Bytes
		out.(*api.RandomBytes).RandomBytes = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, n))
	case strings.HasSuffix(c.Path, "/create"):
		name := strings.TrimSuffix(strings.TrimPrefix(c.Path, "transit/pkcs11/"), "/create")
		*out.(*api.P11Key) = *f.add(name, in.(*api.P11Create).Session)
	case strings.HasSuffix(c.Path, "/settings"):
	case strings.HasSuffix(c.Path, "/agree"):
		out.(*api.P11Shared).Secret = bytes.Repeat([]byte{9}, 32)
	case isKey && c.Verb == p11.Delete:
		f.remove(name)
	default:
		return fault.New(fault.NotFound, "no route to %s", c.Path)
	}
	return nil
}

func (f *fake) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change++
	for i, k := range f.keys {
		if k.Name == name {
			f.keys = append(f.keys[:i:i], f.keys[i+1:]...)
			return
		}
	}
}

func (f *fake) find(q *api.P11Find, out *api.P11Found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*out = api.P11Found{Change: f.change, Unchanged: q.Changed != 0 && q.Changed == f.change}
	for _, k := range f.keys {
		if !out.Unchanged && (q.Object == "" || q.Object == k.KeyID) && (q.Label == nil || *q.Label == k.Name) && q.Class != "data" {
			out.Keys = append(out.Keys, *k)
		}
	}
}

func (f *fake) sign(name string, q *api.Sign, out *api.Signature) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := f.secrets[name]
	if key == nil || !q.Prehashed {
		return fault.New(fault.NotFound, "no such key")
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, q.Input)
	raw := make([]byte, 64)
	if err == nil {
		out.Signature = "vault:v1:" + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(raw[:32]), s.FillBytes(raw[32:])...))
	}
	return err
}

// newFake makes a Service over a fake with the keys web and old.
func newFake(t testing.TB) (*fake, *p11.Service) {
	t.Helper()
	f := &fake{}
	f.add("web", false)
	f.add("old", false)
	s, err := p11.New(p11.Options{Slots: []p11.Slot{{Label: "claviger", Mounts: []string{"transit"}}}, Backend: f, Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

// client calls a program's functions, as the module does.
type client struct {
	t testing.TB
	p *program
	f *fake
}

// newClient is a client after C_Initialize.
func newClient(t testing.TB, version uint8) *client {
	t.Helper()
	f, s := newFake(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c := &client{t, newProgram(ctx, &Options{Service: s, Logger: discard}, "test", version), f}
	c.ok("C_Initialize", opening()...)
	return c
}

// opening are the values of C_Initialize.
func opening() []any { return []any{[]byte(handshake), uint8(0), []byte{0}} }

// encode puts a value as the module does: uint64 "u", uint8 "y", []byte "ay", uint32
// "fy" and "fu", p11.Attributes "aA", []wanted "fA", raw what it is.
type raw []byte

func encode(w *writer, v any) {
	switch v := v.(type) {
	case uint64:
		w.U64(v)
	case int:
		w.U64(uint64(v))
	case uint8:
		w.U8(v)
	case uint32:
		w.U32(v)
	case []byte:
		w.bytes(v)
	case raw:
		w.B = append(w.B, v...)
	case p11.Attributes:
		w.U32(uint32(len(v)))
		for i := range v {
			w.U32(uint32(v[i].Type))
			b, n, ok := value(&v[i])
			if !ok {
				panic("the attribute can't travel")
			}
			w.U8(1)
			w.U32(n)
			w.B = append(w.B, b...)
		}
	case []wanted:
		w.U32(uint32(len(v)))
		for _, q := range v {
			w.U32(uint32(q.t))
			w.U32(q.room)
		}
	case *p11.Mechanism: // without a parameter
		w.U32(uint32(v.Number))
		w.U32(noBytes)
	default:
		panic("no such value")
	}
}

func message(name string, values ...any) []byte {
	w := &writer{}
	for n := range calls {
		if calls[n].name == name {
			w.begin(uint32(n), calls[n].request)
		}
	}
	for _, v := range values {
		encode(w, v)
	}
	return w.B
}

// call returns the body of an answer, or the outcome that stands in its place.
func (c *client) call(name string, values ...any) (*reader, p11.Code) {
	c.t.Helper()
	return answerOf(c.t, name, c.p.handle(context.Background(), message(name, values...), nil))
}

func answerOf(t testing.TB, name string, b []byte) (*reader, p11.Code) {
	t.Helper()
	r := &reader{p11.NewReader(b), newest}
	number, signature := r.U32(), string(r.Bytes())
	if number == callError && signature == "u" {
		return nil, p11.Code(r.U64())
	}
	if calls[number].name != name || calls[number].response != signature {
		t.Fatalf("%s answers %d %q", name, number, signature)
	}
	return r, p11.CKR_OK
}

func (c *client) ok(name string, values ...any) *reader {
	c.t.Helper()
	r, code := c.call(name, values...)
	if code != p11.CKR_OK {
		c.t.Fatalf("%s: 0x%x", name, uint32(code))
	}
	return r
}

func (c *client) fails(want p11.Code, name string, values ...any) {
	c.t.Helper()
	if _, code := c.call(name, values...); code != want {
		c.t.Errorf("%s: 0x%x, not 0x%x", name, uint32(code), uint32(want))
	}
}

// open opens a session that reads and writes, logged in.
func (c *client) open() uint64 {
	c.t.Helper()
	s := c.ok("C_OpenSession", 0, ckfSerialSession|ckfRWSession).U64()
	if _, code := c.call("C_Login", s, ckuUser, []byte("good\n")); code != p11.CKR_OK && code != ckrUserAlreadyLoggedIn {
		c.t.Fatalf("C_Login: 0x%x", uint32(code))
	}
	return s
}

// point is the public key of the key web.
func (c *client) point() []byte {
	der := c.f.keys[0].Versions[0].Public
	return der[len(der)-65:]
}

// find returns the handles of objects.
func (c *client) find(s uint64, template p11.Attributes) []uint64 {
	c.t.Helper()
	c.ok("C_FindObjectsInit", s, template)
	defer c.ok("C_FindObjectsFinal", s)
	var all []uint64
	for {
		r := c.ok("C_FindObjects", s, uint32(3))
		if !r.Bool() {
			c.t.Fatal("C_FindObjects has no array")
		}
		n := r.U32()
		for range n {
			all = append(all, r.U64())
		}
		if n == 0 {
			return all
		}
	}
}

// key finds one object.
func (c *client) key(s, class uint64, label string) uint64 {
	c.t.Helper()
	found := c.find(s, attrs(p11.CKA_CLASS, class, p11.CKA_LABEL, label))
	if len(found) != 1 {
		c.t.Fatalf("%d objects of class %d with label %s", len(found), class, label)
	}
	return found[0]
}

// blob calls a function with a buffer and returns what it fills in.
func (c *client) blob(name string, values ...any) []byte {
	c.t.Helper()
	r := c.ok(name, values...)
	if !r.Bool() {
		c.t.Fatalf("%s: the buffer is too small for %d bytes", name, r.U32())
	}
	return r.blob()
}

// length calls a function with too small a buffer.
func (c *client) length(name string, values ...any) int {
	c.t.Helper()
	r := c.ok(name, values...)
	if r.Bool() {
		c.t.Fatalf("%s filled the buffer", name)
	}
	return int(r.U32())
}

// attrs makes a template of pairs: type, and a number, flag or text.
func attrs(pairs ...any) p11.Attributes {
	var as p11.Attributes
	for i := 0; i < len(pairs); i += 2 {
		a := api.P11Attribute{}
		switch t := pairs[i].(type) {
		case int:
			a.Type = uint64(t)
		case uint64:
			a.Type = t
		}
		switch v := pairs[i+1].(type) {
		case bool:
			a.Form, a.Value = p11.FormBool, []byte{0}
			if v {
				a.Value = []byte{1}
			}
		case uint64:
			w := p11.Writer{}
			w.U64(v)
			a.Form, a.Value = p11.FormNumber, w.B
		case int:
			w := p11.Writer{}
			w.U64(uint64(v))
			a.Form, a.Value = p11.FormNumber, w.B
		case string:
			a.Form, a.Value = p11.FormBytes, []byte(v)
		case []byte:
			a.Form, a.Value = p11.FormBytes, v
		}
		as = append(as, a)
	}
	return as
}

func mech(number uint64) *p11.Mechanism { return &p11.Mechanism{Number: number} }

func digestOf(data string) []byte {
	h := crypto.SHA256.New()
	h.Write([]byte(data))
	return h.Sum(nil)
}
