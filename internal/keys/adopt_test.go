package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// foreign makes a key object as another program would.
func (e *env) foreign(typ token.Type, label string, id []byte) token.Stored {
	e.t.Helper()
	s, err := e.hsm.Token.Generate(bg, token.Spec{Type: typ, Place: token.PlaceObject, ID: newID(), Name: &token.ObjectName{Label: label, ID: id}})
	must(e.t, err)
	return s
}

func (e *env) there(label string) int {
	e.t.Helper()
	list, err := e.hsm.Objects(bg, token.ObjectName{Label: label}, 10)
	must(e.t, err)
	return len(list)
}

func (e *env) drop(name string) {
	e.t.Helper()
	_, err := e.configKey(bg, call(), &api.ConfigKey{Name: name, DeletionAllowed: ptr(true)})
	must(e.t, err)
	_, err = e.deleteKey(bg, call(), &api.KeyName{Name: name})
	must(e.t, err)
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	pair := e.foreign(token.RSA2048, "a/signer", []byte{1, 2})
	e.foreign(token.AES256, "a/signer", []byte{1, 2})
	adopt := func(r api.AdoptKey) (*api.Key, error) { return e.adoptKey(bg, call(), &r) }
	_, err := adopt(api.AdoptKey{Name: "ca", Label: "a/signer"})
	wantFault(t, err, fault.Invalid, "more than one key")
	for range 2 { // it may be repeated
		k, err := adopt(api.AdoptKey{Name: "ca", Label: "a/signer", ID: "0102", Class: "private"})
		must(t, err)
		if !k.Adopted || k.Protection != "token" || k.Type != "rsa-2048" || k.LatestVersion != 1 || !bytes.Equal(pkix(t, publicOf(t, k, "1")), pair.Public) {
			t.Errorf("%+v", k)
		}
		e.restart()
	}
	_, err = adopt(api.AdoptKey{Name: "data", ID: "0102", Class: "secret", DeleteObject: true})
	must(t, err)
	if p, err := e.dec("data", e.enc("data", "p")); err != nil || p != "p" {
		t.Errorf("%q %v", p, err)
	}
	sig, err := e.sign(bg, call(), &api.Sign{Name: "ca", Input: []byte("m")})
	must(t, err)
	v, err := e.verify(bg, call(), &api.Verify{Name: "ca", Input: []byte("m"), Signature: sig.Signature})
	if must(t, err); !*v.Valid {
		t.Error("signature")
	}
	_, err = e.hmac(bg, call(), &api.HMAC{Name: "ca", Input: []byte("m")})
	must(t, err)
	_, err = e.backupKey(bg, call(), &api.KeyName{Name: "ca"})
	wantFault(t, err, fault.Invalid, "never leaves it")
	k := e.rotateNow("ca")
	if k.LatestVersion != 2 || k.Protection != "token" || len(e.hsm.ids()) != 2 { // the new version and its HMAC secret
		t.Errorf("%+v, %d objects", k, len(e.hsm.ids()))
	}
	e.drop("ca")
	if e.there("a/signer") != 2 || len(e.hsm.ids()) != 0 {
		t.Error("the adopted object is gone, or the version that was made here is not")
	}
	e.drop("data")
	if n := e.there("a/signer"); n != 1 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects of the name, %d intents", n, e.count(tableIntents))
	}
}

