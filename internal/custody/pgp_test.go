package custody

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pgp"
)

// gnupg is a GnuPG home of one test.
type gnupg struct {
	t    *testing.T
	home string
}

func newGnuPG(t *testing.T) *gnupg {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("GnuPG is not installed")
	}
	// The agent's socket needs a short path.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupg{t: t, home: home}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--homedir", home, "--kill", "all")
		if out, err := kill.CombinedOutput(); err != nil {
			t.Logf("gpgconf: %v: %s", err, out)
		}
		os.RemoveAll(home)
	})
	return g
}

func (g *gnupg) run(in []byte, args ...string) []byte {
	g.t.Helper()
	base := []string{"--homedir", g.home, "--batch", "--yes", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}
	cmd := exec.Command("gpg", append(base, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("gpg %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.Bytes()
}

// key makes a key and returns its public part and fingerprint.
func (g *gnupg) key(name, algo, usage, expire string) (public []byte, fingerprint string) {
	g.t.Helper()
	g.run(nil, "--quick-generate-key", name, algo, usage, expire)
	list := string(g.run(nil, "--with-colons", "--list-keys", name))
	for line := range strings.Lines(list) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return g.run(nil, "--export", name), strings.ToLower(f[9])
		}
	}
	g.t.Fatalf("no fingerprint in %s", list)
	return nil, ""
}

func TestInitPGP(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	var texts, prints []string
	for _, name := range []string{"first", "second", "third"} {
		public, fingerprint := g.key(name+"@example.org", "future-default", "default", "1y")
		texts = append(texts, base64.StdEncoding.EncodeToString(public))
		prints = append(prints, fingerprint)
	}
	_, rsaPrint := g.key("rsa@example.org", "rsa3072", "sign", "never")
	g.run(nil, "--quick-add-key", strings.ToUpper(rsaPrint), "rsa3072", "encr", "never")
	rsa := g.run(nil, "--export", "rsa@example.org")
	texts[1], prints[1] = string(g.run(nil, "--armor", "--export", "rsa@example.org")), rsaPrint
	texts[2] = base64.StdEncoding.EncodeToString(g.run(nil, "--armor", "--export", "third@example.org"))

	b := newBed(t)
	r, err := b.c.Init(t.Context(), &api.Init{SecretShares: 3, SecretThreshold: 2, PGPKeys: texts,
		RootTokenPGPKey: base64.StdEncoding.EncodeToString(rsa)})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.PGPFingerprints, prints) {
		t.Errorf("fingerprints %v, want %v", r.PGPFingerprints, prints)
	}
	var shares []string
	for i := range r.Keys {
		message, err := hex.DecodeString(r.Keys[i])
		if err != nil || base64.StdEncoding.EncodeToString(message) != r.KeysBase64[i] {
			t.Fatalf("message %d: hex and base64 differ: %v", i+1, err)
		}
		if packets := string(g.run(message, "--list-packets")); !strings.Contains(packets, ":pubkey enc packet:") {
			t.Errorf("message %d: %s", i+1, packets)
		}
		shares = append(shares, string(g.run(message, "--decrypt")))
	}
	message, err := base64.StdEncoding.DecodeString(r.RootToken)
	if err != nil || string(g.run(message, "--decrypt")) != rootToken {
		t.Errorf("root token: %v", err)
	}
	if s := b.give(shares[2], shares[1]); s.Sealed {
		t.Error("the decrypted shares do not unseal")
	}
}

