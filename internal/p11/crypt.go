package p11

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"

	"github.com/claviger/claviger/api"
)

// errDecrypt is the outcome of every decryption that fails, whatever the reason.
var errDecrypt = fail(CKR_ENCRYPTED_DATA_INVALID, "the ciphertext can't be decrypted with this key and mechanism")

// cipherOf reads a mechanism that encrypts, as the API says it.
func cipherOf(m *Mechanism) (*api.P11Cipher, error) {
	q := &api.P11Cipher{}
	switch m.Number {
	case CKM_RSA_PKCS:
		q.Scheme = "rsa-pkcs1v15"
		return q, m.plain()
	case CKM_RSA_PKCS_OAEP:
		if err := m.want(ParamOAEP, "CK_RSA_PKCS_OAEP_PARAMS"); err != nil {
			return nil, err
		}
		h, err := m.pairedHash(m.OAEP.Hash, m.OAEP.MGF)
		if err != nil {
			return nil, err
		}
		if len(m.OAEP.Label) > 0 && m.OAEP.Source != CKZ_DATA_SPECIFIED {
			return nil, fail(CKR_MECHANISM_PARAM_INVALID, "source %d of the OAEP parameter is not CKZ_DATA_SPECIFIED", m.OAEP.Source)
		}
		q.Scheme, q.Hash, q.Label = "rsa-oaep", hashNames[h], m.OAEP.Label
		return q, nil
	case CKM_AES_GCM:
		return q, m.gcm(q)
	case CKM_AES_CBC, CKM_AES_CBC_PAD:
		if m.Form != ParamRaw || len(m.Raw) != aes.BlockSize {
			return nil, fail(CKR_MECHANISM_PARAM_INVALID, "mechanism 0x%x needs an IV of 16 bytes as its parameter", m.Number)
		}
		q.Scheme, q.IV = "aes-cbc", m.Raw
		if m.Number == CKM_AES_CBC_PAD {
			q.Scheme = "aes-cbc-pad"
		}
		return q, nil
	}
	return nil, fail(CKR_MECHANISM_INVALID, "mechanism 0x%x does not encrypt here", m.Number)
}

func (m *Mechanism) gcm(q *api.P11Cipher) error {
	if err := m.want(ParamGCM, "CK_GCM_PARAMS"); err != nil {
		return err
	}
	g := &m.GCM
	if len(g.IV) != 12 || g.IVBits != 0 && g.IVBits != 96 {
		return fail(CKR_MECHANISM_PARAM_INVALID, "GCM needs an IV of 12 bytes, not %d", len(g.IV))
	}
	if g.TagBits%8 != 0 || g.TagBits < 96 || g.TagBits > 128 {
		return fail(CKR_MECHANISM_PARAM_INVALID, "GCM has a tag of 96 to 128 bits in whole bytes, not of %d", g.TagBits)
	}
	q.Scheme, q.IV, q.AAD, q.TagLength = "aes-gcm", g.IV, g.AAD, int(g.TagBits/8)
	return nil
}

// isRSA tells whether a mechanism is one of RSA.
func isRSA(q *api.P11Cipher) bool { return q.Scheme == "rsa-pkcs1v15" || q.Scheme == "rsa-oaep" }

// Encrypt encrypts: with a public key here, with a secret one on the server, or
// here if only the caller has it.
func (s *Service) Encrypt(ctx context.Context, c *Caller, k Key, m *Mechanism, data []byte) ([]byte, error) {
	q, err := cipherOf(m)
	if err != nil {
		return nil, err
	}
	if isRSA(q) {
		public, _, err := s.public(ctx, c, k)
		if err != nil {
			return nil, err
		}
		return encryptRSA(public, m, data)
	}
	if k.Handle == 0 {
		return aesHere(k.Attributes, q, data, true)
	}
	return s.crypt(ctx, c, k.Handle, q, data, "encrypt", CKR_DATA_LEN_RANGE)
}

// Decrypt is the reverse of Encrypt.
func (s *Service) Decrypt(ctx context.Context, c *Caller, k Key, m *Mechanism, data []byte) ([]byte, error) {
	q, err := cipherOf(m)
	if err != nil {
		return nil, err
	}
	if k.Handle == 0 {
		if isRSA(q) {
			return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "decryption needs the handle of a private key")
		}
		return aesHere(k.Attributes, q, data, false)
	}
	return s.crypt(ctx, c, k.Handle, q, data, "decrypt", CKR_ENCRYPTED_DATA_INVALID)
}

