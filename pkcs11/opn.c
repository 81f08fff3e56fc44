/* Operations of sessions: their key, their question, and answers that are kept
 * until the application comes with a buffer that is large enough. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

void opn_free(struct opn *o)
{
	if (!o)
		return;
	w_free(&o->mechanism);
	w_free(&o->data);
	w_free(&o->kept);
	w_free(&o->asked);
	object_put(o->key);
	explicit_bzero(o, sizeof *o);
	free(o);
}

/* opn_key sets mechanism and key: the mechanism is offered for flag, the key
 * exists and has the attribute that permits it. */
CK_RV opn_key(struct opn *o, const CK_MECHANISM *m, CK_OBJECT_HANDLE key, CK_FLAGS flag, CK_ATTRIBUTE_TYPE permits)
{
	CK_RV rv = slot_may(o->slot);
	if (rv == CKR_OK)
		rv = slot_mechanism(o->slot, m->mechanism, flag);
	if (rv == CKR_OK)
		rv = w_mechanism(&o->mechanism, m);
	if (rv == CKR_OK)
		rv = object_get(o->slot, key, INT64_MAX, &o->key);
	if (rv == CKR_OBJECT_HANDLE_INVALID)
		rv = CKR_KEY_HANDLE_INVALID;
	if (rv == CKR_OK && !attrs_bool(&o->key->a, permits, true))
		rv = CKR_KEY_FUNCTION_NOT_PERMITTED;
	o->mech = m->mechanism;
	return rv;
}

/* Lengths of fields by CKA_EC_PARAMS: object identifiers of curves (RFC 5480, RFC
 * 8410), or the name that v3.0 gives Ed25519. */
static size_t curve_bytes(const struct attr *params)
{
	static const struct { uint8_t der[14]; uint8_t n, bytes; } curves[] = {
		{{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, 10, 32},
		{{6, 5, 0x2b, 0x81, 4, 0, 0x0a}, 7, 32},
		{{6, 5, 0x2b, 0x81, 4, 0, 0x21}, 7, 28},
		{{6, 5, 0x2b, 0x81, 4, 0, 0x22}, 7, 48},
		{{6, 5, 0x2b, 0x81, 4, 0, 0x23}, 7, 66},
		{{6, 3, 0x2b, 0x65, 0x70}, 5, 32},
		{{0x13, 12, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'}, 14, 32},
	};
	for (size_t i = 0; params && i < sizeof curves / sizeof curves[0]; i++)
		if (params->n == curves[i].n && memcmp(params->v, curves[i].der, params->n) == 0)
			return curves[i].bytes;
	return 0;
}

/* key_bytes is the length of an RSA key's modulus or of an elliptic curve's field,
 * 0 if the attributes do not tell. */
size_t key_bytes(const struct object *key)
{
	const struct attr *m;
	switch (attrs_number(&key->a, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION)) {
	case CKK_RSA:
		m = attrs_get(&key->a, CKA_MODULUS);
		if (!m)
			return (attrs_number(&key->a, CKA_MODULUS_BITS, 0) + 7) / 8;
		for (size_t i = 0; i < m->n; i++)
			if (m->v[i])
				return m->n - i;
		return 0;
	case CKK_EC: case CKK_EC_EDWARDS:
		return curve_bytes(attrs_get(&key->a, CKA_EC_PARAMS));
	default:
		return 0;
	}
}

static bool signs(enum op op)
{
	return op == OP_SIGN || op == OP_VERIFY;
}

/* opn_ask asks q with the operation's key and mechanism; answer may be NULL. */
CK_RV opn_ask(struct opn *o, const struct question *q, const void *signature, size_t n, struct wbuf *answer)
{
	struct call c;
	if (q->n > MAX_DATA)
		return CKR_DATA_LEN_RANGE;
	call_begin(&c, q->op, o->slot);
	w_key(&c.req, o->key);
	w_raw(&c.req, o->mechanism.p, o->mechanism.n);
	if (signs(q->op))
		w_u8(&c.req, q->digest);
	w_bytes(&c.req, q->in, q->n);
	if (q->op == OP_VERIFY)
		w_bytes(&c.req, signature, n);
	CK_RV rv = call_run(&c);
	if (rv == CKR_OK && answer) {
		struct rbuf field = r_bytes(&c.body);
		w_raw(answer, field.p, field.n);
		if (answer->bad)
			rv = CKR_HOST_MEMORY;
	}
	if (rv == CKR_KEY_HANDLE_INVALID)
		cache_drop(o->slot, o->key->handle); /* it is gone: the next Init shall say so */
	return call_ended(&c, rv);
}

static bool same_question(const struct opn *o, const struct question *q)
{
	return o->has_kept && o->asked.n == q->n && (!q->n || memcmp(o->asked.p, q->in, q->n) == 0);
}

/* opn_answer asks q and gives the answer to the application, as section 5.2 of
 * PKCS#11 wants buffers filled. How long it is goes without a question where that
 * is known; an answer that did not fit waits for the next call, so that nothing is
 * signed or deciphered twice. over: the operation has ended. */
CK_RV opn_answer(struct opn *o, const struct question *q, CK_BYTE *out, CK_ULONG *n, bool *over)
{
	bool kept = same_question(o, q);
	*over = false;
	if (!kept && q->size && (!out || (q->exact && *n < q->size))) {
		*n = q->size;
		return out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
	}
	if (!kept) {
		w_free(&o->kept);
		w_free(&o->asked);
		o->has_kept = false;
		CK_RV rv = opn_ask(o, q, NULL, 0, &o->kept);
		if (rv != CKR_OK) {
			*over = true;
			return rv;
		}
	}
	CK_ULONG room = *n;
	*n = o->kept.n;
	if (out && room >= o->kept.n) {
		if (o->kept.n)
			memcpy(out, o->kept.p, o->kept.n);
		*over = true;
		return CKR_OK;
	}
	if (!kept) {
		w_raw(&o->asked, q->in, q->n);
		o->has_kept = !o->asked.bad;
	}
	return out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
}