func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "own", Protection: "token"})
	e.foreign(token.AES256, "one", []byte{1})
	e.foreign(token.AES256, "two", []byte{2})
	e.make("there", "")
	_, err := e.adoptKey(bg, call(), &api.AdoptKey{Name: "taken", Label: "two"})
	must(t, err)
	for _, c := range []struct {
		r    api.AdoptKey
		kind fault.Kind
		want string
	}{
		{api.AdoptKey{Name: "k"}, fault.Invalid, "label or id must say"},
		{api.AdoptKey{Name: "a b", Label: "one"}, fault.Invalid, "no name for a key"},
		{api.AdoptKey{Name: "k", Label: "none"}, fault.Invalid, "no private or secret key"},
		{api.AdoptKey{Name: "k", Label: "one", Class: "private"}, fault.Invalid, "no private or secret key"},
		{api.AdoptKey{Name: "k", Label: "one", Class: "public"}, fault.Invalid, "unknown class"},
		{api.AdoptKey{Name: "k", ID: "xyz"}, fault.Invalid, "hex form"},
		{api.AdoptKey{Name: "k", ID: strings.Repeat("00", 65)}, fault.Invalid, "hex form"},
		{api.AdoptKey{Name: "k", Label: strings.Repeat("l", 256)}, fault.Invalid, "up to 255"},
		{api.AdoptKey{Name: "k", Label: "claviger-kek"}, fault.Invalid, "system key"},
		{api.AdoptKey{Name: "k", Label: "transit/own", Class: "secret"}, fault.Invalid, "more than one"}, // with its HMAC secret
		{api.AdoptKey{Name: "there", Label: "one"}, fault.Conflict, "exists already"},
		{api.AdoptKey{Name: "taken", Label: "one"}, fault.Conflict, "exists already"},
	} {
		_, err := e.adoptKey(bg, call(), &c.r)
		wantFault(t, err, c.kind, c.want)
	}
	for id := range e.hsm.ids() {
		_, err := e.AdoptObject(bg, "other/", "k", token.ObjectName{ID: id[:]})
		wantFault(t, err, fault.Invalid, "belongs to the key transit/own")
	}
	e.hsm.info.Holds[token.RSA4096] = token.Hold{Object: true}
	e.wrappingPublic()
	_, err = e.AdoptObject(bg, "other/", "k", token.ObjectName{Label: "transit/wrapping_key"})
	wantFault(t, err, fault.Invalid, "belongs to the key")
	if e.count(tableKeys) != 3 {
		t.Errorf("%d keys", e.count(tableKeys))
	}
}

// renamed is a token in which an object has another label than its key knows.
type renamed struct {
	token.Token
	from, to string
}

func (r *renamed) Adopt(ctx context.Context, like token.ObjectName) (token.Stored, error) {
	switch like.Label {
	case r.from:
		return token.Stored{}, token.ErrNotFound
	case r.to:
		s, err := r.Token.Adopt(ctx, token.ObjectName{Label: r.from})
		if err == nil {
			name := *s.Name
			name.Label = r.to
			s.Name = &name
		}
		return s, err
	}
	return r.Token.Adopt(ctx, like)
}

func (r *renamed) Key(s token.Stored) (token.Key, error) {
	if s.Name != nil && s.Name.Label == r.from {
		return nil, token.ErrNotFound
	}
	if s.Name != nil && s.Name.Label == r.to {
		name := *s.Name
		name.Label = r.from
		s.Name = &name
	}
	return r.Token.Key(s)
}

// An object whose key knows it by another name takes its place again, if it has the
// same public key and the former one is gone. Anything else is refused and changes nothing.
func TestAdoptAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for _, o := range []struct {
		typ   token.Type
		label string
	}{{token.P256, "pair"}, {token.P256, "other"}, {token.AES256, "data"}, {token.AES256, "data2"}} {
		e.foreign(o.typ, o.label, []byte(o.label))
	}
	for _, name := range []string{"pair", "data"} {
		_, err := e.adoptKey(bg, call(), &api.AdoptKey{Name: name, Label: name})
		must(t, err)
	}
	sig, err := e.sign(bg, call(), &api.Sign{Name: "pair", Input: []byte("m")})
	must(t, err)
	again := func(label string) error {
		_, err := e.adoptKey(bg, call(), &api.AdoptKey{Name: "pair", Label: label})
		return err
	}
	wantFault(t, again("other"), fault.Conflict, "is not of this object")
	e.hsm.Token = &renamed{Token: e.hsm.Token, from: "pair", to: "moved"}
	wantFault(t, again("other"), fault.Conflict, "public key of a version whose object is gone")
	for range 2 {
		must(t, again("moved"))
		e.restart()
	}
	v, err := e.verify(bg, call(), &api.Verify{Name: "pair", Input: []byte("m"), Signature: sig.Signature})
	if must(t, err); !*v.Valid {
		t.Error("another key took the place")
	}
	_, err = e.sign(bg, call(), &api.Sign{Name: "pair", Input: []byte("m")})
	must(t, err)
	_, err = e.adoptKey(bg, call(), &api.AdoptKey{Name: "data", Label: "data2"})
	wantFault(t, err, fault.Conflict, "is not of this object")
}

