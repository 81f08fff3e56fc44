package hsmdaemon

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
)

// door stands in the guard's place: it keeps keys in memory, and records calls.
type door struct {
	mu    sync.Mutex
	keys  map[string]*rsa.PrivateKey
	token map[string]*rsa.PrivateKey // by CKA_ID in hex: not adopted yet
	calls []string
	err   error         // of every call
	block chan struct{} // a call waits for it
}

func newDoor() *door {
	return &door{keys: map[string]*rsa.PrivateKey{}, token: map[string]*rsa.PrivateKey{}}
}

func (d *door) Handle(ctx context.Context, req *guard.Request) (*guard.Answer, error) {
	d.mu.Lock()
	block := d.block
	d.calls = append(d.calls, req.Verb.String()+" "+req.Path+" as "+req.As.Name())
	d.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "too late")
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	data, err := d.perform(req)
	if err != nil {
		return nil, err
	}
	return &guard.Answer{Data: data}, nil
}

func (d *door) perform(req *guard.Request) (any, error) {
	parts := strings.Split(req.Path, "/")
	name := parts[2]
	switch {
	case strings.HasPrefix(req.Path, "transit/legacy/keys/"):
		var r api.CreateLegacyKey
		if _, err := req.Decode(&r); err != nil {
			return nil, err
		}
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		name = parts[3]
		d.keys[name] = key
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		return &api.LegacyKey{Name: name, Label: r.Label, ID: r.ID, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, err
	case strings.HasPrefix(req.Path, "transit/legacy/decrypt/"):
		var r api.LegacyDecrypt
		if _, err := req.Decode(&r); err != nil {
			return nil, err
		}
		key := d.keys[parts[3]]
		if key == nil {
			return nil, fault.New(fault.NotFound, "encryption key not found")
		}
		//lint:ignore SA1019 the door stands in the place of a real decryption
		plaintext, err := rsa.DecryptPKCS1v15(nil, key, r.Ciphertext)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "of these details %v nothing may be told", err)
		}
		return &api.LegacyDecrypted{Plaintext: plaintext}, nil
	case strings.HasSuffix(req.Path, "/adopt"):
		var r api.AdoptKey
		if _, err := req.Decode(&r); err != nil {
			return nil, err
		}
		if d.token[r.ID] == nil {
			return nil, fault.New(fault.NotFound, "the HSM token has no such key")
		}
		d.keys[name] = d.token[r.ID]
		return &api.Key{Name: name}, nil
	}
	return nil, fault.New(fault.NotFound, "unsupported path")
}

func (d *door) add(name string, key *rsa.PrivateKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[name] = key
}

func (d *door) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

func (d *door) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

const testSecret = "7a7d1826-b514-4d9f-afc7-a7485084e8de"

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFront(t testing.TB, change ...func(*Options)) (*Front, *door, *lockedLog) {
	t.Helper()
	d, log := newDoor(), &lockedLog{}
	id, err := guard.NewIdentity("front/hsmdaemon", nil, Policy("transit/"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Door: d, As: id, Mount: "transit/", Secret: []byte(testSecret), Leeway: 10 * time.Second,
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, c := range change {
		c(&o)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f, d, log
}

func TestNewNeeds(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("a front without a door was made")
	}
}
