/* C_Sign and C_Verify, in one part or many. */
#include <string.h>

#include "module.h"

/* sign_size is how long signatures are, 0 if neither key nor mechanism tells. */
static size_t sign_size(const struct opn *o)
{
	enum hash mac = hash_of_hmac(o->mech);
	if (mac != HASH_NONE)
		return sha_size(mac);
	switch (o->mech) {
	case CKM_ECDSA: case CKM_ECDSA_SHA1: case CKM_ECDSA_SHA224: case CKM_ECDSA_SHA256: case CKM_ECDSA_SHA384:
	case CKM_ECDSA_SHA512: case CKM_EDDSA:
		return 2 * key_bytes(o->key);
	case CKM_AES_CMAC:
		return 16;
	default:
		return attrs_number(&o->key->a, CKA_KEY_TYPE, 0) == CKK_RSA ? key_bytes(o->key) : 0;
	}
}

static CK_RV sign_init(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key, enum kind kind)
{
	struct opn *o;
	if (!m)
		return opn_cancel(h, kind);
	CK_RV rv = opn_begin(h, kind, &o);
	if (rv != CKR_OK)
		return rv;
	if (kind == SIGN)
		rv = opn_key(o, m, key, CKF_SIGN, CKA_SIGN);
	else
		rv = opn_key(o, m, key, CKF_VERIFY, CKA_VERIFY);
	if (rv != CKR_OK) {
		opn_drop(h, kind, o);
		return rv;
	}
	o->hash = hash_of_signature(m->mechanism);
	if (o->hash != HASH_NONE)
		sha_begin(&o->sha, o->hash);
	o->size = sign_size(o);
	opn_put(h, kind, o);
	return CKR_OK;
}

/* gather takes another part of the data. */
static CK_RV gather(struct opn *o, const CK_BYTE *data, CK_ULONG n)
{
	o->parts = true;
	if (o->hash != HASH_NONE)
		sha_add(&o->sha, data, n);
	else if (n > MAX_DATA - o->data.n)
		return CKR_DATA_LEN_RANGE;
	else
		w_raw(&o->data, data, n);
	return o->data.bad ? CKR_HOST_MEMORY : CKR_OK;
}

static CK_RV update(CK_SESSION_HANDLE h, enum kind kind, const CK_BYTE *data, CK_ULONG n)
{
	struct opn *o;
	CK_RV rv = opn_take(h, kind, &o);
	if (rv != CKR_OK)
		return rv;
	if (n && !data) {
		opn_put(h, kind, o);
		return CKR_ARGUMENTS_BAD;
	}
	rv = o->hashed || o->has_kept ? CKR_OPERATION_ACTIVE : gather(o, data, n);
	if (rv == CKR_OK || rv == CKR_OPERATION_ACTIVE)
		opn_put(h, kind, o);
	else
		opn_drop(h, kind, o);
	return rv;
}

/* question: what is sent of data, or of the parts that were gathered. digest is
 * the caller's room for that of data. */
static struct question question(struct opn *o, enum op op, const CK_BYTE *data, CK_ULONG n, uint8_t digest[64])
{
	struct question q = {.op = op, .in = data, .n = n, .size = o->size, .exact = true};
	if (o->parts) {
		if (o->hash != HASH_NONE && !o->hashed) {
			w_raw(&o->data, digest, sha_end(&o->sha, digest));
			o->hashed = true;
		}
		q.in = o->data.p;
		q.n = o->data.n;
	} else if (o->hash != HASH_NONE) {
		struct sha s = o->sha;
		sha_add(&s, data, n);
		q.n = sha_end(&s, digest);
		q.in = digest;
	}
	q.digest = o->hash != HASH_NONE;
	return q;
}

static CK_RV sign(CK_SESSION_HANDLE h, bool final, CK_BYTE *data, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	uint8_t digest[64];
	struct opn *o;
	bool over = false;
	CK_RV rv = opn_take(h, SIGN, &o);
	if (rv != CKR_OK)
		return rv;
	if (!out_n || (n && !data)) {
		rv = CKR_ARGUMENTS_BAD;
	} else if (!final && o->parts) {
		rv = CKR_OPERATION_ACTIVE;
	} else if (o->size && (!out || *out_n < o->size)) {
		*out_n = o->size; /* before anything is hashed: more parts may follow */
		rv = out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
	} else {
		o->parts = final;
		struct question q = question(o, OP_SIGN, data, n, digest);
		rv = o->data.bad ? CKR_HOST_MEMORY : opn_answer(o, &q, out, out_n, &over);
	}
	if (over)
		opn_drop(h, SIGN, o);
	else
		opn_put(h, SIGN, o);
	return rv;
}

static CK_RV verify(CK_SESSION_HANDLE h, bool final, CK_BYTE *data, CK_ULONG n, CK_BYTE *signature, CK_ULONG length)
{
	uint8_t digest[64];
	struct opn *o;
	CK_RV rv = opn_take(h, VERIFY, &o);
	if (rv != CKR_OK)
		return rv;
	if (!signature || (n && !data) || (!final && o->parts)) {
		opn_put(h, VERIFY, o);
		return !final && o->parts ? CKR_OPERATION_ACTIVE : CKR_ARGUMENTS_BAD;
	}
	o->parts = final;
	struct question q = question(o, OP_VERIFY, data, n, digest);
	if (o->data.bad)
		rv = CKR_HOST_MEMORY;
	else if (length > MAX_FRAME || (o->size && length != o->size))
		rv = CKR_SIGNATURE_LEN_RANGE;
	else
		rv = opn_ask(o, &q, signature, length, NULL);
	opn_drop(h, VERIFY, o);
	return rv;
}

CK_RV C_SignInit(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
	return sign_init(h, m, key, SIGN);
}

CK_RV C_Sign(CK_SESSION_HANDLE h, CK_BYTE *data, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	return sign(h, false, data, n, out, out_n);
}

CK_RV C_SignUpdate(CK_SESSION_HANDLE h, CK_BYTE *data, CK_ULONG n)
{
	return update(h, SIGN, data, n);
}

CK_RV C_SignFinal(CK_SESSION_HANDLE h, CK_BYTE *out, CK_ULONG *out_n)
{
	return sign(h, true, NULL, 0, out, out_n);
}

CK_RV C_VerifyInit(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
	return sign_init(h, m, key, VERIFY);
}

CK_RV C_Verify(CK_SESSION_HANDLE h, CK_BYTE *data, CK_ULONG n, CK_BYTE *signature, CK_ULONG length)
{
	return verify(h, false, data, n, signature, length);
}

CK_RV C_VerifyUpdate(CK_SESSION_HANDLE h, CK_BYTE *data, CK_ULONG n)
{
	return update(h, VERIFY, data, n);
}

CK_RV C_VerifyFinal(CK_SESSION_HANDLE h, CK_BYTE *signature, CK_ULONG length)
{
	return verify(h, true, NULL, 0, signature, length);
}
