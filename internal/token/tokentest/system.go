package tokentest

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

func (s *suite) testInfo(t *testing.T, d token.Device, tok token.Token) {
	info := tok.Info()
	if info.Driver == "" || info.Serial == "" || len(info.Holds) == 0 {
		t.Errorf("Info lacks the driver, serial number or key types: %+v", info)
	}
	st, err := d.State(s.context(t))
	must(t, err)
	if st.Label != info.Label || st.Serial != info.Serial {
		t.Errorf("State shows label %q, serial %q; Info %q, %q", st.Label, st.Serial, info.Label, info.Serial)
	}
	for typ, hold := range info.Holds {
		if !typ.Valid() || !hold.Wrapped && !hold.Object {
			t.Errorf("Info: %s is held nowhere (%+v)", typ, hold)
		}
	}
}

// testSecrets checks the storage key.
func (s *suite) testSecrets(t *testing.T, tok token.Token) {
	ctx := s.context(t)
	aad := []byte("table/record/7")
	for _, n := range []int{1, 16, 32, 64} {
		secret := randomBytes(n)
		sealed, err := tok.SealSecret(ctx, secret, aad)
		must(t, err)
		again, err := tok.SealSecret(ctx, secret, aad)
		must(t, err)
		if bytes.Equal(sealed, again) {
			t.Error("SealSecret is deterministic")
		}
		if n >= 16 && bytes.Contains(sealed, secret) {
			t.Error("SealSecret shows the secret")
		}
		got, err := tok.OpenSecret(ctx, sealed, aad)
		must(t, err)
		wantEqual(t, "secret", got, secret)
	}
	if _, err := tok.SealSecret(ctx, make([]byte, 65), aad); err == nil {
		t.Error("SealSecret took 65 bytes")
	}
	s.tamperSecret(t, tok, aad)
}

func (s *suite) tamperSecret(t *testing.T, tok token.Token, aad []byte) {
	ctx := s.context(t)
	sealed, err := tok.SealSecret(ctx, randomBytes(32), aad)
	must(t, err)
	refuse := func(what string, sealed, aad []byte) {
		t.Helper()
		_, err := tok.OpenSecret(ctx, sealed, aad)
		wantErr(t, what, err, token.ErrOpen)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1 << (i % 8)
		refuse("altered secret", bad, aad)
	}
	for n := 0; n < len(sealed); n += 1 + len(sealed)/64 {
		refuse("cut secret", sealed[:n], aad)
	}
	refuse("secret with a byte more", append(bytes.Clone(sealed), 0), aad)
	refuse("secret of nothing", nil, aad)
	refuse("other associated data", sealed, []byte("table/record/8"))
	refuse("no associated data", sealed, nil)
	refuse("shorter associated data", sealed, aad[:len(aad)-1])
}

func (s *suite) testAuditKey(t *testing.T, tok token.Token) {
	stored, err := tok.AuditKey(s.context(t))
	must(t, err)
	if stored.Type != token.P256 {
		t.Fatalf("the audit key is of type %s", stored.Type)
	}
	k := s.subject(t, tok, stored)
	digest := sha256.Sum256([]byte("checkpoint"))
	k.verifyECDSA(t, digest[:], k.one(t, token.Op{Kind: token.Sign}, token.Item{In: digest[:]}))
}

func (s *suite) testRandom(t *testing.T, tok token.Token) {
	ctx := s.context(t)
	must(t, tok.Random(ctx, nil))
	must(t, tok.Random(ctx, []byte{}))
	seen := make(map[byte]bool)
	for range 64 {
		one := make([]byte, 1)
		must(t, tok.Random(ctx, one))
		seen[one[0]] = true
	}
	if len(seen) < 8 { // 64 draws of 256 values: chance below 2^-200
		t.Errorf("64 random bytes have %d values", len(seen))
	}
	a, b := make([]byte, 4096), make([]byte, 4096)
	must(t, tok.Random(ctx, a))
	must(t, tok.Random(ctx, b))
	if bytes.Equal(a, b) || slices.Equal(a[:2048], a[2048:]) || bytes.Equal(a[4064:], make([]byte, 32)) {
		t.Error("Random repeats itself or leaves bytes unfilled")
	}
}
