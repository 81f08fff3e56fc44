package e2e

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Attributes of PKCS#11 v2.40 and of SoftHSM2 (a vendor's, CKA_OS_USERPIN).
const (
	ckaValue           = 0x11
	ckaID              = 0x102
	ckaLabel           = 0x03
	ckaPrivateExponent = 0x123
	ckaECParams        = 0x180
	ckaUserPIN         = 0x8000534d
)

// object is what SoftHSM2 keeps of an object of its token, decrypted.
type object struct {
	label, id string // id in hex
	secret    []byte // CKA_VALUE or CKA_PRIVATE_EXPONENT; of a P-256 key 32 bytes
}

// readTokens decrypts what SoftHSM2 wrote, knowing the user PIN. It needs no
// module, so it shows also what no module would show.
func readTokens(t *testing.T, dir, pin string) []object {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.object"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d objects in %s, %v", len(files), dir, err)
	}
	var master cipher.Block
	all := map[string]map[uint64][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		attrs, err := parseObject(b)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if filepath.Base(file) != "token.object" {
			all[file] = attrs
			continue
		}
		if master, err = masterKey(attrs[ckaUserPIN], pin); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if master == nil {
		t.Fatalf("no token.object in %s", dir)
	}
	var objects []object
	for file, attrs := range all {
		open := func(a uint64) []byte {
			if len(attrs[a]) == 0 {
				return nil
			}
			b, err := openCBC(master, attrs[a])
			if err != nil {
				t.Fatalf("%s: attribute %#x: %v", file, a, err)
			}
			return b
		}
		o := object{label: string(open(ckaLabel)), id: hex.EncodeToString(open(ckaID)), secret: open(ckaValue)}
		if o.secret == nil {
			o.secret = open(ckaPrivateExponent)
		}
		if len(attrs[ckaECParams]) > 0 && o.secret != nil {
			// SoftHSM2 keeps the number without leading zeros.
			o.secret = append(make([]byte, max(0, 32-len(o.secret))), o.secret...)
		}
		objects = append(objects, o)
	}
	return objects
}

// parseObject reads the file of an object: a generation number, then for each
// attribute its type, the kind of its value, and the value; numbers of 8 bytes,
// big endian. Only byte strings are returned.
func parseObject(b []byte) (attrs map[uint64][]byte, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("cut short")
		}
	}()
	number := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	number()
	attrs = map[uint64][]byte{}
	for len(b) > 0 {
		attr, kind := number(), number()
		switch kind {
		case 1: // boolean
			b = b[1:]
		case 2: // number
			number()
		case 3: // bytes
			n := number()
			attrs[attr], b = b[:n:n], b[n:]
		case 4: // mechanisms
			b = b[8*number():]
		case 5: // attributes
			b = b[number():]
		default:
			return nil, fmt.Errorf("a value of kind %d", kind)
		}
	}
	return attrs, nil
}

// masterKey opens the key under which a token's private attributes stand: salt
// of 8 bytes, then "RJR" and the key, under a key that is derived from the PIN.
func masterKey(sealed []byte, pin string) (cipher.Block, error) {
	if len(sealed) < 8 {
		return nil, errors.New("no user PIN")
	}
	salt := sealed[:8]
	sum := sha256.Sum256(append(bytes.Clone(salt), pin...))
	for range 1500 + int(salt[7]) - 1 {
		sum = sha256.Sum256(sum[:])
	}
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	plain, err := openCBC(block, sealed[8:])
	key, ok := bytes.CutPrefix(plain, []byte("RJR"))
	if err != nil || !ok {
		return nil, fmt.Errorf("the PIN does not open the token: %v", err)
	}
	return aes.NewCipher(key)
}

// openCBC decrypts an IV and AES-CBC with PKCS #7 padding.
func openCBC(block cipher.Block, sealed []byte) ([]byte, error) {
	if len(sealed) < 32 || len(sealed)%16 != 0 {
		return nil, fmt.Errorf("%d bytes are no encrypted value", len(sealed))
	}
	plain := make([]byte, len(sealed)-16)
	cipher.NewCBCDecrypter(block, sealed[:16]).CryptBlocks(plain, sealed[16:])
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > 16 || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errors.New("wrong padding")
	}
	return plain[:len(plain)-pad], nil
}

// unwrapKWP opens a secret that AES key wrap with padding wrapped (RFC 5649).
func unwrapKWP(kek, blob []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(blob) < 24 || len(blob)%8 != 0 {
		return nil, fmt.Errorf("%d bytes are no wrapped key", len(blob))
	}
	out := bytes.Clone(blob)
	n := len(out)/8 - 1
	var b [16]byte
	copy(b[:8], out)
	for i := uint64(6 * n); i > 0; i-- { // RFC 3394 section 2.2.2
		r := out[8+8*((i-1)%uint64(n)):][:8]
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:8])^i)
		copy(b[8:], r)
		block.Decrypt(b[:], b[:])
		copy(r, b[8:])
	}
	size := int(binary.BigEndian.Uint32(b[4:]))
	if binary.BigEndian.Uint32(b[:]) != 0xa65959a6 || size > len(out)-8 {
		return nil, errors.New("the wrapped key is of another key-encryption key")
	}
	return out[8 : 8+size], nil
}