func TestListObjects(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	e.foreign(token.P256, "signer", []byte{1})
	e.makeAs(api.CreateKey{Name: "own", Protection: "token", Type: "ecdsa-p256"})
	list, err := e.listObjects(bg, nil, &api.HSMObjects{})
	must(t, err)
	seen := map[string]api.HSMObject{}
	for _, o := range list.Objects {
		seen[o.Label] = o
	}
	if o := seen["signer"]; o.ID != "01" || o.Class != "private" || o.Type != "ecdsa-p256" || o.UsedBy != "" || !o.Sensitive || o.Extractable || !slices.Equal(o.Uses, []string{"sign"}) {
		t.Errorf("%+v", o)
	}
	if o := seen["transit/own"]; o.UsedBy != "transit/own" || o.Type != "" {
		t.Errorf("%+v", o)
	}
	if o := seen["claviger-kek"]; o.Type != "" || o.Note == "" || list.More {
		t.Errorf("%+v", o)
	}
	list, err = e.listObjects(bg, nil, &api.HSMObjects{Limit: 1})
	if must(t, err); len(list.Objects) != 1 || !list.More {
		t.Errorf("%+v", list)
	}
	for _, r := range []api.HSMObjects{{Limit: -1}, {Limit: 10001}, {ID: "0"}, {Class: "x"}} {
		_, err := e.listObjects(bg, nil, &r)
		wantFault(t, err, fault.Invalid, "")
	}
}

// What the fronts of older systems do, with keys that they made and adopted.
func TestLegacy(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	object := token.ObjectName{Label: "random_test/rsa", ID: []byte{0, 0x80}}
	create := func(name string, typ token.Type) error {
		return e.CreateObject(bg, "old/", name, typ, 0, object)
	}
	must(t, create("rsa", token.RSA2048))
	must(t, create("aes", token.AES128)) // the same name: another class
	wantFault(t, create("again", token.RSA2048), fault.Conflict, "has an object")
	wantFault(t, create("rsa", token.RSA2048), fault.Conflict, "exists already")
	wantFault(t, e.CreateObject(bg, "old/", "k", token.AES128, 0, token.ObjectName{}), fault.Invalid, "needs a label")
	wantFault(t, e.CreateObject(bg, "old/", "k", token.ChaCha20, 0, object), fault.Invalid, "can't hold")
	rsaRef, aesRef := Ref{Mount: "old/", Name: "rsa"}, Ref{Mount: "old/", Name: "aes", Version: 1}
	for range 2 {
		pub, err := e.PublicKey(bg, rsaRef)
		must(t, err)
		public := pub.(*rsa.PublicKey)
		ct := tokentest.EncryptPKCS1v15(t, public, []byte("foobar"))
		if p, err := e.DecryptPKCS1v15(bg, rsaRef, ct); err != nil || string(p) != "foobar" {
			t.Errorf("%q %v", p, err)
		}
		ct, err = rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, public, []byte("foobar"), nil)
		must(t, err)
		if p, err := e.DecryptOAEP(bg, rsaRef, crypto.SHA1, ct, nil); err != nil || string(p) != "foobar" {
			t.Errorf("%q %v", p, err)
		}
		if p, err := e.DecryptPKCS1v15(bg, rsaRef, ct); err == nil && string(p) == "foobar" {
			t.Error("another padding was taken")
		}
		_, err = e.DecryptPKCS1v15(bg, rsaRef, ct[1:])
		wantFault(t, err, fault.Invalid, msgOpen)
		digest := sha256.Sum256([]byte("m"))
		sig, err := e.SignPKCS1v15(bg, rsaRef, crypto.SHA256, digest[:])
		must(t, err)
		must(t, rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig))
		iv := bytes.Repeat([]byte{7}, 16)
		sealed, err := e.EncryptCBC(bg, aesRef, iv, []byte("text"))
		must(t, err)
		if p, err := e.DecryptCBC(bg, aesRef, iv, sealed); err != nil || string(p) != "text" {
			t.Errorf("%q %v", p, err)
		}
		e.restart()
	}
	_, err := e.DecryptCBC(bg, rsaRef, make([]byte, 16), make([]byte, 16))
	wantFault(t, err, fault.Invalid, "in this way")
	_, err = e.DecryptCBC(bg, aesRef, make([]byte, 12), make([]byte, 16))
	wantFault(t, err, fault.Invalid, "needs 16")
	_, err = e.DecryptCBC(bg, aesRef, make([]byte, 16), make([]byte, 15))
	wantFault(t, err, fault.Invalid, msgOpen)
	_, err = e.PublicKey(bg, aesRef)
	wantFault(t, err, fault.Invalid, "no public half")
	_, err = e.PublicKey(bg, Ref{Mount: "old/", Name: "rsa", Version: 2})
	wantFault(t, err, fault.Invalid, "no version 2")
	_, err = e.PublicKey(bg, Ref{Mount: "old/", Name: "none"})
	wantFault(t, err, fault.NotFound, "no key named")
	must(t, e.Unmount(bg, "old/"))
	if n := e.there(object.Label); n != 0 || e.count(tableIntents) != 0 || e.count(tableKeys) != 0 {
		t.Errorf("%d objects, %d intents, %d keys", n, e.count(tableIntents), e.count(tableKeys))
	}
}

