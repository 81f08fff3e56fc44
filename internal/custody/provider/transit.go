package provider

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/fault"
)

// transitTimeout bounds one call with its repetitions.
const transitTimeout = 20 * time.Second

// Transit encrypts with a key of the transit engine of another server: Claviger,
// OpenBao or Vault.
type Transit struct {
	Address string
	// CACert is a PEM file of the only authorities to trust, ClientCert and ClientKey
	// show who this server is; "" for none.
	CACert, ClientCert, ClientKey string
	// TokenFile holds the client token on its first line. It is read at each call.
	TokenFile string
	Mount     string
	Key       string
}

// Name returns "transit".
func (t *Transit) Name() string { return "transit" }

// Seal returns the ciphertext that the other server gave.
func (t *Transit) Seal(ctx context.Context, key []byte) ([]byte, error) {
	c, err := t.client()
	if err != nil {
		return nil, err
	}
	r, err := c.Encrypt(ctx, api.Encrypt{Name: t.Key, Plaintext: key})
	if err == nil && r.Ciphertext == "" {
		err = errors.New("the answer has no ciphertext")
	}
	if err != nil {
		return nil, t.explain(err)
	}
	return []byte(r.Ciphertext), nil
}

// Open is the reverse of Seal.
func (t *Transit) Open(ctx context.Context, blob []byte) ([]byte, error) {
	c, err := t.client()
	if err != nil {
		return nil, err
	}
	r, err := c.Decrypt(ctx, api.Decrypt{Name: t.Key, Ciphertext: string(blob)})
	if err == nil && r.Plaintext == nil {
		err = errors.New("the answer has no plaintext")
	}
	if err != nil {
		return nil, t.explain(err)
	}
	return *r.Plaintext, nil
}

// Renew prolongs the client token, so that the next start finds it valid.
func (t *Transit) Renew(ctx context.Context) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	if _, err := c.RenewSelf(ctx, 0); err != nil {
		return t.explain(err)
	}
	return nil
}

func (t *Transit) client() (*client.Client, error) {
	token, err := os.ReadFile(t.TokenFile)
	if err != nil {
		return nil, fault.Wrap(fault.Denied, err, "the file with the client token for %s can't be read", t.Address)
	}
	line, _, _ := bytes.Cut(token, []byte("\n"))
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return nil, fault.New(fault.Denied, "the file with the client token for %s is empty", t.Address)
	}
	c, err := client.New(client.Config{
		Address: t.Address, Token: string(line), Mount: t.Mount, Timeout: transitTimeout,
		CACert: t.CACert, ClientCert: t.ClientCert, ClientKey: t.ClientKey,
	})
	clear(token)
	return c, fault.Wrap(fault.Invalid, err, "the transit engine at %s can't be called", t.Address)
}

// explain says whose turn it is.
func (t *Transit) explain(err error) error {
	e, answered := errors.AsType[*api.Error](err)
	if !answered {
		return fault.Wrap(fault.Unavailable, err, "the server %s did not answer", t.Address)
	}
	switch {
	case e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized:
		return (&fault.Error{Kind: fault.Denied, Err: err,
			Msg: "the server " + t.Address + " refuses the client token for the key " + t.Key}).
			WithHint("put a valid one into the token file: a periodic one whose policy allows update of %s/encrypt/%s and %s/decrypt/%s", t.Mount, t.Key, t.Mount, t.Key)
	case e.Status == http.StatusServiceUnavailable:
		return fault.Wrap(fault.Unavailable, err, "the server %s is sealed", t.Address)
	case e.Status >= 500 || e.Status == http.StatusTooManyRequests:
		return fault.Wrap(fault.Unavailable, err, "the server %s failed", t.Address)
	}
	return (&fault.Error{Kind: fault.Conflict, Err: err,
		Msg: "the key " + t.Key + " of the server " + t.Address + " can't do it: it was deleted, or is another than it was"}).
		WithHint("restore that key, or give the recovery shares with migrate (claviger unseal --migrate)")
}
