/* Keys that are made, wrapped, unwrapped and derived by the other side. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "module.h"

/* start checks session, template and mechanism, and begins the request with the
 * key and the mechanism; no key: CK_INVALID_HANDLE. a may be NULL. */
static CK_RV start(struct call *c, enum op op, CK_SESSION_HANDLE h, const CK_MECHANISM *m, CK_OBJECT_HANDLE key,
	const struct attrs *a, CK_SLOT_ID *slot)
{
	static const struct attrs none;
	struct object *object = NULL;
	CK_RV rv = template_check(h, a ? a : &none, slot);
	if (rv == CKR_OK)
		rv = slot_may(*slot);
	if (rv == CKR_OK)
		rv = slot_mechanism(*slot, m->mechanism, 0);
	if (rv == CKR_OK && key != CK_INVALID_HANDLE)
		rv = object_get(*slot, key, INT64_MAX, &object);
	if (rv != CKR_OK)
		return rv == CKR_OBJECT_HANDLE_INVALID ? CKR_KEY_HANDLE_INVALID : rv;
	call_begin(c, op, *slot);
	if (object)
		w_key(&c->req, object);
	object_put(object);
	rv = w_mechanism(&c->req, m);
	if (rv != CKR_OK)
		call_ended(c, rv);
	return rv;
}

/* finish runs the request and reads the n objects of its answer. */
static CK_RV finish(struct call *c, CK_SLOT_ID slot, struct object *made[2], int n)
{
	CK_RV rv = call_run(c);
	for (int i = 0; i < n && rv == CKR_OK; i++)
		if (!r_object(&c->body, slot, &made[i]))
			rv = CKR_DEVICE_ERROR;
	rv = call_ended(c, rv);
	for (int i = 0; i < n && rv != CKR_OK; i++) {
		object_put(made[i]);
		made[i] = NULL;
	}
	return rv;
}

CK_RV C_GenerateKey(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to)
{
	struct call c;
	struct attrs a;
	struct object *made[2] = {0};
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!m || !to)
		return CKR_ARGUMENTS_BAD;
	rv = attrs_from(&a, v, n);
	if (rv != CKR_OK)
		return rv;
	rv = start(&c, OP_GENERATE, h, m, CK_INVALID_HANDLE, &a, &slot);
	if (rv == CKR_OK) {
		w_attrs(&c.req, &a);
		rv = finish(&c, slot, made, 1);
	}
	attrs_free(&a);
	return rv == CKR_OK ? object_adopt(h, made[0], to) : rv;
}

static CK_RV generate_pair(CK_SESSION_HANDLE h, CK_MECHANISM *m, const struct attrs *public, const struct attrs *private,
	CK_OBJECT_HANDLE to[2])
{
	struct call c;
	struct object *made[2] = {0};
	CK_SLOT_ID slot;
	CK_RV rv = template_check(h, public, &slot);
	if (rv == CKR_OK)
		rv = start(&c, OP_GENERATEPAIR, h, m, CK_INVALID_HANDLE, private, &slot);
	if (rv != CKR_OK)
		return rv;
	w_attrs(&c.req, public);
	w_attrs(&c.req, private);
	rv = finish(&c, slot, made, 2);
	if (rv != CKR_OK)
		return rv;
	rv = object_adopt(h, made[0], &to[0]);
	CK_RV second = object_adopt(h, made[1], &to[1]);
	return rv == CKR_OK ? second : rv;
}

CK_RV C_GenerateKeyPair(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_ATTRIBUTE *public, CK_ULONG public_n,
	CK_ATTRIBUTE *private, CK_ULONG private_n, CK_OBJECT_HANDLE *to_public, CK_OBJECT_HANDLE *to_private)
{
	struct attrs a, b;
	CK_OBJECT_HANDLE to[2];
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!m || !to_public || !to_private)
		return CKR_ARGUMENTS_BAD;
	rv = attrs_from(&a, public, public_n);
	if (rv != CKR_OK)
		return rv;
	rv = attrs_from(&b, private, private_n);
	if (rv == CKR_OK) {
		rv = generate_pair(h, m, &a, &b, to);
		attrs_free(&b);
	}
	attrs_free(&a);
	if (rv == CKR_OK) {
		*to_public = to[0];
		*to_private = to[1];
	}
	return rv;
}

