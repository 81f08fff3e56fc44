package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func TestP11Create(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	k := e.p11(api.P11Create{Name: "k", Type: "rsa-2048", Label: "the label", ID: []byte("id"), Subject: []byte{0x30, 0}})
	if k.Name != "k" || k.Label != "the label" || string(k.ID) != "id" || k.Type != "rsa-2048" || len(k.KeyID) != 32 || k.Imported || k.Deletable || k.Session ||
		!bytes.Equal(k.Subject, []byte{0x30, 0}) || fmt.Sprint(k.May) != "[sign decrypt change delete]" || string(k.Versions[0].ID) != "id" {
		t.Errorf("%+v", k)
	}
	if h := e.p11(api.P11Create{Name: "h", Type: "hmac", KeySize: 32, Label: "h", Deletable: true, Protection: api.ProtectionSoftware}); h.KeySize != 32 ||
		h.Label != "" || !h.Deletable || h.Protection != api.ProtectionSoftware || h.Versions[0].Public != nil || len(h.Versions[0].ID) != idSize {
		t.Errorf("%+v", h)
	}
	_, err := e.p11Create(ctx, everything(), &api.P11Create{Name: "k", Type: "ed25519"})
	wantFault(t, err, fault.Conflict, "exists already")
	e.restart()
	again := e.found(everything(), api.P11Find{Label: ptr("the label")}).Keys
	if fmt.Sprintf("%+v", again[0]) != fmt.Sprintf("%+v", *k) {
		t.Errorf("%+v\n%+v", again[0], *k)
	}
}

func TestP11CreateRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	for text, r := range map[string]api.P11Create{
		"it must be aes128-gcm96":        {Name: "k", Type: "chacha20-poly1305"},
		`type ""`:                        {Name: "k"},
		"no name for a key":              {Name: "a b", Type: "ed25519"},
		"label has 256":                  {Name: "k", Type: "ed25519", Label: strings.Repeat("x", 256)},
		"id has 65":                      {Name: "k", Type: "ed25519", ID: make([]byte, 65)},
		"subject is no":                  {Name: "k", Type: "ed25519", Subject: []byte{0x30, 1}},
		"subject has":                    {Name: "k", Type: "ed25519", Subject: make([]byte, maxSubject+1)},
		"key_size is for":                {Name: "k", Type: "ed25519", KeySize: 32},
		`use "encrypt"`:                  {Name: "k", Type: "ecdsa-p256", Uses: []string{"encrypt"}},
		"uses are for":                   {Name: "k", Type: "ed25519", Uses: []string{"sign"}},
		"the name of a key of":           {Name: "k", Type: "ed25519", Session: true},
		"no other key has such":          {Name: sessionName("a"), Type: "ed25519"},
		"session- and 32 random hex":     {Name: "session-xy", Type: "ed25519", Session: true},
		"the HSM token \"test hsm\" can": {Name: "k", Type: "ed25519", Protection: api.ProtectionWrapped},
	} {
		_, err := e.p11Create(context.Background(), everything(), &r)
		wantFault(t, err, fault.Invalid, text)
	}
	if n := e.count(tableKeys) + len(e.hsm.ids()); n != 0 {
		t.Errorf("%d things were made", n)
	}
}

// A key for PKCS#11's ciphers takes no part in transit's, and one for agreement
// signs nothing.
func TestP11Purposes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	e.p11(api.P11Create{Name: "aes", Type: "aes256-gcm96"})
	_, err := e.encrypt(ctx, call(), &api.Encrypt{Name: "aes", Plaintext: []byte("x")})
	wantFault(t, err, fault.Invalid, "was made for PKCS#11")
	_, err = e.dataKey(ctx, call(), &api.DataKey{Name: "aes", Kind: "wrapped"})
	wantFault(t, err, fault.Invalid, "was made for PKCS#11")
	e.p11(api.P11Create{Name: "both", Type: "ecdsa-p256", Uses: []string{"agree", "sign"}})
	e.p11(api.P11Create{Name: "agree", Type: "ecdsa-p256", Uses: []string{"agree"}})
	_, err = e.sign(ctx, call(), &api.Sign{Name: "agree", Input: []byte("x")})
	wantFault(t, err, fault.Invalid, "for key agreement only")
	_, err = e.sign(ctx, call(), &api.Sign{Name: "both", Input: []byte("x")})
	must(t, err)
	got := ""
	for _, k := range e.found(everything(), api.P11Find{}).Keys {
		got += fmt.Sprint(k.Name, k.May)
	}
	if got != "aes[encrypt decrypt change delete]agree[agree change delete]both[sign agree change delete]" {
		t.Error(got)
	}
}