// crypt asks the server.
func (s *Service) crypt(ctx context.Context, c *Caller, handle uint64, q *api.P11Cipher, data []byte, what string, invalid Code) ([]byte, error) {
	e, err := s.resolve(ctx, c, handle, CKR_KEY_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	if e.key == nil || e.class != CKO_PRIVATE_KEY && e.class != CKO_SECRET_KEY {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "the handle is not that of a private or secret key")
	}
	k := kindOf(e.key.Type)
	if isRSA(q) != (k.ckk == CKK_RSA) || !isRSA(q) && k.ckk != CKK_AES {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "%s does not work with a key of type %s", q.Scheme, k.name)
	}
	if k.ckk == CKK_RSA && len(data) != k.bits/8 {
		return nil, fail(CKR_ENCRYPTED_DATA_LEN_RANGE, "a ciphertext of this key has %d bytes, not %d", k.bits/8, len(data))
	}
	if err := blocks(q, data, what == "encrypt"); err != nil {
		return nil, err
	}
	if what == "encrypt" && !e.version.Signs {
		return nil, errNotNew
	}
	q.KeyID, q.Version, q.Input = e.record, e.version.Version, data
	if q.Input == nil {
		q.Input = []byte{}
	}
	var answer api.P11Output
	err = s.call(ctx, c, Call{Verb: Write, Path: e.mount + "pkcs11/" + e.key.Name + "/" + what, Repeatable: true}, q, &answer)
	if err != nil {
		return nil, s.failed(ctx, c, e, err, invalid)
	}
	return answer.Output, nil
}

// blocks refuses input of CBC that is not of whole blocks.
func blocks(q *api.P11Cipher, data []byte, encrypt bool) error {
	cbc, pad := q.Scheme == "aes-cbc", q.Scheme == "aes-cbc-pad"
	switch {
	case (cbc || pad && !encrypt) && len(data)%aes.BlockSize != 0, pad && !encrypt && len(data) == 0:
		code := CKR_ENCRYPTED_DATA_LEN_RANGE
		if encrypt {
			code = CKR_DATA_LEN_RANGE
		}
		return fail(code, "%s works on whole blocks of 16 bytes, not on %d bytes", q.Scheme, len(data))
	}
	return nil
}

func encryptRSA(public any, m *Mechanism, data []byte) ([]byte, error) {
	p, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fail(CKR_KEY_TYPE_INCONSISTENT, "mechanism 0x%x needs an RSA key", m.Number)
	}
	if m.Number == CKM_RSA_PKCS {
		if most := p.Size() - 11; len(data) > most {
			return nil, fail(CKR_DATA_LEN_RANGE, "%d bytes are more than the %d that this key encrypts", len(data), most)
		}
		//lint:ignore SA1019 CKM_RSA_PKCS is what the caller asks for.
		out, err := rsa.EncryptPKCS1v15(rand.Reader, p, data)
		return out, refused(err)
	}
	h, err := m.pairedHash(m.OAEP.Hash, m.OAEP.MGF)
	if err != nil {
		return nil, err
	}
	if most := p.Size() - 2*h.Size() - 2; len(data) > most {
		return nil, fail(CKR_DATA_LEN_RANGE, "%d bytes are more than the %d that this key encrypts with this hash", len(data), max(most, 0))
	}
	out, err := rsa.EncryptOAEP(h.New(), rand.Reader, p, data, m.OAEP.Label)
	return out, refused(err)
}

func refused(err error) error {
	if err == nil {
		return nil
	}
	return fail(CKR_FUNCTION_FAILED, "the key can't be used: %v", err)
}

// aesHere works with an AES key that only the caller has.
func aesHere(as Attributes, q *api.P11Cipher, data []byte, encrypt bool) ([]byte, error) {
	secret, err := secretOf(as)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fail(CKR_KEY_SIZE_RANGE, "an AES key has 16, 24 or 32 bytes, not %d", len(secret))
	}
	if err := blocks(q, data, encrypt); err != nil {
		return nil, err
	}
	if q.Scheme == "aes-gcm" {
		return gcmHere(block, q, data, encrypt)
	}
	out := append([]byte{}, data...)
	pad := q.Scheme == "aes-cbc-pad"
	if encrypt {
		for n := aes.BlockSize - len(data)%aes.BlockSize; pad && len(out) < len(data)+n; {
			out = append(out, byte(n))
		}
		cipher.NewCBCEncrypter(block, q.IV).CryptBlocks(out, out)
		return out, nil
	}
	cipher.NewCBCDecrypter(block, q.IV).CryptBlocks(out, out)
	if pad {
		return unpad(out)
	}
	return out, nil
}

func gcmHere(block cipher.Block, q *api.P11Cipher, data []byte, encrypt bool) ([]byte, error) {
	aead, err := cipher.NewGCMWithTagSize(block, q.TagLength)
	if err != nil {
		return nil, fail(CKR_MECHANISM_PARAM_INVALID, "GCM: %v", err)
	}
	if encrypt {
		return aead.Seal(nil, q.IV, data, q.AAD), nil
	}
	out, err := aead.Open(nil, q.IV, data, q.AAD)
	if err != nil {
		return nil, errDecrypt
	}
	return out, nil
}

// unpad removes PKCS #7 padding. Every wrong one is the same error, after the same
// work.
func unpad(b []byte) ([]byte, error) {
	n := int(b[len(b)-1])
	bad := 0
	for i := range aes.BlockSize {
		// 1 where the byte is one of the padding's and differs
		inside := (i - n) >> 31 & 1
		diff := int(b[len(b)-1-i]) ^ n
		bad |= inside & ((diff | -diff) >> 31 & 1)
	}
	if bad != 0 || n == 0 || n > aes.BlockSize {
		return nil, errDecrypt
	}
	return b[:len(b)-n], nil
}