CK_RV C_WrapKey(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *n)
{
	struct call c;
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!m || !n || wrapping == CK_INVALID_HANDLE)
		return CKR_ARGUMENTS_BAD;
	if (key == CK_INVALID_HANDLE)
		return CKR_KEY_HANDLE_INVALID;
	if (key & LOCAL)
		return CKR_KEY_NOT_WRAPPABLE;
	rv = start(&c, OP_WRAP, h, m, wrapping, NULL, &slot);
	if (rv != CKR_OK)
		return rv;
	w_u64(&c.req, key);
	rv = call_run(&c);
	if (rv == CKR_OK) {
		struct rbuf wrapped = r_bytes(&c.body);
		CK_ULONG room = *n;
		*n = wrapped.n;
		if (out && room < wrapped.n)
			rv = CKR_BUFFER_TOO_SMALL;
		else if (out && wrapped.n)
			memcpy(out, wrapped.p, wrapped.n);
	}
	return call_ended(&c, rv);
}

/* from_key makes an object with a key: UNWRAP with data, DERIVE without. */
static CK_RV from_key(CK_SESSION_HANDLE h, enum op op, CK_MECHANISM *m, CK_OBJECT_HANDLE key, const CK_BYTE *data,
	CK_ULONG data_n, CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to)
{
	struct call c;
	struct attrs a;
	struct object *made[2] = {0};
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!m || !to || (data_n && !data))
		return CKR_ARGUMENTS_BAD;
	if (key == CK_INVALID_HANDLE)
		return CKR_KEY_HANDLE_INVALID;
	if (data_n > MAX_DATA)
		return CKR_DATA_LEN_RANGE;
	rv = attrs_from(&a, v, n);
	if (rv != CKR_OK)
		return rv;
	rv = start(&c, op, h, m, key, &a, &slot);
	if (rv == CKR_OK) {
		if (op == OP_UNWRAP)
			w_bytes(&c.req, data, data_n);
		w_attrs(&c.req, &a);
		rv = finish(&c, slot, made, 1);
	}
	attrs_free(&a);
	return rv == CKR_OK ? object_adopt(h, made[0], to) : rv;
}

CK_RV C_UnwrapKey(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key, CK_BYTE *wrapped, CK_ULONG wrapped_n,
	CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to)
{
	return from_key(h, OP_UNWRAP, m, key, wrapped, wrapped_n, v, n, to);
}

CK_RV C_DeriveKey(CK_SESSION_HANDLE h, CK_MECHANISM *m, CK_OBJECT_HANDLE key, CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to)
{
	return from_key(h, OP_DERIVE, m, key, NULL, 0, v, n, to);
}

enum { MOST_RANDOM = 1 << 20 };

static CK_RV some_random(CK_SLOT_ID slot, CK_BYTE *out, CK_ULONG n)
{
	struct call c;
	call_begin(&c, OP_RANDOM, slot);
	w_u32(&c.req, (uint32_t)n);
	CK_RV rv = call_run(&c);
	if (rv == CKR_OK) {
		struct rbuf bytes = r_bytes(&c.body);
		if (bytes.n == n)
			memcpy(out, bytes.p, n);
		else
			rv = CKR_DEVICE_ERROR;
	}
	return call_ended(&c, rv);
}

static CK_RV kernel_random(CK_BYTE *out, CK_ULONG n)
{
	while (n) {
		ssize_t got = getrandom(out, n, 0);
		if (got < 0 && errno != EINTR)
			return CKR_FUNCTION_FAILED;
		out += got > 0 ? got : 0;
		n -= got > 0 ? (CK_ULONG)got : 0;
	}
	return CKR_OK;
}

/* C_GenerateRandom asks the token. Programs may call it without a login; where the
 * other side answers nobody unknown, the kernel does. */
CK_RV C_GenerateRandom(CK_SESSION_HANDLE h, CK_BYTE *out, CK_ULONG n)
{
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv == CKR_OK && n && !out)
		rv = CKR_ARGUMENTS_BAD;
	if (rv == CKR_OK)
		rv = slot_may(slot);
	if (rv == CKR_USER_NOT_LOGGED_IN)
		return kernel_random(out, n);
	while (rv == CKR_OK && n) {
		CK_ULONG some = n < MOST_RANDOM ? n : MOST_RANDOM;
		rv = some_random(slot, out, some);
		out += some;
		n -= some;
	}
	return rv;
}
