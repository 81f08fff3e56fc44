package cryptech

//lint:file-ignore SA1019 the format has RSA with PKCS #1 v1.5

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// memory is an HSM token in Go, which encodes EC keys with their public half, as a
// Cryptech does.
type memory struct {
	objects []object
	room    int // how many objects it takes; 0 is any number
}

type object struct {
	token.Half
	key crypto.Signer // of a private key
}

var _ token.Mover = (*memory)(nil)

var errRoom = errors.New("C_UnwrapKey: CKR_DEVICE_MEMORY")

func (m *memory) Halves(context.Context) (list []token.Half, err error) {
	for _, o := range m.objects {
		list = append(list, o.Half)
	}
	return list, nil
}

func (m *memory) put(o object) error {
	if m.room > 0 && len(m.objects) >= m.room {
		return errRoom
	}
	m.objects = append(m.objects, o)
	return nil
}

func publicDER(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *memory) MakeKEKEK(_ context.Context, bits int, id token.ID, label string) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	h := token.Half{Label: label, ID: id[:], RSA: true, Type: token.RSAType(bits), Kind: "RSA", Public: der, Uses: token.UseWrap, Visible: true}
	private := h
	private.Private, private.Visible = true, false
	return der, errors.Join(m.put(object{private, key}), m.put(object{Half: h}))
}

func (m *memory) find(label string, id []byte) *object {
	for i := range m.objects {
		if o := &m.objects[i]; o.Private && o.Label == label && bytes.Equal(o.ID, id) {
			return o
		}
	}
	return nil
}

func (m *memory) MoveOut(_ context.Context, kekek []byte, key token.Half) (wrapped, wrappedKEK []byte, err error) {
	o := m.find(key.Label, key.ID)
	if o == nil || !o.Extractable {
		return nil, nil, token.ErrUnsupported
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(o.key)
	if err != nil {
		return nil, nil, err
	}
	public, err := x509.ParsePKIXPublicKey(kekek)
	if err != nil {
		return nil, nil, err
	}
	kek := make([]byte, token.KEKSize)
	rand.Read(kek)
	if wrappedKEK, err = rsa.EncryptPKCS1v15(rand.Reader, public.(*rsa.PublicKey), kek); err != nil {
		return nil, nil, err
	}
	wrapped, err = soft.Engine{}.Wrap(kek, pkcs8)
	return wrapped, wrappedKEK, err
}

func (m *memory) MoveIn(_ context.Context, p token.Parcel, as token.NewHalf) ([]byte, error) {
	kek := bytes.Clone(p.KEK)
	if p.KEKEK != nil {
		o := m.find(p.KEKEK.Label, p.KEKEK.ID)
		kek = make([]byte, token.KEKSize)
		rand.Read(kek)
		if rsa.DecryptPKCS1v15SessionKey(nil, o.key.(*rsa.PrivateKey), p.WrappedKEK, kek) != nil {
			return nil, token.ErrOpen
		}
	}
	pkcs8, err := soft.Engine{}.Unwrap(kek, p.Wrapped)
	if err != nil {
		return nil, token.ErrOpen
	}
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, token.ErrOpen
	}
	_, isRSA := parsed.(*rsa.PrivateKey)
	if isRSA != p.RSA {
		return nil, token.ErrOpen
	}
	key := parsed.(crypto.Signer)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	typ, kind := kindOf(key)
	h := token.Half{Label: as.Label, ID: as.ID[:], Private: true, RSA: isRSA, Type: typ, Kind: kind, Uses: as.Uses, Extractable: as.Extractable}
	if isRSA {
		h.Public = der
	}
	return der, m.put(object{h, key})
}

func kindOf(key crypto.Signer) (token.Type, string) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return token.RSAType(k.N.BitLen()), fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PrivateKey:
		return map[int]token.Type{256: token.P256, 384: token.P384, 521: token.P521}[k.Params().BitSize], "EC " + k.Params().Name
	}
	return 0, "Ed25519"
}

func (m *memory) PutPublic(_ context.Context, public []byte, as token.NewHalf) error {
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return err
	}
	_, isRSA := parsed.(*rsa.PublicKey)
	return m.put(object{Half: token.Half{Label: as.Label, ID: as.ID[:], RSA: isRSA, Type: token.P256, Public: public, Uses: as.Uses, Visible: as.Visible}})
}

func (m *memory) Remove(_ context.Context, id token.ID, label string) error {
	m.objects = slices.DeleteFunc(m.objects, func(o object) bool { return o.Label == label && bytes.Equal(o.ID, id[:]) })
	return nil
}

// add puts a pair into the token, as other programs make them.
func (m *memory) add(t testing.TB, key crypto.Signer, label string, id []byte, uses token.Use, extractable bool) {
	t.Helper()
	typ, kind := kindOf(key)
	_, isRSA := key.(*rsa.PrivateKey)
	h := token.Half{Label: label, ID: id, RSA: isRSA, Type: typ, Kind: kind, Uses: uses, Public: publicDER(t, key)}
	private, public := h, h
	private.Private, private.Extractable, public.Visible = true, extractable, true
	if !isRSA {
		private.Public = nil
	}
	m.objects = append(m.objects, object{private, key}, object{Half: public})
}

// private returns the private keys, without the KEKEK.
func (m *memory) private() (list []object) {
	for _, o := range m.objects {
		if o.Private && o.Label != "kekek" {
			list = append(list, o)
		}
	}
	return list
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// passphrase is that of testdata/known.json, whose keys are public test keys.
const passphrase = "correct horse battery staple"

// newBackup works on a token with a passphrase; said gets the transcript.
func newBackup(m token.Mover, phrase string) (b *Backup, said *strings.Builder) {
	said = new(strings.Builder)
	return &Backup{
		HSM: m, Software: soft.Engine{},
		Passphrase: func(context.Context) ([]byte, error) { return []byte(phrase), nil },
		Say:        func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) },
	}, said
}
