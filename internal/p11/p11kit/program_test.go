package p11kit

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/p11"
)

var discard = slog.New(slog.DiscardHandler)

// What a session may do, and in which order.
func TestOrder(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	c.fails(ckrAlreadyInitialized, "C_Initialize", opening()...)
	c.fails(p11.CKR_SLOT_ID_INVALID, "C_OpenSession", 1, ckfSerialSession)
	c.fails(p11.CKR_SLOT_ID_INVALID, "C_GetTokenInfo", uint64(1)<<32)
	c.fails(ckrSessionParallel, "C_OpenSession", 0, 0)
	c.fails(ckrSessionHandleInvalid, "C_CloseSession", 77)
	ro := c.ok("C_OpenSession", 0, ckfSerialSession).U64()
	c.fails(p11.CKR_USER_NOT_LOGGED_IN, "C_GenerateRandom", ro, uint32(4))
	if found := c.find(ro, nil); len(found) != 0 {
		t.Errorf("%d objects without a login", len(found))
	}
	c.fails(ckrUserTypeInvalid, "C_Login", ro, 0, []byte("good"))
	c.fails(p11.CKR_PIN_INCORRECT, "C_Login", ro, ckuUser, []byte("bad"))
	c.fails(ckrPINLenRange, "C_Login", ro, ckuUser, make([]byte, p11.MaxToken+1))
	c.fails(p11.CKR_USER_NOT_LOGGED_IN, "C_Logout", ro)
	rw := c.open()
	c.fails(ckrUserAlreadyLoggedIn, "C_Login", ro, ckuUser, []byte("good"))
	for s, want := range map[uint64]uint64{ro: 1, rw: 3} {
		r := c.ok("C_GetSessionInfo", s)
		if slot, state := r.U64(), r.U64(); slot != 0 || state != want {
			t.Errorf("session %d is in state %d of slot %d", s, state, slot)
		}
	}
	if b := c.blob("C_GenerateRandom", ro, uint32(4)); !bytes.Equal(b, []byte{7, 7, 7, 7}) {
		t.Errorf("random bytes %x", b)
	}
	c.fails(ckrRandomSeedNotSupported, "C_SeedRandom", ro, []byte("x"))
	c.fails(ckrSessionReadOnly, "C_GenerateKeyPair", ro, mech(p11.CKM_EC_KEY_PAIR_GEN), attrs(), attrs(p11.CKA_TOKEN, true))
	c.fails(ckrSessionReadOnly, "C_DestroyObject", ro, c.key(ro, p11.CKO_PRIVATE_KEY, "web"))
	c.fails(ckrNoEvent, "C_WaitForSlotEvent", ckfDontBlock)
	c.fails(p11.CKR_FUNCTION_NOT_SUPPORTED, "C_WaitForSlotEvent", 0)
	c.fails(p11.CKR_FUNCTION_NOT_SUPPORTED, "C_SetPIN", rw, []byte("a"), []byte("b"))
	c.ok("C_Logout", ro)
	c.fails(p11.CKR_USER_NOT_LOGGED_IN, "C_GetAttributeValue", rw, 5, []wanted{})
	c.ok("C_LoginUser", ro, ckuUser, []byte("good"), []byte(nil))
	c.ok("C_CloseAllSessions", 0)
	again := c.ok("C_OpenSession", 0, ckfSerialSession).U64()
	c.fails(p11.CKR_USER_NOT_LOGGED_IN, "C_Logout", again) // the login ended with the last session
	c.ok("C_Finalize")
	c.fails(ckrNotInitialized, "C_GetInfo")
	c.fails(ckrNotInitialized, "C_CloseSession", again)
	c.fails(p11.CKR_GENERAL_ERROR, "C_Initialize", []byte("PRIVATE"), uint8(0), []byte{0})
	c.ok("C_Initialize", opening()...)
}

