package p11

import (
	"crypto"
	"slices"
)

// MechanismInfo is a mechanism that a slot offers: CK_MECHANISM_INFO.
type MechanismInfo struct {
	Number   uint64
	Min, Max uint32 // bits of RSA and EC keys, bytes of others, as the standard has it
	Flags    uint64
	ckk      uint64 // type of key that it works with
}

const (
	flagsEC   = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS
	signs     = CKF_SIGN | CKF_VERIFY
	encrypts  = CKF_ENCRYPT | CKF_DECRYPT
	maxSecret = 512 // bytes of a generic secret
)

// mechanisms are all that are offered, in the order of their numbers' families.
var mechanisms = makeMechanisms()

func makeMechanisms() []MechanismInfo {
	all := []MechanismInfo{
		{CKM_RSA_PKCS_KEY_PAIR_GEN, 2048, 4096, CKF_GENERATE_KEY_PAIR, CKK_RSA},
		{CKM_RSA_PKCS, 1024, 8192, signs | encrypts | CKF_UNWRAP, CKK_RSA},
		{CKM_RSA_PKCS_OAEP, 1024, 8192, encrypts | CKF_UNWRAP, CKK_RSA},
		{CKM_RSA_PKCS_PSS, 1024, 8192, signs, CKK_RSA},
	}
	rsa := []uint64{CKM_SHA1_RSA_PKCS, CKM_SHA224_RSA_PKCS, CKM_SHA256_RSA_PKCS, CKM_SHA384_RSA_PKCS, CKM_SHA512_RSA_PKCS,
		CKM_SHA1_RSA_PKCS_PSS, CKM_SHA224_RSA_PKCS_PSS, CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384_RSA_PKCS_PSS, CKM_SHA512_RSA_PKCS_PSS}
	for _, m := range rsa {
		all = append(all, MechanismInfo{m, 1024, 8192, signs, CKK_RSA})
	}
	all = append(all, MechanismInfo{CKM_EC_KEY_PAIR_GEN, 256, 521, CKF_GENERATE_KEY_PAIR | flagsEC, CKK_EC})
	for _, m := range []uint64{CKM_ECDSA, CKM_ECDSA_SHA1, CKM_ECDSA_SHA224, CKM_ECDSA_SHA256, CKM_ECDSA_SHA384, CKM_ECDSA_SHA512} {
		all = append(all, MechanismInfo{m, 256, 521, signs | flagsEC, CKK_EC})
	}
	all = append(all,
		MechanismInfo{CKM_ECDH1_DERIVE, 256, 521, CKF_DERIVE | flagsEC, CKK_EC},
		MechanismInfo{CKM_EC_EDWARDS_KEY_PAIR_GEN, 256, 256, CKF_GENERATE_KEY_PAIR | flagsEC, CKK_EC_EDWARDS},
		MechanismInfo{CKM_EDDSA, 256, 256, signs | flagsEC, CKK_EC_EDWARDS},
		MechanismInfo{CKM_AES_KEY_GEN, 16, 32, CKF_GENERATE, CKK_AES},
		MechanismInfo{CKM_AES_CBC, 16, 32, encrypts | CKF_UNWRAP, CKK_AES},
		MechanismInfo{CKM_AES_CBC_PAD, 16, 32, encrypts | CKF_UNWRAP, CKK_AES},
		MechanismInfo{CKM_AES_GCM, 16, 32, encrypts, CKK_AES},
		MechanismInfo{CKM_GENERIC_SECRET_KEY_GEN, 1, maxSecret, CKF_GENERATE, CKK_GENERIC_SECRET})
	for _, m := range []uint64{CKM_SHA_1_HMAC, CKM_SHA224_HMAC, CKM_SHA256_HMAC, CKM_SHA384_HMAC, CKM_SHA512_HMAC} {
		all = append(all, MechanismInfo{m, 1, maxSecret, signs, CKK_GENERIC_SECRET},
			MechanismInfo{m + 1, 1, maxSecret, signs, CKK_GENERIC_SECRET}) // …_GENERAL
	}
	return all
}

var mechanismsByType = func() map[uint64][]uint64 {
	by := map[uint64][]uint64{}
	for i := range mechanisms {
		m := &mechanisms[i]
		if m.Flags&(CKF_GENERATE|CKF_GENERATE_KEY_PAIR) == 0 {
			by[m.ckk] = append(by[m.ckk], m.Number)
		}
	}
	return by
}()

// mechanismsOf are those that work with a type of key.
func mechanismsOf(ckk uint64) []uint64 { return mechanismsByType[ckk] }

// How an RSA or EC key signs.
const (
	padPKCS1 = iota + 1
	padPSS
	padECDSA
	padEdDSA
	padHMAC
)

// signature is a mechanism that signs: the hash, 0 if the caller makes the digest
// itself or there is none, and what follows.
type signature struct {
	hash crypto.Hash
	pad  int
}

