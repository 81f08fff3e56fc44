/* C_Digest: computed here, and which hash a mechanism means. */
#include <string.h>

#include "module.h"

enum hash hash_of_digest(CK_MECHANISM_TYPE m)
{
	switch (m) {
	case CKM_SHA_1: return SHA1;
	case CKM_SHA224: return SHA224;
	case CKM_SHA256: return SHA256;
	case CKM_SHA384: return SHA384;
	case CKM_SHA512: return SHA512;
	default: return HASH_NONE;
	}
}

/* hash_of_signature: of mechanisms whose data is hashed here, so that of however
 * much data only a digest travels. */
enum hash hash_of_signature(CK_MECHANISM_TYPE m)
{
	switch (m) {
	case CKM_SHA1_RSA_PKCS: case CKM_SHA1_RSA_PKCS_PSS: case CKM_ECDSA_SHA1: return SHA1;
	case CKM_SHA224_RSA_PKCS: case CKM_SHA224_RSA_PKCS_PSS: case CKM_ECDSA_SHA224: return SHA224;
	case CKM_SHA256_RSA_PKCS: case CKM_SHA256_RSA_PKCS_PSS: case CKM_ECDSA_SHA256: return SHA256;
	case CKM_SHA384_RSA_PKCS: case CKM_SHA384_RSA_PKCS_PSS: case CKM_ECDSA_SHA384: return SHA384;
	case CKM_SHA512_RSA_PKCS: case CKM_SHA512_RSA_PKCS_PSS: case CKM_ECDSA_SHA512: return SHA512;
	default: return HASH_NONE;
	}
}

enum hash hash_of_hmac(CK_MECHANISM_TYPE m)
{
	switch (m) {
	case CKM_SHA_1_HMAC: return SHA1;
	case CKM_SHA224_HMAC: return SHA224;
	case CKM_SHA256_HMAC: return SHA256;
	case CKM_SHA384_HMAC: return SHA384;
	case CKM_SHA512_HMAC: return SHA512;
	default: return HASH_NONE;
	}
}

CK_RV C_DigestInit(CK_SESSION_HANDLE h, CK_MECHANISM *m)
{
	struct opn *o;
	if (!m)
		return opn_cancel(h, DIGEST);
	CK_RV rv = opn_begin(h, DIGEST, &o);
	if (rv != CKR_OK)
		return rv;
	o->hash = hash_of_digest(m->mechanism);
	if (o->hash == HASH_NONE || m->ulParameterLen) {
		rv = o->hash == HASH_NONE ? CKR_MECHANISM_INVALID : CKR_MECHANISM_PARAM_INVALID;
		opn_drop(h, DIGEST, o);
		return rv;
	}
	sha_begin(&o->sha, o->hash);
	o->size = sha_size(o->hash);
	opn_put(h, DIGEST, o);
	return CKR_OK;
}

/* give ends the digest into out, or tells how long it is and lets it go on. */
static CK_RV give(CK_SESSION_HANDLE h, struct opn *o, const CK_BYTE *data, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	uint8_t digest[64];
	CK_ULONG room = *out_n;
	*out_n = o->size;
	if (!out || room < o->size) {
		opn_put(h, DIGEST, o);
		return out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
	}
	sha_add(&o->sha, data, n);
	sha_end(&o->sha, digest);
	memcpy(out, digest, o->size);
	opn_drop(h, DIGEST, o);
	return CKR_OK;
}

/* back hands the operation back. */
static CK_RV back(CK_SESSION_HANDLE h, struct opn *o, CK_RV rv)
{
	opn_put(h, DIGEST, o);
	return rv;
}

CK_RV C_Digest(CK_SESSION_HANDLE h, CK_BYTE *data, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	struct opn *o;
	CK_RV rv = opn_take(h, DIGEST, &o);
	if (rv != CKR_OK)
		return rv;
	if (!out_n || (n && !data))
		return back(h, o, CKR_ARGUMENTS_BAD);
	if (o->parts)
		return back(h, o, CKR_OPERATION_ACTIVE);
	return give(h, o, data, n, out, out_n);
}

CK_RV C_DigestUpdate(CK_SESSION_HANDLE h, CK_BYTE *data, CK_ULONG n)
{
	struct opn *o;
	CK_RV rv = opn_take(h, DIGEST, &o);
	if (rv != CKR_OK)
		return rv;
	if (n && !data)
		return back(h, o, CKR_ARGUMENTS_BAD);
	sha_add(&o->sha, data, n);
	o->parts = true;
	opn_put(h, DIGEST, o);
	return CKR_OK;
}

/* C_DigestKey: of secrets that are known here. */
CK_RV C_DigestKey(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE key)
{
	struct object *object;
	struct opn *o;
	CK_RV rv = opn_take(h, DIGEST, &o);
	if (rv != CKR_OK)
		return rv;
	rv = object_get(o->slot, key, INT64_MAX, &object);
	if (rv != CKR_OK)
		return back(h, o, rv == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : rv);
	const struct attr *value = attrs_get(&object->a, CKA_VALUE);
	if (value && attrs_number(&object->a, CKA_CLASS, CKO_DATA) == CKO_SECRET_KEY) {
		sha_add(&o->sha, value->v, value->n);
		o->parts = true;
	} else {
		rv = CKR_KEY_INDIGESTIBLE;
	}
	object_put(object);
	return back(h, o, rv);
}

CK_RV C_DigestFinal(CK_SESSION_HANDLE h, CK_BYTE *out, CK_ULONG *out_n)
{
	struct opn *o;
	CK_RV rv = opn_take(h, DIGEST, &o);
	if (rv != CKR_OK)
		return rv;
	if (!out_n)
		return back(h, o, CKR_ARGUMENTS_BAD);
	return give(h, o, NULL, 0, out, out_n);
}