// Slot and token say what they are; lists tell their length to small buffers.
func TestLists(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	if r := c.ok("C_GetInfo"); r.U8() != 2 || r.U8() != 40 {
		t.Error("not version 2.40")
	}
	r := c.ok("C_GetTokenInfo", 0)
	if label := string(r.Bytes()); label != "claviger                        " {
		t.Errorf("label %q", label)
	}
	if n := c.length("C_GetSlotList", uint8(1), uint32(0)); n != 1 {
		t.Errorf("%d slots", n)
	}
	n := c.length("C_GetMechanismList", 0, uint32(3))
	r = c.ok("C_GetMechanismList", 0, uint32(n))
	seen := map[uint64]bool{}
	r.U8()
	for range r.U32() {
		seen[r.U64()] = true
	}
	if !seen[p11.CKM_SHA256] || !seen[p11.CKM_ECDSA] || len(seen) != n {
		t.Errorf("%d of %d mechanisms: %v", len(seen), n, seen)
	}
	if r := c.ok("C_GetMechanismInfo", 0, p11.CKM_ECDSA); r.U64() != 256 || r.U64() != 521 {
		t.Error("sizes of CKM_ECDSA")
	}
	c.fails(p11.CKR_MECHANISM_INVALID, "C_GetMechanismInfo", 0, 0x12345)
}

// Results wait for a buffer that is large enough, and nothing is signed twice.
func TestBuffers(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	s := c.open()
	private, public := c.key(s, p11.CKO_PRIVATE_KEY, "web"), c.key(s, p11.CKO_PUBLIC_KEY, "web")
	c.ok("C_SignInit", s, mech(p11.CKM_ECDSA_SHA1), private)
	c.fails(ckrOperationActive, "C_SignInit", s, mech(p11.CKM_ECDSA_SHA1), private)
	for _, room := range []uint32{0, 1, 63} {
		if n := c.length("C_Sign", s, []byte("data"), room); n != 64 {
			t.Errorf("a signature of %d bytes", n)
		}
	}
	if n := c.f.count("transit/sign/"); n != 0 {
		t.Errorf("%d signatures were made for their length", n)
	}
	sig := c.blob("C_Sign", s, []byte("data"), uint32(64))
	c.fails(ckrOperationNotInitialized, "C_Sign", s, []byte("data"), uint32(64))
	c.ok("C_VerifyInit", s, mech(p11.CKM_ECDSA_SHA1), public)
	c.ok("C_Verify", s, []byte("data"), sig)
	c.ok("C_VerifyInit", s, mech(p11.CKM_ECDSA_SHA1), public)
	c.fails(p11.CKR_SIGNATURE_INVALID, "C_Verify", s, []byte("date"), sig)
	c.fails(ckrOperationNotInitialized, "C_Verify", s, []byte("data"), sig)

	c.ok("C_DigestInit", s, mech(p11.CKM_SHA256))
	if n := c.length("C_Digest", s, []byte("x"), uint32(31)); n != 32 {
		t.Errorf("a digest of %d bytes", n)
	}
	if b := c.blob("C_Digest", s, []byte("data"), uint32(32)); !bytes.Equal(b, digestOf("data")) {
		t.Errorf("digest %x", b)
	}
	c.fails(p11.CKR_MECHANISM_INVALID, "C_DigestInit", s, mech(p11.CKM_ECDSA))
	c.fails(p11.CKR_MECHANISM_INVALID, "C_SignInit", s, mech(p11.CKM_SHA256), private)
	c.fails(p11.CKR_KEY_HANDLE_INVALID, "C_SignInit", s, mech(p11.CKM_ECDSA), 4711)
	c.fails(p11.CKR_KEY_FUNCTION_NOT_PERMITTED, "C_VerifyInit", s, mech(p11.CKM_ECDSA), c.created(s))
}

// created makes a public key of the session that does not verify.
func (c *client) created(s uint64) uint64 {
	c.t.Helper()
	return c.ok("C_CreateObject", s, attrs(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY, p11.CKA_KEY_TYPE, p11.CKK_EC, p11.CKA_VERIFY, false,
		p11.CKA_EC_PARAMS, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), p11.CKA_EC_POINT, append([]byte{4, 65}, c.point()...))).U64()
}

