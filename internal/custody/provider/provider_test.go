package provider

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/tpm/tpmtest"
)

type sealer interface {
	Name() string
	Seal(context.Context, []byte) ([]byte, error)
	Open(context.Context, []byte) ([]byte, error)
}

func newKey(t *testing.T) []byte {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

// roundTrip seals a key and opens it; the blob does not show it.
func roundTrip(t *testing.T, p sealer) (key, blob []byte) {
	t.Helper()
	key = newKey(t)
	blob, err := p.Seal(t.Context(), bytes.Clone(key))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(blob, key) {
		t.Error("the key shows")
	}
	back, err := p.Open(t.Context(), blob)
	if err != nil || !bytes.Equal(back, key) {
		t.Fatalf("opened %x, %v", back, err)
	}
	return key, blob
}

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != kind {
		t.Fatalf("%v; want a fault of kind %v", err, kind)
	}
	said := fault.Message(err) + " // " + fault.HintOf(err)
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%q does not say %q", said, w)
		}
	}
}

// flipped is b with one bit changed.
func flipped(b []byte, bit int) []byte {
	c := bytes.Clone(b)
	c[bit/8] ^= 1 << (bit % 8)
	return c
}

func TestTPM(t *testing.T) {
	t.Parallel()
	chip := tpmtest.New(t)
	p := &TPM{Device: chip.Device, PCRs: []int{7, 23}}
	if p.Name() != "tpm" {
		t.Error(p.Name())
	}
	_, blob := roundTrip(t, p)
	loose := &TPM{Device: chip.Device}
	key, open := roundTrip(t, loose)

	_, err := p.Open(t.Context(), []byte("{}"))
	wantKind(t, err, fault.Invalid)
	chip.Tool(t, "tpm2_pcrextend", "23:sha256="+strings.Repeat("01", 32))
	_, err = p.Open(t.Context(), blob)
	wantKind(t, err, fault.Conflict, "PCR 23", "--migrate")
	// One that does not ask for PCRs still opens, after a restart of the machine too.
	chip.Restart(t)
	if back, err := loose.Open(t.Context(), open); err != nil || !bytes.Equal(back, key) {
		t.Errorf("%v", err)
	}
	other := tpmtest.New(t)
	_, err = (&TPM{Device: other.Device}).Open(t.Context(), open)
	wantKind(t, err, fault.Conflict, "another TPM", "--migrate")
	chip.Tool(t, "tpm2_clear", "-c", "p")
	_, err = loose.Open(t.Context(), open)
	wantKind(t, err, fault.Conflict)
	chip.Stop()
	_, err = loose.Open(t.Context(), open)
	wantKind(t, err, fault.Unavailable)
	_, err = loose.Seal(t.Context(), key)
	wantKind(t, err, fault.Unavailable)
}

func TestCredential(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "claviger-unseal")
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &Credential{CredentialName: "claviger-unseal", Dir: dir}
	_, err := p.Seal(t.Context(), newKey(t))
	wantKind(t, err, fault.Conflict, "no systemd credential", "LoadCredentialEncrypted")
	secret := newKey(t)
	write(secret)
	_, blob := roundTrip(t, p)
	for bit := range len(blob) * 8 {
		if _, err := p.Open(t.Context(), flipped(blob, bit)); fault.KindOf(err) != fault.Conflict {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	for n := range len(blob) {
		if _, err := p.Open(t.Context(), blob[:n]); fault.KindOf(err) != fault.Conflict {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	write(newKey(t))
	_, err = p.Open(t.Context(), blob)
	wantKind(t, err, fault.Conflict, "not the one", "--migrate")
	for _, n := range []int{0, 31, 4097} {
		write(make([]byte, n))
		_, err = p.Open(t.Context(), blob)
		wantKind(t, err, fault.Conflict, "32 to 4096")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = p.Open(t.Context(), blob)
	wantKind(t, err, fault.Unavailable)
}

// credentialVector is Credential.Seal of "the key of an envelope, 32 bytes" under the
// credential "0123456789abcdef" twice, made by other software.
const credentialVector = "000102030405060708090a0b9434d684bdb3992cec3d75994c0244d8690fb171c9a4de09d7669b8b3efd3c273c6c4560193a7e6d9d00c5c5ae3b0098"

// TestCredentialVector: what was sealed once opens for ever.
func TestCredentialVector(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	p := &Credential{CredentialName: "c"}
	_, err := p.Open(t.Context(), nil)
	wantKind(t, err, fault.Conflict, "CREDENTIALS_DIRECTORY", "systemd unit")
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "c"), []byte(strings.Repeat("0123456789abcdef", 2)), 0o600); err != nil {
		t.Fatal(err)
	}
	blob, err := hex.DecodeString(credentialVector)
	if err != nil {
		t.Fatal(err)
	}
	key, err := p.Open(t.Context(), blob)
	if err != nil || string(key) != "the key of an envelope, 32 bytes" {
		t.Errorf("%q, %v", key, err)
	}
}

// newAEAD is a KMS whose key is in memory.
func newAEAD(t *testing.T, key []byte) *KMS {
	t.Helper()
	return &KMS{name: "aead", make: func() wrapping.Wrapper {
		w := aead.NewWrapper()
		if err := w.SetAesGcmKeyBytes(key); err != nil {
			t.Error(err)
		}
		return configured{w}
	}}
}

// configured has its key already.
type configured struct{ *aead.Wrapper }

func (configured) SetConfig(context.Context, ...wrapping.Option) (*wrapping.WrapperConfig, error) {
	return nil, nil
}

// hanging never answers.
type hanging struct{ configured }

func (hanging) Decrypt(context.Context, *wrapping.BlobInfo, ...wrapping.Option) ([]byte, error) {
	select {}
}

func TestKMS(t *testing.T) {
	t.Parallel()
	p := newAEAD(t, newKey(t))
	key, blob := roundTrip(t, p)
	_, err := newAEAD(t, newKey(t)).Open(t.Context(), blob)
	wantKind(t, err, fault.Unavailable, "the KMS refused")
	_, err = p.Open(t.Context(), []byte("\xff\xff"))
	wantKind(t, err, fault.Conflict, "altered")
	for bit := range len(blob) * 8 {
		if back, err := p.Open(t.Context(), flipped(blob, bit)); err == nil && !bytes.Equal(back, key) {
			t.Fatalf("bit %d: another key", bit)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hang := &KMS{name: "hang", make: func() wrapping.Wrapper { return hanging{} }}
	_, err = hang.Open(ctx, blob)
	wantKind(t, err, fault.Unavailable, "did not answer")
	if _, err := NewKMS("aead", nil); err == nil {
		t.Error("a KMS that is none")
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "c"), bytes.Repeat([]byte("s"), 32), 0o600); err != nil {
		f.Fatal(err)
	}
	w := aead.NewWrapper()
	if err := w.SetAesGcmKeyBytes(make([]byte, 32)); err != nil {
		f.Fatal(err)
	}
	all := []sealer{
		&Credential{CredentialName: "c", Dir: dir}, &TPM{Device: "/nonexistent"},
		&KMS{name: "aead", make: func() wrapping.Wrapper { return configured{w} }},
	}
	f.Add([]byte(`{"format":"claviger-tpm-sealed-1"}`))
	f.Add([]byte("\x0a\x10"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		for _, p := range all {
			if _, err := p.Open(t.Context(), blob); err == nil {
				t.Fatalf("%s opened %x", p.Name(), blob)
			}
		}
	})
}
