/* Objects: how they are held, made, read, changed and destroyed. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "module.h"

enum { FRESH = 5000 };

/* object_new makes an object with one reference and takes the attributes over. */
struct object *object_new(CK_SLOT_ID slot, CK_OBJECT_HANDLE handle, struct attrs *a)
{
	struct object *o = calloc(1, sizeof *o);
	if (o) {
		*o = (struct object){.handle = handle, .slot = slot, .a = *a, .seen = now_ms()};
		atomic_init(&o->refs, 1);
	} else {
		attrs_free(a);
	}
	*a = (struct attrs){0};
	return o;
}

struct object *object_ref(struct object *o)
{
	if (o)
		atomic_fetch_add(&o->refs, 1);
	return o;
}

void object_put(struct object *o)
{
	if (o && atomic_fetch_sub(&o->refs, 1) == 1) {
		attrs_free(&o->a);
		free(o);
	}
}

/* r_object reads an object of an answer. */
bool r_object(struct rbuf *r, CK_SLOT_ID slot, struct object **to)
{
	struct attrs a;
	CK_OBJECT_HANDLE h = r_u64(r);
	if (h & LOCAL || !r_attrs(r, &a))
		return false;
	*to = object_new(slot, h, &a);
	return *to != NULL;
}

static CK_RV object_ask(struct call *c, CK_SLOT_ID slot, struct object **to)
{
	CK_RV rv = call_run(c);
	if (rv == CKR_OK && !r_object(&c->body, slot, to))
		rv = CKR_DEVICE_ERROR;
	rv = call_ended(c, rv);
	if (rv != CKR_OK) {
		object_put(*to);
		*to = NULL;
	}
	return rv;
}

/* object_get finds an object, with a reference: of a session, or told at most
 * most_age milliseconds ago, or asked for. */
CK_RV object_get(CK_SLOT_ID slot, CK_OBJECT_HANDLE h, int64_t most_age, struct object **to)
{
	struct call c;
	*to = own_get(slot, h);
	if (!*to && (h == CK_INVALID_HANDLE || h & LOCAL))
		return CKR_OBJECT_HANDLE_INVALID;
	if (!*to)
		*to = cache_get(slot, h, most_age == INT64_MAX ? INT64_MIN : now_ms() - most_age);
	if (*to)
		return CKR_OK;
	call_begin(&c, OP_GET, slot);
	w_u64(&c.req, h);
	CK_RV rv = object_ask(&c, slot, to);
	if (rv == CKR_OK && (*to)->handle != h) {
		object_put(*to);
		*to = NULL;
		rv = CKR_DEVICE_ERROR;
	}
	if (rv == CKR_OK)
		cache_add(*to);
	else if (rv == CKR_KEY_HANDLE_INVALID || rv == CKR_OBJECT_HANDLE_INVALID) {
		cache_drop(slot, h);
		rv = CKR_OBJECT_HANDLE_INVALID;
	}
	return rv;
}

/* w_key writes a key: its handle, or the attributes of one that is known here only. */
void w_key(struct wbuf *w, const struct object *key)
{
	bool local = key->handle & LOCAL;
	w_u64(w, local ? 0 : key->handle);
	if (local)
		w_attrs(w, &key->a);
}

/* object_adopt takes over an object that was made, with its reference. One of a
 * session is noted as its own; without a handle it gets one of this process. */
CK_RV object_adopt(CK_SESSION_HANDLE session, struct object *o, CK_OBJECT_HANDLE *to)
{
	CK_RV rv = CKR_OK;
	while (o->handle == CK_INVALID_HANDLE || o->handle == LOCAL) {
		if (getrandom(&o->handle, sizeof o->handle, 0) != (ssize_t)sizeof o->handle)
			o->handle = CK_INVALID_HANDLE;
		o->handle |= LOCAL;
	}
	if (o->handle & LOCAL || !attrs_bool(&o->a, CKA_TOKEN, true))
		rv = own_add(session, o) ? CKR_OK : CKR_SESSION_HANDLE_INVALID;
	else
		cache_add(o);
	if (rv == CKR_OK)
		*to = o->handle;
	object_put(o);
	return rv;
}

/* template_check finds the session's slot; objects of the token are made and
 * changed in read/write sessions only. */
CK_RV template_check(CK_SESSION_HANDLE h, const struct attrs *a, CK_SLOT_ID *slot)
{
	CK_FLAGS flags;
	CK_RV rv = session_flags(h, slot, &flags);
	if (rv == CKR_OK && !(flags & CKF_RW_SESSION) && attrs_bool(a, CKA_TOKEN, false))
		rv = CKR_SESSION_READ_ONLY;
	return rv;
}

