package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// onSoftHSM is a configuration with a SoftHSM2 of its own.
func onSoftHSM(t *testing.T) *config.Config {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	cfg := config.Dev(t.TempDir())
	cfg.Token.Driver = config.DriverPKCS11
	cfg.Token.PKCS11.Module, cfg.Token.PKCS11.Workers = module, 1
	name, value, _ := strings.Cut(env[0], "=")
	cfg.Token.PKCS11.Env = map[string]string{name: value}
	return cfg
}

// receive makes an HSM token with a PIN and, if from is given, the KEK of its token.
func receive(t *testing.T, cfg *config.Config, pin string, from *Server) {
	t.Helper()
	device, err := (&Server{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics()}).device(false)
	if err == nil {
		err = device.Create(t.Context(), []byte("so-"+pin), []byte(pin))
	}
	if err != nil {
		t.Fatal(err)
	}
	if from == nil {
		return
	}
	to, err := device.Open(t.Context(), []byte(pin))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	source, err := from.hsm.Get()
	if err != nil {
		t.Fatal(err)
	}
	var id token.ID
	rand.Read(id[:])
	kekek, err := to.(token.Carrier).MakeCarrier(t.Context(), token.MinKEKEK, id, "kekek")
	if err != nil {
		t.Fatal(err)
	}
	kek, err := source.(token.Carrier).CarryKEK(t.Context(), kekek.Public, kekek.Paddings)
	if err == nil {
		err = to.(token.Carrier).TakeKEK(t.Context(), id, "kekek", kek, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// saveTo keeps a snapshot of a server as a file.
func saveTo(t *testing.T, s *Server, root, dir string) string {
	t.Helper()
	req, err := http.NewRequest("GET", s.Addresses()[0]+"/v1/sys/storage/raft/snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", root)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	path := filepath.Join(dir, "snap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func second[T any](_ T, err error) error { return err }

func shareLines(all ...string) func(context.Context, int, int) ([]byte, error) {
	return func(_ context.Context, n, _ int) ([]byte, error) {
		if n > len(all) {
			return nil, errors.New("no more shares")
		}
		return []byte(all[n-1]), nil
	}
}

// Machine A is lost with its HSM token; B with a token that got the KEK serves what is
// old, unsealed by the same custodians.
func TestRestoreForNewHSM(t *testing.T) {
	t.Parallel()
	var init api.InitResult
	var snap string
	dir := t.TempDir()
	made := map[string]string{}
	good, other := onSoftHSM(t), onSoftHSM(t)
	const pin = "pin-of-the-new-hsm"
	t.Run("A", func(t *testing.T) {
		s := running(t, onSoftHSM(t), Options{})
		ok(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 3, SecretThreshold: 2, TransferableKEK: true}, &init)
		unseal(t, s, init.Keys[:2])
		for _, typ := range []string{"aes256-gcm96", "rsa-2048"} {
			ok(t, s, "POST", "transit/keys/"+typ, init.RootToken, map[string]any{"type": typ}, nil)
			var a struct{ Data api.Encrypted }
			ok(t, s, "POST", "transit/encrypt/"+typ, init.RootToken, map[string]any{"plaintext": "b2xk"}, &a)
			made[typ] = a.Data.Ciphertext
			ok(t, s, "PUT", "sys/rotate", init.RootToken, nil, nil)
		}
		ok(t, s, "POST", "transit/keys/p256", init.RootToken, map[string]any{"type": "ecdsa-p256"}, nil)
		snap = saveTo(t, s, init.RootToken, dir)
		receive(t, good, pin, s)
		receive(t, other, pin, nil)
	})
	restore := func(cfg *config.Config, pin string, share func(context.Context, int, int) ([]byte, error)) error {
		_, err := Restoring{File: SnapshotFile{Path: snap}, NewToken: true, Share: share,
			PIN: func(context.Context) ([]byte, error) { return []byte(pin), nil }}.Run(t.Context(), cfg)
		return err
	}
	foreign := base64.StdEncoding.EncodeToString(make([]byte, 40))
	for want, err := range map[string]error{
		"does not have the KEK":  restore(other, pin, shareLines(init.Keys...)),
		"the PIN was tried once": restore(good, "wrong-pin-of-hsm", shareLines(init.Keys...)),
		"no more shares":         restore(good, pin, shareLines(init.Keys[0])),
		"was given already":      restore(good, pin, shareLines(init.Keys[0], init.Keys[0])),
		"share":                  restore(good, pin, shareLines(foreign, foreign)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	rehearse := func(cfg *config.Config, share func(context.Context, int, int) ([]byte, error)) (*Rehearsal, error) {
		return Rehearsing{File: SnapshotFile{Path: snap}, NewToken: true, Share: share, Logger: slog.New(slog.DiscardHandler),
			PIN: func(context.Context) ([]byte, error) { return []byte(pin), nil }}.Run(t.Context(), cfg)
	}
	for want, err := range map[string]error{
		"does not have the KEK": second(rehearse(other, shareLines(init.Keys...))),
		"no more shares":        second(rehearse(good, shareLines(init.Keys[0]))),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rehearsal: %v, want %q", err, want)
		}
	}
	asked := 0
	once := func(ctx context.Context, n, needed int) ([]byte, error) {
		if asked++; asked != n {
			t.Errorf("share %d is asked for as the %d. one", n, asked)
		}
		return shareLines(init.Keys[1], init.Keys[2])(ctx, n, needed)
	}
	if r, err := rehearse(good, once); err != nil || len(r.Failed) != 0 || r.Proved != 3 {
		t.Errorf("rehearsal: %+v %v", r, err)
	}
	if _, err := os.Stat(good.Store.Path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("left of what was refused: %v", err)
	}
	if err := restore(good, pin, shareLines(init.Keys[2], init.Keys[0])); err != nil {
		t.Fatal(err, fault.HintOf(err))
	}
	good.Audit.Restart = true
	s := running(t, good, Options{})
	unseal(t, s, init.Keys[1:])
	for typ, text := range made {
		var a struct{ Data struct{ Plaintext string } }
		ok(t, s, "POST", "transit/decrypt/"+typ, init.RootToken, map[string]any{"ciphertext": text}, &a)
		if a.Data.Plaintext != "b2xk" {
			t.Errorf("%s: decrypted %q", typ, a.Data.Plaintext)
		}
	}
	ok(t, s, "POST", "transit/sign/p256", init.RootToken, map[string]any{"input": "b2xk"}, nil)
	ok(t, s, "PUT", "sys/rotate", init.RootToken, nil, nil)
	if _, err := (Rehearsing{File: SnapshotFile{Path: saveTo(t, s, init.RootToken, t.TempDir())}, Logger: slog.New(slog.DiscardHandler), Share: shareLines(init.Keys...)}).Run(t.Context(), good); err != nil {
		t.Errorf("a snapshot of B: %v", err)
	}
}
