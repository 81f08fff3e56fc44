package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/token/pkcs11"
)

// child logs in, makes a key for each session, and measures when told to.
func child(o options) error {
	slot, m, err := findToken(o)
	if err != nil {
		return err
	}
	var runs []*run
	for i := range o.sessions {
		s, err := m.OpenSession(slot)
		if err != nil {
			return err
		}
		if i == 0 {
			if err := s.Login(pkcs11.UserNormal, []byte(os.Getenv("P11_PIN"))); err != nil {
				return err
			}
		}
		r, err := newRun(o, s)
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	rate, err := measure(runs, o.duration)
	if err != nil {
		return err
	}
	fmt.Println(rate)
	return nil
}

func findToken(o options) (pkcs11.Slot, *pkcs11.Module, error) {
	m, err := pkcs11.Open(o.module)
	if err != nil {
		return 0, nil, err
	}
	if err := m.Initialize(); err != nil {
		return 0, nil, err
	}
	slots, err := m.Slots()
	if err != nil {
		return 0, nil, err
	}
	for _, s := range slots {
		if info, err := m.TokenInfo(s); err == nil && info.Label == o.label {
			return s, m, nil
		}
	}
	return 0, nil, fmt.Errorf("%s shows no token %q", o.module, o.label)
}

func measure(runs []*run, d time.Duration) (float64, error) {
	var wg sync.WaitGroup
	errs := make([]error, len(runs))
	counts := make([]int, len(runs))
	start := time.Now()
	for i, r := range runs {
		wg.Go(func() { counts[i], errs[i] = r.until(start.Add(d)) })
	}
	wg.Wait()
	seconds := time.Since(start).Seconds()
	total := 0
	for i := range runs {
		if errs[i] != nil {
			return 0, errs[i]
		}
		total += counts[i]
	}
	return float64(total) / seconds, nil
}

// run is one session with its key and its prepared call.
type run struct {
	session *pkcs11.Session
	op      pkcs11.Op
	key     pkcs11.Handle
	in, out []byte
	item    pkcs11.Item
	random  bool
}

func (r *run) until(end time.Time) (n int, err error) {
	for ; ; n++ {
		if n%16 == 0 && time.Now().After(end) {
			return n, nil
		}
		if err := r.once(); err != nil {
			return n, err
		}
	}
}

func (r *run) once() error {
	if r.random {
		return r.session.Random(r.out)
	}
	items := []pkcs11.Item{r.item}
	r.session.Batch(r.op, r.key, r.in, r.out, items)
	if items[0].RV != 0 {
		return &pkcs11.Error{Func: pkcs11.FuncName(r.op.Func, items[0].At), Code: items[0].RV}
	}
	return nil
}

func newRun(o options, s *pkcs11.Session) (*run, error) {
	r := &run{session: s, out: make([]byte, o.payload+1024)}
	if o.op == "random" {
		r.random, r.out = true, r.out[:o.payload]
		return r, nil
	}
	var err error
	if r.key, err = makeKey(o.keyType, s); err != nil {
		return nil, err
	}
	if err := r.prepare(o); err != nil {
		return nil, err
	}
	if o.op != "decrypt" {
		return r, nil
	}
	// Encrypt once, so that there is something to decrypt.
	items := []pkcs11.Item{r.item}
	r.session.Batch(r.op, r.key, r.in, r.out, items)
	if items[0].RV != 0 {
		return nil, &pkcs11.Error{Func: "C_Encrypt", Code: items[0].RV}
	}
	n := items[0].OutLen
	r.in = append(r.in[:12:12], r.out[:n]...)
	r.op.Func, r.item.InLen = pkcs11.Decrypt, n
	return r, nil
}

// digestInfoSHA256 is the prefix of RFC 8017 section 9.2 note 1.
var digestInfoSHA256 = []byte{
	0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
}

// prepare sets the operation and its input: nonce ‖ payload for AES, a digest
// for signatures.
func (r *run) prepare(o options) error {
	switch {
	case o.keyType == "aes256-gcm96" && (o.op == "encrypt" || o.op == "decrypt"):
		r.op = pkcs11.Op{Func: pkcs11.Encrypt, Param: pkcs11.GCM, Mech: pkcs11.AESGCM}
		r.in = make([]byte, 12+o.payload)
		r.item = pkcs11.Item{NonceLen: 12, In: 12, InLen: uint32(o.payload)}
	case o.keyType == "hmac" && o.op == "hmac":
		r.op = pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.SHA256HMAC}
		r.in = make([]byte, o.payload)
		r.item = pkcs11.Item{InLen: uint32(o.payload)}
	case (o.keyType == "ecdsa-p256" || o.keyType == "ecdsa-p384") && o.op == "sign":
		r.op = pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.ECDSA}
		r.in = make([]byte, 32)
		r.item = pkcs11.Item{InLen: 32}
	case (o.keyType == "rsa-2048" || o.keyType == "rsa-4096") && o.op == "sign":
		r.op = pkcs11.Op{Func: pkcs11.Sign, Mech: pkcs11.RSAPKCS}
		r.in = append(append([]byte{}, digestInfoSHA256...), make([]byte, 32)...)
		r.item = pkcs11.Item{InLen: uint32(len(r.in))}
	default:
		return fmt.Errorf("-op %s with -type %s is not measured here", o.op, o.keyType)
	}
	rand.Read(r.in[len(r.in)-32:])
	r.item.OutCap = uint32(len(r.out))
	return nil
}

func makeKey(keyType string, s *pkcs11.Session) (pkcs11.Handle, error) {
	secret := new(pkcs11.Template).Bool(true, pkcs11.AttrPrivate, pkcs11.AttrSensitive).Bool(false, pkcs11.AttrToken, pkcs11.AttrExtractable)
	public := new(pkcs11.Template).Bool(false, pkcs11.AttrToken)
	pair := func(m pkcs11.CKM) (pkcs11.Handle, error) {
		_, private, err := s.GenerateKeyPair(m, public, secret.Bool(true, pkcs11.AttrSign))
		return private, err
	}
	switch keyType {
	case "aes256-gcm96":
		return s.GenerateKey(pkcs11.AESKeyGen, secret.Bool(true, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt).Ulong(pkcs11.AttrValueLen, 32))
	case "hmac":
		return s.GenerateKey(pkcs11.GenericKeyGen, secret.Bool(true, pkcs11.AttrSign).Ulong(pkcs11.AttrValueLen, 32))
	case "ecdsa-p256":
		public.Bytes(pkcs11.AttrECParams, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
		return pair(pkcs11.ECKeyGen)
	case "ecdsa-p384":
		public.Bytes(pkcs11.AttrECParams, []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22})
		return pair(pkcs11.ECKeyGen)
	case "rsa-2048", "rsa-4096":
		bits := uint64(2048)
		if keyType == "rsa-4096" {
			bits = 4096
		}
		public.Ulong(pkcs11.AttrModulusBits, bits).Bytes(pkcs11.AttrPublicExponent, []byte{1, 0, 1})
		return pair(pkcs11.RSAKeyGen)
	}
	return 0, fmt.Errorf("-type %q is not measured here", keyType)
}