// AES key, IV and ciphertext that another implementation made.
func TestLegacyCBCVector(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	must(t, e.importAs(api.ImportKey{Name: "k", Type: "aes128-gcm96", Ciphertext: e.wrap(crypto.SHA256.New, unhex(t, "000102030405060708090a0b0c0d0e0f"))}))
	iv, sealed := unhex(t, "00112233445566778899aabbccddeeff"), unhex(t, "b61920811b03c3842728ddcfbf380316311d2dbfc60fb41c15ec8bfaba0e2e00")
	r := Ref{Mount: "transit/", Name: "k"}
	if p, err := e.DecryptCBC(bg, r, iv, sealed); err != nil || string(p) != "you are handsome man" {
		t.Errorf("%q %v", p, err)
	}
	if got, err := e.EncryptCBC(bg, r, iv, []byte("you are handsome man")); err != nil || !bytes.Equal(got, sealed) {
		t.Errorf("%x %v", got, err)
	}
}

// An object that is there, or that may be another's, survives every failure of a
// creation under its name.
func TestCreateObjectSparesOthers(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	object := token.ObjectName{Label: "theirs", ID: []byte{1}}
	// Another program makes it between the look and the creation, and the store
	// fails from then on.
	e.hsm.generate = func(spec token.Spec) error {
		if spec.Name == nil {
			return nil
		}
		e.foreign(token.AES128, object.Label, object.ID)
		e.db.hook(func(int64) (error, error) { return errBoom, nil })
		return nil
	}
	if err := e.CreateObject(bg, "old/", "k", token.AES128, 0, object); fault.KindOf(err) != fault.Conflict {
		t.Errorf("%v", err)
	}
	e.db.hook(nil)
	e.hsm.generate = nil
	if e.count(tableIntents) != 1 {
		t.Errorf("%d intents", e.count(tableIntents))
	}
	e.restart()
	if n := e.there("theirs"); n != 1 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents", n, e.count(tableIntents))
	}
	// What was made here goes with a creation that fails.
	e.db.hook(func(n int64) (error, error) {
		if n == 2 {
			return errBoom, nil
		}
		return nil, nil
	})
	if err := e.CreateObject(bg, "old/", "k", token.AES128, 0, token.ObjectName{Label: "ours"}); err == nil {
		t.Error("the store failed, and the key was made")
	}
	e.db.hook(nil)
	e.restart()
	if n := e.there("ours"); n != 0 || e.count(tableIntents) != 0 {
		t.Errorf("%d objects, %d intents", n, e.count(tableIntents))
	}
}

// A record of the first release has no object names and reads as before.
func TestRecordsWithoutObjects(t *testing.T) {
	t.Parallel()
	r := secretRecord{Type: token.AES256, Place: api.ProtectionToken, ID: strings.Repeat("0a", 16)}
	if s, err := r.stored(); err != nil || s.Name != nil {
		t.Errorf("%+v %v", s, err)
	}
	e := newEnv(t, true)
	e.makeAs(api.CreateKey{Name: "k", Protection: "token"})
	raw, err := e.db.List(context.Background(), tableKeys, "", "", 0)
	must(t, err)
	var k keyRecord
	if _, err := e.sealed.Get(bg, tableKeys, raw[0].Key, &k); errors.Is(err, store.ErrNotFound) || k.Adopted {
		t.Errorf("%+v %v", k, err)
	}
}

func FuzzObjectName(f *testing.F) {
	f.Add("label", "00ff", "private")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, label, id, class string) {
		n, err := objectName(label, id, class)
		if err != nil {
			wantFault(t, err, fault.Invalid, "")
			return
		}
		if len(n.ID) > token.MaxObjectID || len(n.Label) > token.MaxObjectLabel || len(n.ID) != len(id)/2 {
			t.Errorf("%+v", n)
		}
	})
}
