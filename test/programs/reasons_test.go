package programs

// reasons are why a script of testdata/tools prints other lines (below a
// heading) with Claviger's module than with SoftHSM2's.
var reasons = map[string]string{
	"pkcs11-tool -L": "Names and numbers of another token. SoftHSM2 has a second slot, for the next token.",
	"pkcs11-tool -I": "Names and numbers of another module.",
	"pkcs11-tool -M": "Claviger has no DES, MD5, DSA, DH, ECB, CTR, CMAC, no RSA without padding, no RSA below 1024 bits and no curves below 256; " +
		"nothing is wrapped, since no key may leave. It has ECDSA with hashing and HMACs of chosen length, which SoftHSM2 lacks.",
	"pkcs11-tool -O": "The same objects. Claviger adds the certificates above the key's own, CKA_UNIQUE_ID and CKA_ALLOWED_MECHANISMS. Its keys " +
		"were made in the token; those of SoftHSM2 were brought, so they are not \"local\" there.",
	"pkcs11-tool -O, without login": "Claviger shows nothing to strangers, not even public keys and certificates.",

	"pkcs11-tool-test --test": "Claviger has no MD5, and C_SeedRandom is not supported, as PKCS#11 allows. SoftHSM2 fails at OAEP with SHA-256 " +
		"and a label, which ends its run there; Claviger's goes to its end without an error.",
	"pkcs11-tool-test --test, without login": "Claviger has no MD5, and C_SeedRandom is not supported, as PKCS#11 allows.",
	"pkcs11-tool-test --test-ec": "SoftHSM2 lacks ECDSA with SHA-1, which ends its run there. Claviger's goes to its end; CKA_SUBJECT must " +
		"be a distinguished name, the test's is none, so that one change is refused.",

	"pkcs11-tool-sign ECDSA": "SoftHSM2 has no ECDSA with hashing.",

	"pkcs11-tool-decrypt RSA": "SoftHSM2 has OAEP with SHA-1 only. What is no ciphertext is CKR_ENCRYPTED_DATA_INVALID, where SoftHSM2 says CKR_FUNCTION_NOT_SUPPORTED.",
	"pkcs11-tool-decrypt AES": "Claviger has no ECB.",

	"pkcs11-tool-objects hash": "Claviger has no MD5.",
	"pkcs11-tool-objects pairs": "Claviger makes no RSA keys below 2048 bits and no curves but P-256, P-384, P-521 and Ed25519. A pair is one named key: " +
		"with its private object its public one is gone, so there is nothing left to delete.",
	"pkcs11-tool-objects certificate": "Claviger shows also the certificates above those of keys, and CKA_UNIQUE_ID.",

	"p11tool --list-tokens":    "Names of another token.",
	"p11tool --list-all":       "Claviger's keys were made in the token, never extractable. It shows also the certificates above those of keys, and wraps nothing.",
	"p11tool --list-privkeys":  "Claviger's keys were made in the token, never extractable.",
	"p11tool --list-all-certs": "Claviger shows also the certificates above those of keys.",
	"ods-hsmutil info":         "Names of another token.",
	"ods-hsmutil test":         "Claviger makes no RSA keys below 2048 bits, no DSA and no Ed448; SoftHSM2 fails at some of them, too. GOST is in neither.",

	"mechanisms AES": "What does not decrypt is CKR_ENCRYPTED_DATA_INVALID, where SoftHSM2 says CKR_GENERAL_ERROR.",
	"mechanisms parts and buffers": "PKCS#11's codes for wrong lengths, where SoftHSM2 says CKR_GENERAL_ERROR. A mechanism that is none of the key's is refused " +
		"at once; SoftHSM2 returns an empty signature.",
	"mechanisms session objects": "SoftHSM2 says CKR_OBJECT_HANDLE_INVALID, Claviger CKR_KEY_HANDLE_INVALID, which PKCS#11 has for C_SignInit.",

	"attributes CKO_PRIVATE_KEY tool-rsa": keyAttributes,
	"attributes CKO_PRIVATE_KEY tool-ec":  keyAttributes,
	"attributes CKO_PUBLIC_KEY tool-rsa":  keyAttributes,
	"attributes CKO_PUBLIC_KEY tool-ec":   keyAttributes,
	"attributes CKO_CERTIFICATE tool-rsa": certificateAttributes,
	"attributes CKO_CERTIFICATE tool-ec":  certificateAttributes,
}

const (
	keyAttributes = "Claviger's key was made in the token and SoftHSM2's was brought, hence CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE and " +
		"CKA_KEY_GEN_MECHANISM. Named keys are copied by nobody and destroyed by C_DestroyObject only if they were made so. Nothing recovers " +
		"data from signatures and nothing wraps. CKA_SUBJECT is the certificate's, CKA_PUBLIC_KEY_INFO and CKA_UNIQUE_ID (PKCS#11 v2.40 and 3.0) are there. " +
		"Empty optional attributes are left out."
	certificateAttributes = "The certificate belongs to the named key and changes with it only. CKA_PUBLIC_KEY_INFO and CKA_UNIQUE_ID (PKCS#11 v2.40 and 3.0) are " +
		"there; empty optional attributes are left out."
)