func TestP11Settings(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	e.make("k", "ecdsa-p256")
	e.makeAs(api.CreateKey{Name: "derived", Type: "aes256-gcm96", Derived: true, Protection: api.ProtectionSoftware})
	set := func(r api.P11Settings) (*api.P11Key, error) { return e.p11Settings(ctx, everything(), &r) }
	_, err := set(api.P11Settings{Name: "k", Label: ptr("l")})
	must(t, err)
	k, err := set(api.P11Settings{Name: "k", ID: ptr([]byte{1, 2})})
	must(t, err)
	if k.Label != "l" || !bytes.Equal(k.ID, []byte{1, 2}) {
		t.Errorf("%+v", k)
	}
	n := e.db.n.Load()
	if k, err = set(api.P11Settings{Name: "k"}); err != nil || k.Label != "l" || e.db.n.Load() != n {
		t.Errorf("an empty request: %+v, %v", k, err)
	}
	if k, err = set(api.P11Settings{Name: "k", Label: ptr(""), ID: ptr([]byte{})}); err != nil || k.Label != "" || len(k.ID) != 0 || len(k.Versions[0].ID) != idSize {
		t.Errorf("%+v, %v", k, err)
	}
	for text, r := range map[string]api.P11Settings{
		"key not found": {Name: "none", Label: ptr("x")},
		"label has":     {Name: "k", Label: ptr(strings.Repeat("x", 256))},
		"id has":        {Name: "k", ID: ptr(make([]byte, 65))},
		"subject is no": {Name: "k", Subject: ptr([]byte("CN=x"))},
		"no key of a":   {Name: "k", Keep: "other"},
		"no name for":   {Name: "k", Keep: "/"},
		"is derived":    {Name: "derived", Label: ptr("x")},
	} {
		_, err := set(r)
		wantFault(t, err, fault.Invalid, text)
	}
	if k, err = set(api.P11Settings{Name: "k"}); err != nil || k.Label != "" {
		t.Errorf("a refused request changed something: %+v, %v", k, err)
	}
}

// clocked returns an environment whose clock the test moves.
func clocked(t *testing.T, onHSM bool) (*env, *time.Time) {
	e := newEnv(t, onHSM)
	now := time.Now()
	e.Service.now = func() time.Time { return now }
	return e, &now
}

// sweep ends sessions and returns what was recorded.
func (e *env) sweep() (paths []string) {
	e.t.Helper()
	err := e.EndSessions(context.Background(), map[string]string{"moved/": "transit/"}, func(ctx context.Context, verb op.Verb, path string, _ any, do func(context.Context, *op.Call) (any, error)) error {
		paths = append(paths, verb.String()+" "+path)
		_, err := do(ctx, call())
		return err
	})
	must(e.t, err)
	return paths
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, now := clocked(t, true)
	name := sessionName("a")
	k := e.p11(api.P11Create{Name: name, Type: "ecdsa-p256", Session: true, Protection: api.ProtectionToken})
	if !k.Session || !k.Deletable {
		t.Errorf("%+v", k)
	}
	e.make("stays", "ecdsa-p256")
	e.finds(everything(), api.P11Find{}, name+" stays")
	list, err := e.listKeys(ctx, call(), nil)
	if err != nil || fmt.Sprint(list.Keys) != "[stays]" {
		t.Errorf("%v, %v", list, err)
	}
	*now = now.Add(9 * time.Minute)
	_, err = e.sign(ctx, call(), &api.Sign{Name: name, Input: []byte("x")})
	must(t, err)
	*now = now.Add(9 * time.Minute)
	_, err = e.p11Settings(ctx, everything(), &api.P11Settings{Name: name})
	must(t, err)
	*now = now.Add(9 * time.Minute)
	if ended := e.sweep(); ended != nil {
		t.Errorf("ended %v", ended)
	}
	// A restart counts as a use, an eviction from the cache does not.
	e.cache.reset()
	*now = now.Add(time.Minute)
	clock := e.Service.now
	e.restart()
	e.Service.now = clock
	if ended := e.sweep(); ended != nil {
		t.Errorf("ended %v", ended)
	}
	*now = now.Add(sessionLife - time.Second)
	e.cache.reset()
	e.finds(everything(), api.P11Find{}, name+" stays")
	if ended := e.sweep(); ended != nil {
		t.Errorf("ended %v", ended)
	}
	*now = now.Add(time.Second)
	if ended := e.sweep(); fmt.Sprint(ended) != "[delete moved/keys/"+name+"]" {
		t.Errorf("ended %v", ended)
	}
	e.finds(everything(), api.P11Find{}, "stays")
	if e.count(tableSessions) != 0 || e.count(tableKeys) != 1 || e.count(tableIntents) != 0 {
		t.Error("something is left")
	}
	*now = now.Add(time.Hour)
	if ended := e.sweep(); ended != nil {
		t.Errorf("ended %v", ended)
	}
}

