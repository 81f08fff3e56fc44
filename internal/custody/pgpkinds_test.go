package custody

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/internal/pgp"
)

// Keys of all kinds that GnuPG makes are encrypted to, and GnuPG decrypts. Those that
// are expired, revoked or for signatures only are refused by their name, as is one
// whose subkey for encryption is.
func TestPGPKindsOfGnuPG(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	const uid = "Kind <kind@example.org>"
	for _, k := range []struct{ name, primary, sub string }{
		{"RSA 2048", "rsa2048", "rsa2048"},
		{"RSA 3072", "rsa3072", "rsa3072"},
		{"Curve25519", "ed25519", "cv25519"},
		{"NIST P-256", "nistp256", "nistp256"},
		{"NIST P-384", "nistp384", "nistp384"},
		{"NIST P-521", "nistp521", "nistp521"},
		{"brainpool P-256", "brainpoolP256r1", "brainpoolP256r1"},
	} {
		id := strings.ReplaceAll(k.name, " ", "") + " " + uid
		_, print := g.key(id, k.primary, "sign", "never")
		upper := strings.ToUpper(print)
		signOnly := g.run(nil, "--export", upper)
		g.run(nil, "--quick-add-key", upper, k.sub, "encr", "never")
		good := g.run(nil, "--export", upper)
		key, err := pgp.Parse(base64.StdEncoding.EncodeToString(good), time.Now())
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		message, err := key.Encrypt([]byte("a share"))
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		if got := g.run(message, "--decrypt"); string(got) != "a share" {
			t.Errorf("%s: %q", k.name, got)
		}
		g.run(nil, "--quick-set-expire", upper, "1d", "*")
		subExpires := g.run(nil, "--export", upper)
		g.run(nil, "--quick-set-expire", upper, "1d")
		expires := g.run(nil, "--export", upper)
		g.run(g.revocation(print), "--import")
		revoked := g.run(nil, "--export", upper)
		later := time.Now().Add(48 * time.Hour)
		for what, x := range map[string]struct {
			public []byte
			at     time.Time
			want   string
		}{
			"signing only":       {signOnly, time.Now(), "no part that is meant for encryption"},
			"subkey has expired": {subExpires, later, "expired"},
			"has expired":        {expires, later, "it has expired"},
			"was revoked":        {revoked, time.Now(), "it was revoked"},
		} {
			_, err := pgp.Parse(base64.StdEncoding.EncodeToString(x.public), x.at)
			if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), print) || !strings.Contains(err.Error(), id) {
				t.Errorf("%s, %s: %v", k.name, what, err)
			}
		}
	}
}

// The same with keys of the library, of version 6 too.
func TestPGPKindsOfLibrary(t *testing.T) {
	t.Parallel()
	made := time.Now().Add(-time.Hour)
	for _, k := range []struct {
		name   string
		config packet.Config
	}{
		{"v4 RSA", packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048}},
		{"v4 Curve25519", packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519}},
		{"v4 NIST", packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP384}},
		{"v6 RSA", packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048, V6Keys: true}},
		{"v6 X25519", packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true}},
		{"v6 X448", packet.Config{Algorithm: packet.PubKeyAlgoEd448, V6Keys: true}},
		{"v6 NIST", packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256, V6Keys: true}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			entity := func(lifetime uint32) *openpgp.Entity {
				c := k.config
				c.KeyLifetimeSecs, c.Time = lifetime, func() time.Time { return made }
				e, err := openpgp.NewEntity("Ada", "", "ada@example.org", &c)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			e := entity(0)
			key, err := pgp.Parse(serialized(t, e), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got := k.config.V6Keys; (len(key.Fingerprint) == 64) != got {
				t.Errorf("fingerprint %s", key.Fingerprint)
			}
			message, err := key.Encrypt([]byte("a share"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{e}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := got.ReadFrom(m.UnverifiedBody); err != nil || got.String() != "a share" {
				t.Errorf("%q, %v", got.String(), err)
			}

			old, signer, gone := entity(60), entity(0), entity(0)
			signer.Subkeys = nil
			if err := gone.Revoke(packet.KeyCompromised, "lost", &packet.Config{Time: func() time.Time { return made }}); err != nil {
				t.Fatal(err)
			}
			for want, e := range map[string]*openpgp.Entity{"it has expired": old, "no part that is meant for encryption": signer, "it was revoked": gone} {
				_, err := pgp.Parse(serialized(t, e), time.Now())
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `("Ada <ada@example.org>")`) {
					t.Errorf("%s: %v", want, err)
				}
			}
		})
	}
}

func serialized(t *testing.T, e *openpgp.Entity) string {
	t.Helper()
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(public.Bytes())
}
