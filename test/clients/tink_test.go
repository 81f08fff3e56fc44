package clients

import (
	"bytes"
	"net/url"
	"testing"

	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/claviger/claviger/test/harness"
)

// TestTink encrypts with Tink's hcvault: by the server, by an envelope, and a
// keyset that lies on a disk.
func TestTink(t *testing.T) {
	onTokensParallel(t, func(t *testing.T, s *harness.Server) {
		for _, typ := range []string{"aes256-gcm96", "chacha20-poly1305"} {
			// SoftHSM2 has no ChaCha20.
			protection := map[bool]string{true: "software"}[typ == "chacha20-poly1305"]
			s.OK(t, "POST", "transit/keys/"+typ, map[string]any{"type": typ, "protection": protection})
			remote := tinkAEAD(t, s, typ)
			tinkRoundTrip(t, remote, []byte("associated"))
			tinkRoundTrip(t, remote, nil)
			tinkRoundTrip(t, aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote), []byte("associated"))
			tinkKeyset(t, remote)
		}
		s.OK(t, "POST", "transit/keys/derived", map[string]any{"derived": true, "protection": "software"})
		tinkRoundTrip(t, tinkAEAD(t, s, "derived", hcvault.WithLegacyContextParamater()), []byte("context"))
	})
}

func tinkAEAD(t *testing.T, s *harness.Server, key string, opts ...hcvault.AEADOption) tink.AEAD {
	t.Helper()
	addr, err := url.Parse(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	prefix := "hcvault://" + addr.Host + "/"
	c, err := hcvault.NewClientWithAEADOptions(prefix, vaultClient(t, s.Addr, s.RootToken).Logical(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.GetAEAD(prefix + "transit/keys/" + key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tinkRoundTrip(t *testing.T, a tink.AEAD, associated []byte) {
	t.Helper()
	for _, plaintext := range [][]byte{{}, []byte("hello"), make([]byte, 10_000)} {
		sealed, err := a.Encrypt(plaintext, associated)
		if err != nil {
			t.Fatalf("encrypting: %v", err)
		}
		opened, err := a.Decrypt(sealed, associated)
		if err != nil || !bytes.Equal(opened, plaintext) {
			t.Errorf("decrypted %d bytes as %d: %v", len(plaintext), len(opened), err)
		}
		if _, err := a.Decrypt(sealed, []byte("other")); err == nil {
			t.Error("decrypted with other associated data")
		}
		if _, err := a.Decrypt(append(bytes.Clone(sealed[:len(sealed)-4]), "AAAA"...), associated); err == nil {
			t.Error("an altered ciphertext was decrypted")
		}
	}
}

// tinkKeyset writes a keyset encrypted, reads it, and uses it.
func tinkKeyset(t *testing.T, master tink.AEAD) {
	t.Helper()
	handle, err := keyset.NewHandle(aead.AES128GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&file), master, []byte("keyset")); err != nil {
		t.Fatalf("writing the keyset: %v", err)
	}
	read, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(&file), master, []byte("keyset"))
	if err != nil {
		t.Fatalf("reading the keyset: %v", err)
	}
	a, err := aead.New(read)
	if err != nil {
		t.Fatal(err)
	}
	tinkRoundTrip(t, a, []byte("associated"))
}