// Data in parts gives what it gives at once, up to a limit.
func TestParts(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	s := c.open()
	private, public := c.key(s, p11.CKO_PRIVATE_KEY, "web"), c.key(s, p11.CKO_PUBLIC_KEY, "web")
	for _, m := range []uint64{p11.CKM_ECDSA, p11.CKM_ECDSA_SHA256} {
		c.ok("C_SignInit", s, mech(m), private)
		parts := []string{"0123456789", "", "abcdef0123456789"}
		for _, part := range parts {
			c.ok("C_SignUpdate", s, []byte(part))
		}
		c.fails(ckrOperationActive, "C_Sign", s, []byte("x"), uint32(64))
		if n := c.length("C_SignFinal", s, uint32(0)); n != 64 {
			t.Errorf("%d bytes", n)
		}
		sig := c.blob("C_SignFinal", s, uint32(100))
		c.ok("C_VerifyInit", s, mech(m), public)
		c.ok("C_Verify", s, []byte("0123456789abcdef0123456789"), sig)
		c.ok("C_VerifyInit", s, mech(m), public)
		c.ok("C_VerifyUpdate", s, []byte("0123456789abcdef"))
		c.ok("C_VerifyUpdate", s, []byte("0123456789"))
		c.ok("C_VerifyFinal", s, sig)
	}
	c.ok("C_DigestInit", s, mech(p11.CKM_SHA256))
	c.ok("C_DigestUpdate", s, []byte("da"))
	c.ok("C_DigestUpdate", s, []byte("ta"))
	if b := c.blob("C_DigestFinal", s, uint32(32)); !bytes.Equal(b, digestOf("data")) {
		t.Errorf("digest %x", b)
	}
	c.ok("C_SignInit", s, mech(p11.CKM_ECDSA), private)
	c.ok("C_SignUpdate", s, make([]byte, maxData))
	c.fails(p11.CKR_DATA_LEN_RANGE, "C_SignUpdate", s, []byte("x"))
	c.fails(ckrOperationNotInitialized, "C_SignUpdate", s, []byte("x"))
	if c.p.held != 0 {
		t.Errorf("%d bytes are held after all operations ended", c.p.held)
	}
}

// All sessions of a program together hold a limited memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	var refused int
	for range 8 {
		s := c.open()
		c.ok("C_SignInit", s, mech(p11.CKM_ECDSA), c.key(s, p11.CKO_PRIVATE_KEY, "web"))
		if _, code := c.call("C_SignUpdate", s, make([]byte, maxData)); code == p11.CKR_DATA_LEN_RANGE {
			refused++
		}
	}
	if refused != 8-maxHeld/maxData {
		t.Errorf("%d of 8 were refused", refused)
	}
	c.ok("C_CloseAllSessions", 0)
	for range maxSessions {
		c.ok("C_OpenSession", 0, ckfSerialSession)
	}
	c.fails(ckrSessionCount, "C_OpenSession", 0, ckfSerialSession)
}

