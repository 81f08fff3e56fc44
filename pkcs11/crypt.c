/* C_Encrypt and C_Decrypt. AES-CBC of many parts streams: whole blocks go as they
 * come, chained by the last block of ciphertext. Of other mechanisms the parts are
 * gathered, so that no plaintext leaves before its tag was checked. */
#include <string.h>

#include "module.h"

enum { BLOCK = 16, CBC_MECHANISM = 8 + 1 + 4 };

static bool streams(const struct opn *o)
{
	return (o->mech == CKM_AES_CBC || o->mech == CKM_AES_CBC_PAD) && o->mechanism.n == CBC_MECHANISM + BLOCK;
}

static CK_RV crypt_init(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key, enum kind kind)
{
	struct opn *o;
	if (!m)
		return opn_cancel(h, kind);
	CK_RV rv = opn_begin(h, kind, &o);
	if (rv != CKR_OK)
		return rv;
	if (kind == ENCRYPT)
		rv = opn_key(o, m, key, CKF_ENCRYPT, CKA_ENCRYPT);
	else
		rv = opn_key(o, m, key, CKF_DECRYPT, CKA_DECRYPT);
	if (rv == CKR_OK)
		opn_put(h, kind, o);
	else
		opn_drop(h, kind, o);
	return rv;
}

/* The tag's length, the last field of the parameter of AES-GCM. */
static size_t tag_bytes(const struct opn *o)
{
	if (o->mechanism.n < 8)
		return 0;
	struct rbuf r = {.p = o->mechanism.p + o->mechanism.n - 8, .n = 8};
	uint64_t bits = r_u64(&r);
	return bits <= 128 ? (bits + 7) / 8 : 0;
}

static struct question question(const struct opn *o, enum kind kind, const CK_BYTE *in, size_t n)
{
	struct question q = {.op = kind == ENCRYPT ? OP_ENCRYPT : OP_DECRYPT, .in = in, .n = n};
	bool rsa = attrs_number(&o->key->a, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION) == CKK_RSA;
	if (rsa)
		q.size = key_bytes(o->key);
	else if (kind == DECRYPT || o->mech == CKM_AES_CBC)
		q.size = n;
	else if (o->mech == CKM_AES_CBC_PAD)
		q.size = n / BLOCK * BLOCK + BLOCK;
	else if (o->mech == CKM_AES_GCM)
		q.size = n + tag_bytes(o);
	q.exact = kind == ENCRYPT || o->mech == CKM_AES_CBC;
	return q;
}

/* ends puts the operation back or ends it. */
static CK_RV ends(CK_SESSION_HANDLE h, enum kind kind, struct opn *o, bool over, CK_RV rv)
{
	if (over)
		opn_drop(h, kind, o);
	else
		opn_put(h, kind, o);
	return rv;
}

static CK_RV whole(CK_SESSION_HANDLE h, enum kind kind, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	struct opn *o;
	bool over;
	CK_RV rv = opn_take(h, kind, &o);
	if (rv != CKR_OK)
		return rv;
	if (!out_n || (n && !in))
		return ends(h, kind, o, false, CKR_ARGUMENTS_BAD);
	if (o->parts)
		return ends(h, kind, o, false, CKR_OPERATION_ACTIVE);
	if (n > MAX_DATA)
		return ends(h, kind, o, true, CKR_DATA_LEN_RANGE);
	struct question q = question(o, kind, in, n);
	rv = opn_answer(o, &q, out, out_n, &over);
	return ends(h, kind, o, over, rv);
}

/* chain makes block the IV of what follows, under the given mechanism. */
static void chain(struct opn *o, CK_MECHANISM_TYPE mech, const uint8_t *block)
{
	uint8_t iv[BLOCK];
	memcpy(iv, block, BLOCK);
	w_free(&o->mechanism);
	w_u64(&o->mechanism, mech);
	w_u8(&o->mechanism, 1);
	w_bytes(&o->mechanism, iv, BLOCK);
}

/* How many of n bytes go now. The last block of a padded ciphertext waits: it has
 * the padding. */
static size_t ready(const struct opn *o, enum kind kind, size_t n)
{
	if (kind == DECRYPT && o->mech == CKM_AES_CBC_PAD && n)
		n--;
	return n / BLOCK * BLOCK;
}