/* Public objects, and secret keys that are no secret to the application. */
static bool may_be_local(const struct attrs *a)
{
	if (attrs_bool(a, CKA_TOKEN, false))
		return false;
	switch (attrs_number(a, CKA_CLASS, CK_UNAVAILABLE_INFORMATION)) {
	case CKO_DATA: case CKO_CERTIFICATE: case CKO_PUBLIC_KEY:
		return true;
	case CKO_SECRET_KEY:
		return attrs_bool(a, CKA_EXTRACTABLE, false) && !attrs_bool(a, CKA_SENSITIVE, true);
	default:
		return false;
	}
}

/* What section 4 says of attributes that a template leaves out. */
static CK_RV with_defaults(struct attrs *to, const struct attrs *given)
{
	CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
	const struct attr *value = attrs_get(given, CKA_VALUE);
	CK_OBJECT_CLASS class = attrs_number(given, CKA_CLASS, CKO_DATA);
	CK_ULONG n = value ? value->n : 0;
	CK_ATTRIBUTE v[16] = {
		{CKA_TOKEN, &no, sizeof no}, {CKA_PRIVATE, &no, sizeof no}, {CKA_MODIFIABLE, &yes, sizeof yes},
		{CKA_COPYABLE, &yes, sizeof yes}, {CKA_DESTROYABLE, &yes, sizeof yes}, {CKA_LABEL, NULL, 0},
	};
	CK_ULONG count = 6;
	if (class == CKO_PUBLIC_KEY || class == CKO_SECRET_KEY) {
		v[count++] = (CK_ATTRIBUTE){CKA_LOCAL, &no, sizeof no};
		v[count++] = (CK_ATTRIBUTE){CKA_ID, NULL, 0};
	}
	if (class == CKO_SECRET_KEY) {
		v[count++] = (CK_ATTRIBUTE){CKA_ALWAYS_SENSITIVE, &no, sizeof no};
		v[count++] = (CK_ATTRIBUTE){CKA_NEVER_EXTRACTABLE, &no, sizeof no};
		v[count++] = (CK_ATTRIBUTE){CKA_VALUE_LEN, &n, sizeof n};
	}
	struct attrs base;
	CK_RV rv = attrs_from(&base, v, count);
	if (rv != CKR_OK)
		return rv;
	rv = attrs_merge(to, &base, given);
	attrs_free(&base);
	return rv;
}

static CK_RV create_local(CK_SESSION_HANDLE h, CK_SLOT_ID slot, const struct attrs *given, CK_OBJECT_HANDLE *to)
{
	struct attrs a;
	CK_RV rv = with_defaults(&a, given);
	if (rv != CKR_OK)
		return rv;
	struct object *o = object_new(slot, CK_INVALID_HANDLE, &a);
	return o ? object_adopt(h, o, to) : CKR_HOST_MEMORY;
}

static CK_RV create(CK_SESSION_HANDLE h, const struct attrs *a, CK_OBJECT_HANDLE *to)
{
	struct call c;
	struct object *o = NULL;
	CK_SLOT_ID slot;
	CK_RV rv = template_check(h, a, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!attrs_get(a, CKA_CLASS))
		return CKR_TEMPLATE_INCOMPLETE;
	if (may_be_local(a))
		return create_local(h, slot, a, to);
	rv = slot_may(slot);
	if (rv != CKR_OK)
		return rv;
	call_begin(&c, OP_CREATE, slot);
	w_attrs(&c.req, a);
	rv = object_ask(&c, slot, &o);
	return rv == CKR_OK ? object_adopt(h, o, to) : rv;
}

CK_RV C_CreateObject(CK_SESSION_HANDLE h, CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to)
{
	struct attrs a;
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!to)
		return CKR_ARGUMENTS_BAD;
	rv = attrs_from(&a, v, n);
	if (rv != CKR_OK)
		return rv;
	rv = create(h, &a, to);
	attrs_free(&a);
	return rv;
}

static CK_RV copy(CK_SESSION_HANDLE h, const struct object *from, const struct attrs *over, CK_OBJECT_HANDLE *to)
{
	struct call c;
	struct attrs merged;
	struct object *o = NULL;
	CK_SLOT_ID slot;
	CK_RV rv = template_check(h, over, &slot);
	if (rv != CKR_OK)
		return rv;
	if (from->handle & LOCAL) {
		rv = attrs_merge(&merged, &from->a, over);
		if (rv == CKR_OK) {
			rv = create(h, &merged, to);
			attrs_free(&merged);
		}
		return rv;
	}
	call_begin(&c, OP_COPY, slot);
	w_u64(&c.req, from->handle);
	w_attrs(&c.req, over);
	rv = object_ask(&c, slot, &o);
	return rv == CKR_OK ? object_adopt(h, o, to) : rv;
}

CK_RV C_CopyObject(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to)
{
	struct attrs a;
	struct object *from;
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!to)
		return CKR_ARGUMENTS_BAD;
	rv = attrs_from(&a, v, n);
	if (rv != CKR_OK)
		return rv;
	rv = object_get(slot, object, FRESH, &from);
	if (rv == CKR_OK) {
		rv = attrs_bool(&from->a, CKA_COPYABLE, true) ? copy(h, from, &a, to) : CKR_ACTION_PROHIBITED;
		object_put(from);
	}
	attrs_free(&a);
	return rv;
}