// Objects of sessions are seen by the program, and end with their session.
func TestSessionObjects(t *testing.T) {
	t.Parallel()
	c := newClient(t, 2)
	s, other := c.open(), c.open()
	secret := c.ok("C_CreateObject", s, attrs(p11.CKA_CLASS, p11.CKO_SECRET_KEY, p11.CKA_KEY_TYPE, p11.CKK_AES, p11.CKA_SENSITIVE, false,
		p11.CKA_EXTRACTABLE, true, p11.CKA_VALUE, "0123456789abcdef", p11.CKA_LABEL, "mine")).U64()
	if got := c.key(other, p11.CKO_SECRET_KEY, "mine"); got != secret {
		t.Errorf("object %x, not %x", got, secret)
	}
	r := c.ok("C_GetAttributeValue", s, secret, []wanted{{p11.CKA_VALUE, 16}, {p11.CKA_VALUE_LEN, 8}, {p11.CKA_DESTROYABLE, 1}, {p11.CKA_MODULUS, 0}, {p11.CKA_LABEL, 3}})
	want := "0000000500000011" + "01" + "00000010" + "00000010" + "30313233343536373839616263646566" +
		"00000161" + "01" + "00000008" + "0000000000000010" +
		"00000172" + "01" + "00000001" + "00000001" + "01" +
		"00000120" + "00" + "00000003" + "00" + "0000000000000012"
	if got := hexOf(r.Rest()); got != want {
		t.Errorf("attributes\n%s, not\n%s", got, want)
	}
	gcm := gcmMechanism(t)
	c.ok("C_EncryptInit", s, gcm, secret)
	if n := c.length("C_EncryptUpdate", s, []byte("plain"), uint32(0)); n < 5 {
		t.Errorf("at most %d bytes", n)
	}
	if b := c.blob("C_EncryptUpdate", s, []byte("plain"), uint32(9)); len(b) != 0 {
		t.Errorf("%d bytes came early", len(b))
	}
	n := c.length("C_EncryptFinal", s, uint32(9))
	sealed := c.blob("C_EncryptFinal", s, uint32(n))
	if open := openGCM(t, sealed); open != "plain" {
		t.Errorf("decrypted %q", open)
	}
	c.ok("C_DecryptInit", other, gcm, secret)
	if b := c.blob("C_Decrypt", other, sealed, uint32(100)); string(b) != "plain" {
		t.Errorf("decrypted %q", b)
	}
	c.ok("C_EncryptInit", s, gcm, secret)
	empty := c.blob("C_Encrypt", s, []byte(nil), uint32(100))
	c.ok("C_DecryptInit", s, gcm, secret)
	for _, room := range []uint32{0, 9} {
		if b := c.blob("C_Decrypt", s, empty, room); len(b) != 0 {
			t.Errorf("decrypted %q", b)
		}
	}
	c.ok("C_SetAttributeValue", s, secret, attrs(p11.CKA_LABEL, "yours"))
	c.fails(p11.CKR_ATTRIBUTE_READ_ONLY, "C_SetAttributeValue", s, secret, attrs(p11.CKA_VALUE, "0123456789abcdeF"))
	c.ok("C_EncryptInit", s, gcm, secret)
	c.length("C_Encrypt", s, []byte("other"), uint32(1))
	if open := openGCM(t, c.blob("C_Encrypt", s, []byte("plain"), uint32(100))); open != "plain" {
		t.Errorf("after a question about other data: %q", open)
	}
	data := c.ok("C_CreateObject", s, attrs(p11.CKA_CLASS, p11.CKO_DATA, p11.CKA_DESTROYABLE, false)).U64()
	if found := c.find(s, attrs(p11.CKA_DESTROYABLE, false, p11.CKA_TOKEN, false)); len(found) != 1 || found[0] != data {
		t.Errorf("found %x, not %x", found, data)
	}
	if found := c.find(s, attrs(p11.CKA_DESTROYABLE, true, p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)); len(found) != 2 {
		t.Errorf("%d private keys can be destroyed, not 2", len(found))
	}
	copied := c.ok("C_CopyObject", other, secret, attrs(p11.CKA_LABEL, "copy")).U64()
	c.ok("C_CloseSession", s)
	c.fails(p11.CKR_OBJECT_HANDLE_INVALID, "C_GetObjectSize", other, secret)
	c.ok("C_GetObjectSize", other, copied)
	c.ok("C_DestroyObject", other, copied)
	c.fails(p11.CKR_OBJECT_HANDLE_INVALID, "C_DestroyObject", other, copied)
	if c.p.held != 0 {
		t.Errorf("%d bytes are held after all objects ended", c.p.held)
	}
}

const gcmIV = "abcdefghijkl"

func gcmMechanism(t *testing.T) raw {
	t.Helper()
	w := &writer{}
	w.U32(p11.CKM_AES_GCM)
	w.U8(1)
	w.Text(gcmIV)
	w.U64(96)
	w.U32(noBytes)
	w.U64(128)
	return w.B
}