/* stream sends the first now bytes of o->data as raw CBC and writes as many. */
static CK_RV stream(struct opn *o, enum kind kind, size_t now, CK_BYTE *out)
{
	struct question q = {.op = kind == ENCRYPT ? OP_ENCRYPT : OP_DECRYPT, .in = o->data.p, .n = now};
	struct wbuf answer = {0};
	uint8_t iv[BLOCK];
	memcpy(iv, o->mechanism.p + CBC_MECHANISM, BLOCK);
	chain(o, CKM_AES_CBC, iv);
	CK_RV rv = o->mechanism.bad ? CKR_HOST_MEMORY : opn_ask(o, &q, NULL, 0, &answer);
	if (rv == CKR_OK && answer.n != now)
		rv = CKR_DEVICE_ERROR;
	if (rv == CKR_OK) {
		chain(o, o->mech, (kind == ENCRYPT ? answer.p : o->data.p) + now - BLOCK);
		memcpy(out, answer.p, now);
		o->data.n -= now;
		memmove(o->data.p, o->data.p + now, o->data.n);
	}
	w_free(&answer);
	return o->mechanism.bad ? CKR_HOST_MEMORY : rv;
}

static CK_RV part(CK_SESSION_HANDLE h, enum kind kind, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	struct opn *o;
	CK_RV rv = opn_take(h, kind, &o);
	if (rv != CKR_OK)
		return rv;
	if (!out_n || (n && !in))
		return ends(h, kind, o, false, CKR_ARGUMENTS_BAD);
	if (o->has_kept)
		return ends(h, kind, o, false, CKR_OPERATION_ACTIVE);
	if (n > MAX_DATA - o->data.n)
		return ends(h, kind, o, true, CKR_DATA_LEN_RANGE);
	size_t now = streams(o) ? ready(o, kind, o->data.n + n) : 0;
	CK_ULONG room = *out_n;
	*out_n = now;
	if (now && (!out || room < now))
		return ends(h, kind, o, false, out ? CKR_BUFFER_TOO_SMALL : CKR_OK);
	if (!out && !now && streams(o))
		return ends(h, kind, o, false, CKR_OK); /* a question for the length */
	o->parts = true;
	w_raw(&o->data, in, n);
	rv = o->data.bad ? CKR_HOST_MEMORY : CKR_OK;
	if (rv == CKR_OK && now)
		rv = stream(o, kind, now, out);
	return ends(h, kind, o, rv != CKR_OK, rv);
}

static CK_RV last(CK_SESSION_HANDLE h, enum kind kind, CK_BYTE *out, CK_ULONG *out_n)
{
	struct opn *o;
	bool over;
	CK_RV rv = opn_take(h, kind, &o);
	if (rv != CKR_OK)
		return rv;
	if (!out_n)
		return ends(h, kind, o, false, CKR_ARGUMENTS_BAD);
	if (streams(o) && o->mech == CKM_AES_CBC) {
		*out_n = 0;
		rv = !o->data.n ? CKR_OK : kind == ENCRYPT ? CKR_DATA_LEN_RANGE : CKR_ENCRYPTED_DATA_LEN_RANGE;
		return ends(h, kind, o, out || rv != CKR_OK, rv);
	}
	o->parts = true;
	struct question q = question(o, kind, o->data.p, o->data.n);
	rv = opn_answer(o, &q, out, out_n, &over);
	return ends(h, kind, o, over, rv);
}

CK_RV C_EncryptInit(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
	return crypt_init(h, m, key, ENCRYPT);
}

CK_RV C_Encrypt(CK_SESSION_HANDLE h, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	return whole(h, ENCRYPT, in, n, out, out_n);
}

CK_RV C_EncryptUpdate(CK_SESSION_HANDLE h, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	return part(h, ENCRYPT, in, n, out, out_n);
}

CK_RV C_EncryptFinal(CK_SESSION_HANDLE h, CK_BYTE *out, CK_ULONG *out_n)
{
	return last(h, ENCRYPT, out, out_n);
}

CK_RV C_DecryptInit(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
	return crypt_init(h, m, key, DECRYPT);
}

CK_RV C_Decrypt(CK_SESSION_HANDLE h, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	return whole(h, DECRYPT, in, n, out, out_n);
}

CK_RV C_DecryptUpdate(CK_SESSION_HANDLE h, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *out_n)
{
	return part(h, DECRYPT, in, n, out, out_n);
}

CK_RV C_DecryptFinal(CK_SESSION_HANDLE h, CK_BYTE *out, CK_ULONG *out_n)
{
	return last(h, DECRYPT, out, out_n);
}