CK_RV C_DestroyObject(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE object)
{
	struct call c;
	struct object *o;
	CK_SLOT_ID slot;
	CK_FLAGS flags;
	CK_RV rv = session_flags(h, &slot, &flags);
	if (rv != CKR_OK)
		return rv;
	rv = object_get(slot, object, INT64_MAX, &o);
	if (rv != CKR_OK)
		return rv;
	if (!(flags & CKF_RW_SESSION) && attrs_bool(&o->a, CKA_TOKEN, true))
		rv = CKR_SESSION_READ_ONLY;
	else if (!attrs_bool(&o->a, CKA_DESTROYABLE, true))
		rv = CKR_ACTION_PROHIBITED;
	object_put(o);
	if (rv == CKR_OK && !(object & LOCAL)) {
		call_begin(&c, OP_DESTROY, slot);
		w_u64(&c.req, object);
		rv = call_run(&c);
		rv = call_ended(&c, rv);
		rv = rv == CKR_KEY_HANDLE_INVALID ? CKR_OBJECT_HANDLE_INVALID : rv;
	}
	if (rv == CKR_OK || rv == CKR_OBJECT_HANDLE_INVALID) {
		cache_drop(slot, object);
		if (own_drop(slot, object))
			rv = CKR_OK; /* what the session had may have ended before, or live on under another handle */
	}
	return rv;
}

CK_RV C_GetObjectSize(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE object, CK_ULONG *size)
{
	struct object *o;
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!size)
		return CKR_ARGUMENTS_BAD;
	rv = object_get(slot, object, FRESH, &o);
	if (rv != CKR_OK)
		return rv;
	*size = 0;
	for (size_t i = 0; i < o->a.n; i++)
		*size += o->a.v[i].n;
	object_put(o);
	return CKR_OK;
}

CK_RV C_GetAttributeValue(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *v, CK_ULONG n)
{
	struct object *o;
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!v || !n)
		return CKR_ARGUMENTS_BAD;
	rv = object_get(slot, object, FRESH, &o);
	if (rv != CKR_OK)
		return rv;
	rv = attrs_answer(&o->a, v, n);
	object_put(o);
	return rv;
}

/* What an application may change of an object that lives here. */
static bool changeable(CK_ATTRIBUTE_TYPE t)
{
	enum { SUBJECT = 0x101, START_DATE = 0x110, END_DATE = 0x111 };
	return t == CKA_LABEL || t == CKA_ID || t == SUBJECT || t == START_DATE || t == END_DATE ||
		(t >= CKA_ENCRYPT && t <= CKA_DERIVE);
}

static CK_RV set_local(struct object *o, const struct attrs *over)
{
	struct attrs merged;
	if (!attrs_bool(&o->a, CKA_MODIFIABLE, true))
		return CKR_ACTION_PROHIBITED;
	for (size_t i = 0; i < over->n; i++)
		if (!changeable(over->v[i].type))
			return CKR_ATTRIBUTE_READ_ONLY;
	CK_RV rv = attrs_merge(&merged, &o->a, over);
	if (rv != CKR_OK)
		return rv;
	struct object *changed = object_new(o->slot, o->handle, &merged);
	if (!changed)
		return CKR_HOST_MEMORY;
	own_replace(changed);
	object_put(changed);
	return CKR_OK;
}

static CK_RV set_remote(const struct object *o, const struct attrs *over)
{
	struct call c;
	struct object *changed = NULL;
	call_begin(&c, OP_SET, o->slot);
	w_u64(&c.req, o->handle);
	w_attrs(&c.req, over);
	CK_RV rv = object_ask(&c, o->slot, &changed);
	if (rv != CKR_OK)
		return rv;
	struct object *own = own_get(o->slot, o->handle);
	if (own)
		own_replace(changed);
	else
		cache_add(changed);
	object_put(own);
	object_put(changed);
	return CKR_OK;
}

CK_RV C_SetAttributeValue(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *v, CK_ULONG n)
{
	struct attrs a;
	struct object *o;
	CK_SLOT_ID slot;
	CK_FLAGS flags;
	CK_RV rv = session_flags(h, &slot, &flags);
	if (rv != CKR_OK)
		return rv;
	if (!v || !n)
		return CKR_ARGUMENTS_BAD;
	rv = attrs_from(&a, v, n);
	if (rv != CKR_OK)
		return rv;
	rv = object_get(slot, object, FRESH, &o);
	if (rv == CKR_OK) {
		if (!(flags & CKF_RW_SESSION) && attrs_bool(&o->a, CKA_TOKEN, true))
			rv = CKR_SESSION_READ_ONLY;
		else
			rv = object & LOCAL ? set_local(o, &a) : set_remote(o, &a);
		object_put(o);
	}
	attrs_free(&a);
	return rv;
}