func openGCM(t *testing.T, sealed []byte) string {
	t.Helper()
	block, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	b, err := aead.Open(nil, []byte(gcmIV), sealed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Keys of sessions that the server keeps are destroyed with their session, and with
// the connection.
func TestSessionKeys(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	s, other := c.open(), c.open()
	curve := attrs(p11.CKA_EC_PARAMS, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"))
	pair := func(s uint64, token bool) uint64 {
		r := c.ok("C_GenerateKeyPair", s, mech(p11.CKM_EC_KEY_PAIR_GEN), curve, attrs(p11.CKA_TOKEN, token, p11.CKA_LABEL, "new"))
		r.U64()
		return r.U64()
	}
	first, second, kept := pair(s, false), pair(other, false), pair(s, true)
	c.ok("C_SignInit", other, mech(p11.CKM_ECDSA), first)
	if n := len(c.find(s, attrs(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY))); n != 5 {
		t.Errorf("%d private keys, not 5", n)
	}
	c.ok("C_CloseSession", s)
	c.fails(p11.CKR_OBJECT_HANDLE_INVALID, "C_GetObjectSize", other, first)
	c.ok("C_GetObjectSize", other, second)
	c.ok("C_GetObjectSize", other, kept)
	c.p.goodbye(context.Background())
	if n := c.f.count("transit/keys/session-"); n != 2 {
		t.Errorf("%d keys of sessions were destroyed, not 2", n)
	}
	if n := len(c.f.keys); n != 3 {
		t.Errorf("the server has %d keys, not 3", n)
	}
}

// A message that is wrong gets an answer, whatever is wrong with it.
func TestWrongMessages(t *testing.T) {
	t.Parallel()
	c := newClient(t, 2)
	s := c.open()
	const (
		broken  = p11.CKR_DATA_INVALID
		strange = p11.CKR_ARGUMENTS_BAD
		unknown = p11.CKR_FUNCTION_NOT_SUPPORTED
	)
	for name, m := range map[string]struct {
		want    p11.Code
		message []byte
	}{
		"nothing":            {broken, nil},
		"short":              {broken, []byte{0, 0, 0}},
		"no such call":       {unknown, []byte{0, 0, 3, 0, 0, 0, 0, 0}},
		"the error":          {unknown, []byte{0, 0, 0, 0, 0, 0, 0, 1, 'u'}},
		"other signature":    {strange, []byte{0, 0, 0, 5, 0, 0, 0, 2, 'u', 'u', 0, 0, 0, 0, 0, 0, 0, 0}},
		"too short":          {broken, message("C_GetSlotInfo", uint32(0))},
		"too long":           {broken, message("C_GetSlotInfo", 0, uint8(0))},
		"long string":        {broken, message("C_SignUpdate", s, raw{1, 0x7f, 0, 0, 0})},
		"a flag of 2":        {broken, message("C_SignUpdate", s, raw{2, 0, 0, 0, 0})},
		"many attributes":    {broken, message("C_CreateObject", s, raw{0, 0, 1, 1})},
		"twice":              {broken, message("C_CreateObject", s, attrs(p11.CKA_LABEL, "a", p11.CKA_LABEL, "b"))},
		"no value":           {broken, message("C_CreateObject", s, raw{0, 0, 0, 1, 0, 0, 0, 3, 0})},
		"length of a flag":   {broken, message("C_CreateObject", s, raw{0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 2, 1})},
		"length of a label":  {broken, message("C_CreateObject", s, raw{0, 0, 0, 1, 0, 0, 0, 3, 1, 0, 0, 0, 2, 0, 0, 0, 1, 'x'})},
		"template inside":    {ckrAttributeTypeInvalid, message("C_CreateObject", s, raw{0, 0, 0, 1, 0x40, 0, 2, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0})},
		"template wanted":    {ckrAttributeTypeInvalid, message("C_GetAttributeValue", s, 5, []wanted{{0x40000211, 24}})},
		"numbers":            {broken, message("C_CreateObject", s, raw{0, 0, 0, 1, 0x40, 0, 6, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1})},
		"strange mechanism":  {p11.CKR_MECHANISM_INVALID, message("C_SignInit", s, raw{0x7f, 0, 0, 0}, 5)},
		"NULL mechanism":     {strange, message("C_GenerateKey", s, raw{0xff, 0xff, 0xff, 0xff}, attrs())},
		"C_Finalize and one": {broken, message("C_Finalize", uint8(0))},
	} {
		b := c.p.handle(context.Background(), m.message, nil)
		if len(b) != 17 || b[3] != 0 || p11.Code(binary.BigEndian.Uint64(b[9:])) != m.want {
			t.Errorf("%s: answer %x", name, b)
		}
	}
	c.ok("C_SignInit", s, raw{0xff, 0xff, 0xff, 0xff}, 0) // ends what is under way, also nothing
	c.ok("C_GetSessionInfo", s)
}

// What is derived is an object of the session; version 2 says more in its answer.
func TestDerive(t *testing.T) {
	t.Parallel()
	for version, name := range []string{"", "C_DeriveKey", "C_DeriveKey2"} {
		if name == "" {
			continue // version 0 has no mechanism for it
		}
		c := newClient(t, uint8(version))
		s := c.open()
		w := &writer{}
		w.U32(p11.CKM_ECDH1_DERIVE)
		if version == 2 {
			w.U8(1)
		}
		w.U64(p11.CKD_NULL)
		w.U32(noBytes)
		w.Bytes(c.point())
		r := c.ok(name, s, raw(w.B), c.key(s, p11.CKO_PRIVATE_KEY, "web"), attrs(p11.CKA_KEY_TYPE, p11.CKK_AES, p11.CKA_VALUE_LEN, 16))
		if version == 2 && (r.U64() != 0 || r.U8() != 0) {
			t.Error("the outcome in the answer is not CKR_OK")
		}
		handle := r.U64()
		if err := r.End(); err != nil {
			t.Error(err)
		}
		r = c.ok("C_GetAttributeValue", s, handle, []wanted{{p11.CKA_VALUE, 16}})
		if got := hexOf(r.Rest()); got != "0000000100000011"+"01"+"00000010"+"00000010"+strings.Repeat("09", 16)+"0000000000000000" {
			t.Errorf("the secret is %s", got)
		}
	}
}

// Every call is counted, with its outcome.
func TestObserve(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	var seen []string
	c.p.Observe = func(name string, code p11.Code, _ time.Duration) {
		seen = append(seen, fmt.Sprintf("%s %x", name, uint32(code)))
	}
	c.ok("C_GetInfo")
	c.fails(ckrSessionHandleInvalid, "C_CloseSession", 7)
	c.p.handle(context.Background(), []byte{1, 2, 3, 4}, nil)
	if got := strings.Join(seen, ", "); got != "C_GetInfo 0, C_CloseSession b3, unknown 20" {
		t.Error(got)
	}
}

// Keys of sessions are kept from ending while their program lives.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	c := newClient(t, 0)
	s := c.open()
	curve := attrs(p11.CKA_EC_PARAMS, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"))
	ctx, cancel := context.WithCancel(t.Context())
	c.p.keep = ctx
	c.ok("C_GenerateKeyPair", s, mech(p11.CKM_EC_KEY_PAIR_GEN), curve, attrs(p11.CKA_TOKEN, false))
	ended := make(chan struct{})
	go func() { c.p.keepAlive(time.Millisecond); close(ended) }()
	for deadline := time.Now().Add(20 * time.Second); c.f.count("transit/pkcs11/session-") < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the key of the session is not kept")
		}
	}
	cancel()
	<-ended
}

// A program whose agent has a client token of its own needs no login; a PIN goes
// before it.
func TestOwnToken(t *testing.T) {
	t.Parallel()
	f, _ := newFake(t)
	service, err := p11.New(p11.Options{Slots: []p11.Slot{{Label: "claviger", Mounts: []string{"transit"}}}, Backend: ownBackend{f}, Own: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, newProgram(t.Context(), &Options{Service: service, Logger: discard}, "test", 0), f}
	c.ok("C_Initialize", opening()...)
	s := c.ok("C_OpenSession", 0, ckfSerialSession).U64()
	c.key(s, p11.CKO_PRIVATE_KEY, "web")
	r := c.ok("C_GetTokenInfo", 0)
	for range 4 {
		r.Bytes()
	}
	if flags := r.U64(); flags&ckfLoginRequired != 0 {
		t.Errorf("flags 0x%x", flags)
	}
	c.fails(p11.CKR_PIN_INCORRECT, "C_Login", s, ckuUser, []byte("bad"))
	c.ok("C_Login", s, ckuUser, []byte(nil))
	c.ok("C_Logout", s)
}

// ownBackend is a backend with a client token of its own.
type ownBackend struct{ *fake }

func (o ownBackend) Call(ctx context.Context, c *p11.Call, in, out any) error {
	call := *c
	if call.Token == "" {
		call.Token = "good"
	}
	return o.fake.Call(ctx, &call, in, out)
}
