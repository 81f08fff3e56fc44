package custody

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// stated verifies a signed statement and returns it.
func stated(t *testing.T, s *api.SignedStatement) *api.ActStatement {
	t.Helper()
	if s == nil {
		t.Fatal("there is no statement")
	}
	public, err := x509.ParsePKIXPublicKey(s.PublicKey)
	if err != nil || !bytes.Equal(s.PublicKey, auditPublic) {
		t.Fatalf("the public key: %v", err)
	}
	digest := sha256.Sum256(append([]byte("claviger ceremony statement 1\n"), s.Statement...))
	r, v := new(big.Int).SetBytes(s.Signature[:32]), new(big.Int).SetBytes(s.Signature[32:])
	if !ecdsa.Verify(public.(*ecdsa.PublicKey), digest[:], r, v) {
		t.Error("the signature is wrong")
	}
	d := json.NewDecoder(bytes.NewReader(s.Statement))
	d.DisallowUnknownFields()
	out := new(api.ActStatement)
	if err := d.Decode(out); err != nil {
		t.Fatal(err)
	}
	return out
}

// custodian is an OpenPGP key with the form in which requests have it.
func custodian(t *testing.T, name string) (e *openpgp.Entity, public, fingerprint string) {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", "", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return e, serialized(t, e), hex.EncodeToString(e.PrimaryKey.Fingerprint)
}

func messageSum(t *testing.T, message string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(message)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

var ceremonyName = strings.Repeat("0a", 32)

func TestStatementOfInit(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, ada, adas := custodian(t, "Ada")
	_, alan, alans := custodian(t, "Alan")
	r, err := b.c.Init(t.Context(), &api.Init{SecretShares: 2, SecretThreshold: 2, PGPKeys: []string{ada, alan}, RootTokenPGPKey: ada, Ceremony: ceremonyName})
	if err != nil {
		t.Fatal(err)
	}
	s := stated(t, r.Statement)
	want := api.ActStatement{Format: 1, Act: "init", Ceremony: ceremonyName, Time: s.Time,
		Server: api.StatedServer{Release: "1.2.3", ClusterID: b.c.rec.ClusterID},
		Token:  api.StatedToken{Driver: "mem", Label: "claviger", Serial: "0123abcd", Manufacturer: "tests", Model: "memory"},
		Given:  []int{}, ShareSet: *publicSet(b.c.rec.set),
		Shares: []api.StatedResult{{For: adas, SHA256: messageSum(t, r.KeysBase64[0])}, {For: alans, SHA256: messageSum(t, r.KeysBase64[1])}},
		Root:   &api.StatedResult{For: adas, SHA256: messageSum(t, r.RootToken)}}
	if !reflect.DeepEqual(*s, want) || s.Time.IsZero() {
		t.Errorf("%+v\nwant %+v", *s, want)
	}
	kept := mustInvoke[api.SignedStatement](b, "sys.ceremony", &api.CeremonyAct{Act: "init"})
	if !reflect.DeepEqual(kept, r.Statement) {
		t.Errorf("%+v", kept)
	}
	_, err = b.invoke("sys.ceremony", &api.CeremonyAct{Act: "rekey"})
	wantFault(t, err, fault.NotFound, "no ceremony of the act rekey")
	_, err = b.invoke("sys.ceremony", &api.CeremonyAct{Act: "seal"})
	wantFault(t, err, fault.Invalid, "is no act of custodians")
}

// Without a signature there is no initialisation, and a wrong name of a ceremony is
// refused before anything is made.
func TestStatementOfInitRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, name := range []string{"x", strings.Repeat("0A", 32), strings.Repeat("0a", 31), strings.Repeat("0a", 33), strings.Repeat("zz", 32)} {
		_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1, Ceremony: name})
		wantFault(t, err, fault.Invalid, "must be a SHA-256")
	}
	b.faults.armOn("token.Sign")
	_, err := b.c.Init(t.Context(), &api.Init{SecretShares: 1, SecretThreshold: 1, Ceremony: ceremonyName})
	wantFault(t, err, fault.Unavailable, "sign the statement", "Nothing was stored")
	b.wantState(false, true)
	if b.store.len() != 0 {
		t.Errorf("%d records stay", b.store.len())
	}
}