// A key that is used while the server is about to end it stays.
func TestSessionUsedMeanwhile(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, now := clocked(t, false)
	name := sessionName("b")
	e.p11(api.P11Create{Name: name, Type: "ed25519", Session: true})
	*now = now.Add(sessionLife)
	err := e.EndSessions(ctx, map[string]string{"transit/": "transit/"}, func(ctx context.Context, _ op.Verb, _ string, _ any, do func(context.Context, *op.Call) (any, error)) error {
		_, err := e.sign(ctx, call(), &api.Sign{Name: name, Input: []byte("x")})
		must(t, err)
		_, err = do(ctx, call())
		wantFault(t, err, fault.Conflict, "meanwhile")
		return err
	})
	must(t, err)
	e.finds(everything(), api.P11Find{}, name)
	must(t, e.Unmount(ctx, "transit/"))
	if e.count(tableSessions) != 0 {
		t.Error("a session is left")
	}
}

func TestSessionKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, digit := range []string{"0", "f"} { // names before and after the new one
		e, now := clocked(t, true)
		name := sessionName(digit)
		made := e.p11(api.P11Create{Name: name, Type: "ecdsa-p256", Session: true, ID: []byte{9}})
		e.rotateNow(name)
		e.configure(name, api.ConfigKey{AutoRotatePeriod: ptr(api.Seconds(3600))})
		sig, err := e.sign(ctx, call(), &api.Sign{Name: name, Input: []byte("x")})
		must(t, err)
		e.make("taken", "ed25519")
		new := "session-kept"
		r := &api.P11Settings{Name: name, Keep: new, Label: ptr("l")}
		_, err = e.p11Settings(ctx, judged("write transit/pkcs11/"+name), r)
		wantFault(t, err, fault.Denied, "pkcs11/"+new+"/create")
		_, err = e.p11Settings(ctx, everything(), &api.P11Settings{Name: name, Keep: "taken"})
		wantFault(t, err, fault.Conflict, "exists already")
		_, err = e.p11Settings(ctx, everything(), &api.P11Settings{Name: name, Keep: sessionName("9")})
		wantFault(t, err, fault.Invalid, "choose another")
		e.finds(everything(), api.P11Find{}, name+" taken")
		// A crash leaves one or the other.
		e.db.hook(func(int64) (before, after error) { return errBoom, nil })
		if _, err = e.p11Settings(ctx, everything(), r); !errors.Is(err, errBoom) {
			t.Fatal(err)
		}
		e.db.hook(nil)
		e.finds(everything(), api.P11Find{}, name+" taken")
		k, err := e.p11Settings(ctx, everything(), r)
		must(t, err)
		if k.Name != new || k.KeyID != made.KeyID || k.Session || k.Label != "l" || len(k.Versions) != 2 {
			t.Errorf("%+v", k)
		}
		for range 2 {
			if got, err := e.verify(ctx, call(), &api.Verify{Name: new, Input: []byte("x"), Signature: sig.Signature}); err != nil || !*got.Valid {
				t.Error("it is another key")
			}
			_, err = e.sign(ctx, call(), &api.Sign{Name: new, Input: []byte("x")})
			must(t, err)
			_, err = e.sign(ctx, call(), &api.Sign{Name: name, Input: []byte("x")})
			wantFault(t, err, fault.Invalid, msgNoSigningKey)
			e.finds(everything(), api.P11Find{Label: ptr("l"), ID: []byte{9}}, new)
			*now = now.Add(2 * sessionLife)
			if ended := e.sweep(); ended != nil {
				t.Errorf("ended %v", ended)
			}
			e.restart()
		}
		if e.count(tableKeys) != 2 || e.count(tableVersions) != 3 || e.count(tableSessions) != 0 || e.count(tableAutoRotate) != 2 {
			t.Error("something is left or missing")
		}
	}
}

// A backup of a session's key, once restored, is a key that stays.
func TestSessionRestored(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e, _ := clocked(t, false)
	e.p11(api.P11Create{Name: sessionName("c"), Type: "ed25519", Session: true, Label: "l"})
	b, err := e.backupKey(ctx, call(), &api.KeyName{Name: sessionName("c")})
	must(t, err)
	_, err = e.restoreKey(ctx, call(), &api.Restore{Name: sessionName("c"), Backup: b.Backup, Force: true})
	must(t, err)
	if k := e.found(everything(), api.P11Find{Label: ptr("l")}).Keys; len(k) != 1 || k[0].Session || e.count(tableSessions) != 0 {
		t.Errorf("%+v", k)
	}
}

func TestSessionsAreLimited(t *testing.T) {
	t.Parallel()
	e, _ := clocked(t, false)
	e.p11(api.P11Create{Name: sessionName("c"), Type: "ed25519", Session: true})
	ix, err := e.ready(context.Background(), "transit/", "transit/")
	must(t, err)
	if ix.passing != 1 {
		t.Fatal(ix.passing)
	}
	ix.passing = maxSessions
	_, err = e.p11Create(context.Background(), everything(), &api.P11Create{Name: sessionName("d"), Type: "ed25519", Session: true})
	wantFault(t, err, fault.Exhausted, "the most that are possible")
}