func TestInitPGPRefused(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	b64 := base64.StdEncoding.EncodeToString
	good, _ := g.key("good@example.org", "future-default", "default", "never")
	signer, signerPrint := g.key("signer@example.org", "ed25519", "sign", "never")
	_, gonePrint := g.key("gone@example.org", "future-default", "default", "never")
	revoke := g.revocation(gonePrint)
	g.run(revoke, "--import")
	expired, expiredPrint := g.expired()

	b := newBed(t)
	for name, c := range map[string]struct {
		keys []string
		root string
		want string
	}{
		"too few":       {keys: []string{b64(good)}, want: "1 pgp_keys for 2"},
		"too many":      {keys: []string{b64(good), b64(good), b64(good)}, want: "3 pgp_keys for 2"},
		"no base64":     {keys: []string{b64(good), "!!"}, want: "key 2 of 2: it is neither base64"},
		"empty":         {keys: []string{"", b64(good)}, want: "key 1 of 2: it is neither base64"},
		"no key":        {keys: []string{b64([]byte("not a key")), b64(good)}, want: "key 1 of 2: it is no OpenPGP public key"},
		"broken armor":  {keys: []string{"-----BEGIN PGP " + "PUBLIC KEY BLOCK-----\n\nAAAA", b64(good)}, want: "key 1 of 2: it is no OpenPGP public key"},
		"cut":           {keys: []string{b64(good), b64(good[:len(good)/2])}, want: "key 2 of 2"},
		"two in one":    {keys: []string{b64(append(slices.Clone(good), signer...)), b64(good)}, want: "key 1 of 2: there are 2 keys"},
		"private":       {keys: []string{b64(g.run(nil, "--export-secret-keys", "good@example.org")), b64(good)}, want: "this is a private key"},
		"signing only":  {keys: []string{b64(good), b64(signer)}, want: "key 2 of 2: the key " + signerPrint + ` ("signer@example.org")` + " can't be encrypted to: it has no part that is meant for encryption"},
		"revoked":       {keys: []string{b64(g.run(nil, "--export", "gone@example.org")), b64(good)}, want: "the key " + gonePrint + ` ("gone@example.org")` + " can't be encrypted to: it was revoked"},
		"expired":       {keys: []string{b64(good), b64(expired)}, want: "the key " + expiredPrint + ` ("old@example.org")` + " can't be encrypted to: it has expired"},
		"root no key":   {root: "no key!", want: "root_token_pgp_key: it is neither base64"},
		"root revoked":  {root: b64(g.run(nil, "--export", "gone@example.org")), want: "root_token_pgp_key: the key " + gonePrint},
		"root too many": {root: b64(append(slices.Clone(good), good...)), want: "root_token_pgp_key: there are 2 keys"},
	} {
		_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 2, SecretThreshold: 2, PGPKeys: c.keys, RootTokenPGPKey: c.root})
		t.Run(name, func(t *testing.T) { wantFault(t, err, fault.Invalid, c.want) })
	}
	b.wantNothingMade()
}

// revocation returns the revocation certificate that gpg made with the key.
func (g *gnupg) revocation(fingerprint string) []byte {
	g.t.Helper()
	b, err := os.ReadFile(g.home + "/openpgp-revocs.d/" + strings.ToUpper(fingerprint) + ".rev")
	if err != nil {
		g.t.Fatal(err)
	}
	// gpg disarms the file with a colon against an import by accident.
	return bytes.Replace(b, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1)
}

func (g *gnupg) expired() (public []byte, fingerprint string) {
	g.t.Helper()
	g.run(nil, "--faked-system-time", "20200101T000000", "--quick-generate-key", "old@example.org", "future-default", "default", "30d")
	list := string(g.run(nil, "--with-colons", "--list-keys", "old@example.org"))
	_, rest, _ := strings.Cut(list, "\nfpr:")
	return g.run(nil, "--export", "old@example.org"), strings.ToLower(strings.Split(rest, ":")[8])
}

// Without GnuPG: keys of the library, of version 6 too, and a subkey that alone
// has expired.
func TestPGPKeyVersions(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, config := range map[string]*packet.Config{
		"version 4": {Algorithm: packet.PubKeyAlgoEdDSA},
		"version 6": {Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true},
	} {
		e, err := openpgp.NewEntity("somebody", "", "somebody@example.org", config)
		if err != nil {
			t.Fatal(err)
		}
		var public, armored bytes.Buffer
		w, err := armor.Encode(&armored, openpgp.PublicKeyType, nil)
		if err != nil || e.Serialize(&public) != nil || e.Serialize(w) != nil || w.Close() != nil {
			t.Fatal("serialize the key")
		}
		for _, text := range []string{base64.StdEncoding.EncodeToString(public.Bytes()), armored.String(), "\n" + armored.String()} {
			key, err := pgp.Parse(text, now)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			plain := []byte("a share")
			message, err := key.Encrypt(plain)
			if err != nil {
				t.Fatal(err)
			}
			if string(plain) == "a share" {
				t.Error("the plain text was not wiped")
			}
			m, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{e}, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var got bytes.Buffer
			if _, err := got.ReadFrom(m.UnverifiedBody); err != nil || got.String() != "a share" {
				t.Errorf("%s: %q, %v", name, got.String(), err)
			}
		}
	}
}

func FuzzParsePGPKey(f *testing.F) {
	e, err := openpgp.NewEntity("somebody", "", "", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		f.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		f.Fatal(err)
	}
	f.Add(public.Bytes())
	f.Add(public.Bytes()[:40])
	f.Add([]byte("-----BEGIN PGP " + "PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----"))
	now := time.Now()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, text := range []string{base64.StdEncoding.EncodeToString(data), string(data)} {
			key, err := pgp.Parse(text, now)
			if err != nil {
				continue
			}
			if _, err := key.Encrypt([]byte("a share")); err != nil {
				t.Fatalf("a key was accepted that can't be encrypted to: %v", err)
			}
		}
	})
}