func TestStatementOfRekey(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	former := b.c.rec.SetID
	e, ada, adas := custodian(t, "Ada")
	start := b.rekeyStart(api.StartRekey{SecretShares: 1, SecretThreshold: 1, PGPKeys: []string{ada}, RequireVerification: true, NewPIN: true, Ceremony: ceremonyName})
	if start.Ceremony != ceremonyName {
		t.Errorf("%+v", start)
	}
	made := b.rekeyGive(start.Nonce, shares[4], shares[0], shares[2])
	if made.Statement != nil {
		t.Error("there is a statement of shares that are not in force")
	}
	done := b.rekeyVerify(made.VerificationNonce, openMessage(t, e, made.KeysBase64[0]))
	s := stated(t, done.Statement)
	if s.Act != "rekey" || s.Ceremony != ceremonyName || !reflect.DeepEqual(s.Given, []int{1, 3, 5}) || !reflect.DeepEqual(s.Verified, []int{1}) ||
		s.FormerSet != former || s.ShareSet.SetID == former || s.ShareSet.SetID != b.c.rec.SetID || !s.NewPIN || s.Root != nil ||
		!reflect.DeepEqual(s.Shares, []api.StatedResult{{For: adas, SHA256: messageSum(t, made.KeysBase64[0])}}) {
		t.Errorf("%+v", s)
	}
	// One that is not verified has its statement with the new shares.
	start = b.rekeyStart(api.StartRekey{SecretShares: 1, SecretThreshold: 1, Ceremony: ceremonyName})
	made = b.rekeyGive(start.Nonce, openMessage(t, e, made.KeysBase64[0]))
	if s := stated(t, made.Statement); len(s.Verified) != 0 || len(s.Shares) != 0 {
		t.Errorf("%+v", s)
	}
}

// What is done stays done if the token does not sign the statement.
func TestStatementOfRekeyNotSigned(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	start := b.rekeyStart(api.StartRekey{SecretShares: 1, SecretThreshold: 1, Ceremony: ceremonyName})
	b.rekeyGive(start.Nonce, shares[0], shares[1])
	b.faults.armOn("token.Sign")
	made := b.rekeyGive(start.Nonce, shares[2])
	if !made.Complete || made.Statement != nil || !strings.Contains(b.log.String(), "its statement could not be signed") {
		t.Errorf("%+v, %s", made, b.log.String())
	}
	// And without a ceremony nothing is signed.
	start = b.rekeyStart(api.StartRekey{SecretShares: 1, SecretThreshold: 1})
	b.faults.arm(0)
	if again := b.rekeyGive(start.Nonce, made.Keys[0]); again.Statement != nil {
		t.Errorf("%+v", again)
	}
}

func TestStatementOfGenerateRoot(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	_, ada, adas := custodian(t, "Ada")
	const form = "sys.generate-root-token"
	for _, key := range []string{"", ada} {
		start := b.startRoot(form, api.StartGenerateRoot{PGPKey: key, Ceremony: ceremonyName})
		b.rootShare(form, start.Nonce, shares[3])
		b.rootShare(form, start.Nonce, shares[1])
		done := b.rootShare(form, start.Nonce, shares[2])
		s := stated(t, done.Statement)
		want := api.StatedResult{For: adas}
		if key == "" {
			sum := sha256.Sum256([]byte(done.EncodedToken))
			want = api.StatedResult{For: "otp", SHA256: hex.EncodeToString(sum[:])}
		} else {
			want.SHA256 = messageSum(t, done.EncodedToken)
		}
		if *s.Root != want || !reflect.DeepEqual(s.Given, []int{2, 3, 4}) || s.FormerSet != s.ShareSet.SetID || s.Act != "generate-root" {
			t.Errorf("%+v", s)
		}
		if done.Ceremony != ceremonyName || start.Ceremony != ceremonyName {
			t.Errorf("%+v", done)
		}
	}
	_, err := b.invoke(form+".start", &api.StartGenerateRoot{Ceremony: "x"})
	wantFault(t, err, fault.Invalid, "must be a SHA-256")
}

func openMessage(t *testing.T, e *openpgp.Entity, message string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(message)
	if err != nil {
		t.Fatal(err)
	}
	m, err := openpgp.ReadMessage(bytes.NewReader(b), openpgp.EntityList{e}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(m.UnverifiedBody); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