var signatures = map[uint64]signature{
	CKM_RSA_PKCS:        {0, padPKCS1},
	CKM_SHA1_RSA_PKCS:   {crypto.SHA1, padPKCS1},
	CKM_SHA224_RSA_PKCS: {crypto.SHA224, padPKCS1}, CKM_SHA256_RSA_PKCS: {crypto.SHA256, padPKCS1},
	CKM_SHA384_RSA_PKCS: {crypto.SHA384, padPKCS1}, CKM_SHA512_RSA_PKCS: {crypto.SHA512, padPKCS1},
	CKM_RSA_PKCS_PSS:        {0, padPSS},
	CKM_SHA1_RSA_PKCS_PSS:   {crypto.SHA1, padPSS},
	CKM_SHA224_RSA_PKCS_PSS: {crypto.SHA224, padPSS}, CKM_SHA256_RSA_PKCS_PSS: {crypto.SHA256, padPSS},
	CKM_SHA384_RSA_PKCS_PSS: {crypto.SHA384, padPSS}, CKM_SHA512_RSA_PKCS_PSS: {crypto.SHA512, padPSS},
	CKM_ECDSA:      {0, padECDSA},
	CKM_ECDSA_SHA1: {crypto.SHA1, padECDSA}, CKM_ECDSA_SHA224: {crypto.SHA224, padECDSA},
	CKM_ECDSA_SHA256: {crypto.SHA256, padECDSA}, CKM_ECDSA_SHA384: {crypto.SHA384, padECDSA}, CKM_ECDSA_SHA512: {crypto.SHA512, padECDSA},
	CKM_EDDSA:      {0, padEdDSA},
	CKM_SHA_1_HMAC: {crypto.SHA1, padHMAC}, CKM_SHA_1_HMAC_GENERAL: {crypto.SHA1, padHMAC},
	CKM_SHA224_HMAC: {crypto.SHA224, padHMAC}, CKM_SHA224_HMAC_GENERAL: {crypto.SHA224, padHMAC},
	CKM_SHA256_HMAC: {crypto.SHA256, padHMAC}, CKM_SHA256_HMAC_GENERAL: {crypto.SHA256, padHMAC},
	CKM_SHA384_HMAC: {crypto.SHA384, padHMAC}, CKM_SHA384_HMAC_GENERAL: {crypto.SHA384, padHMAC},
	CKM_SHA512_HMAC: {crypto.SHA512, padHMAC}, CKM_SHA512_HMAC_GENERAL: {crypto.SHA512, padHMAC},
}

// HashOf is the hash of a mechanism of which Sign and Verify take a digest too; 0 if
// it has none.
func HashOf(mechanism uint64) crypto.Hash {
	if sig := signatures[mechanism]; sig.pad != padHMAC {
		return sig.hash
	}
	return 0
}

// DigestOf is the hash of a mechanism that makes digests, CKM_SHA256 and the like; 0
// if it does not.
func DigestOf(mechanism uint64) crypto.Hash { return hashOf[mechanism] }

// general tells whether an HMAC is cut to the length that the parameter says.
func general(m uint64) bool {
	switch m {
	case CKM_SHA_1_HMAC_GENERAL, CKM_SHA224_HMAC_GENERAL, CKM_SHA256_HMAC_GENERAL, CKM_SHA384_HMAC_GENERAL, CKM_SHA512_HMAC_GENERAL:
		return true
	}
	return false
}

// hashOf and mgfOf are the hashes of CKM_… and CKG_MGF1_… in parameters.
var (
	hashOf = map[uint64]crypto.Hash{CKM_SHA_1: crypto.SHA1, CKM_SHA224: crypto.SHA224, CKM_SHA256: crypto.SHA256,
		CKM_SHA384: crypto.SHA384, CKM_SHA512: crypto.SHA512}
	mgfOf = map[uint64]crypto.Hash{CKG_MGF1_SHA1: crypto.SHA1, CKG_MGF1_SHA224: crypto.SHA224, CKG_MGF1_SHA256: crypto.SHA256,
		CKG_MGF1_SHA384: crypto.SHA384, CKG_MGF1_SHA512: crypto.SHA512}
	hashNames = map[crypto.Hash]string{crypto.SHA1: "sha1", crypto.SHA224: "sha2-224", crypto.SHA256: "sha2-256",
		crypto.SHA384: "sha2-384", crypto.SHA512: "sha2-512"}
)

// pairedHash reads hash and MGF of a parameter: both must be the same.
func (m *Mechanism) pairedHash(hash, mgf uint64) (crypto.Hash, error) {
	h := hashOf[hash]
	if h == 0 || mgfOf[mgf] != h {
		return 0, fail(CKR_MECHANISM_PARAM_INVALID,
			"mechanism 0x%x with hash 0x%x and MGF 0x%x is not offered: use SHA-1 or SHA-2 with MGF1 of the same hash", m.Number, hash, mgf)
	}
	return h, nil
}

// MechanismOf describes a mechanism, if slots have it.
func MechanismOf(number uint64) (MechanismInfo, bool) {
	i := slices.IndexFunc(mechanisms, func(m MechanismInfo) bool { return m.Number == number })
	if i < 0 {
		return MechanismInfo{}, false
	}
	return mechanisms[i], true
}
