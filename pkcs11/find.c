/* C_FindObjects: objects of this process, then pages of the other side. Every
 * object comes with its attributes, so reading them asks nobody. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

enum { PAGE = 256 };

static bool known(const struct opn *o, CK_OBJECT_HANDLE h)
{
	for (size_t i = 0; i + sizeof h <= o->own_end; i += sizeof h)
		if (memcmp(o->data.p + i, &h, sizeof h) == 0)
			return true;
	return false;
}

CK_RV page_read(struct opn *o, struct rbuf *r)
{
	uint32_t n = r_u32(r);
	if (n > PAGE)
		return CKR_DEVICE_ERROR;
	for (uint32_t i = 0; i < n; i++) {
		struct object *object;
		if (!r_object(r, o->slot, &object))
			return CKR_DEVICE_ERROR;
		if (!known(o, object->handle)) {
			w_raw(&o->data, &object->handle, sizeof object->handle);
			cache_add(object);
		}
		object_put(object);
	}
	struct rbuf next = r_bytes(r);
	w_free(&o->kept);
	w_raw(&o->kept, next.p, next.n);
	o->more = next.n > 0;
	return o->data.bad || o->kept.bad ? CKR_HOST_MEMORY : CKR_OK;
}

/* page asks for the objects after those that came: asked holds the pattern, kept
 * where to go on. */
static CK_RV page(struct opn *o)
{
	struct call c;
	call_begin(&c, OP_FIND, o->slot);
	w_raw(&c.req, o->asked.p, o->asked.n);
	w_bytes(&c.req, o->kept.p, o->kept.n);
	w_u32(&c.req, PAGE);
	CK_RV rv = call_run(&c);
	if (rv == CKR_OK)
		rv = page_read(o, &c.body);
	return call_ended(&c, rv);
}

/* Without a login, where one is needed, only objects of this process are seen. */
static CK_RV begin(struct opn *o, const struct attrs *pattern)
{
	own_match(o->slot, pattern, &o->data);
	o->own_end = o->data.n;
	w_attrs(&o->asked, pattern);
	if (o->data.bad || o->asked.bad)
		return CKR_HOST_MEMORY;
	CK_RV rv = slot_may(o->slot);
	if (rv == CKR_USER_NOT_LOGGED_IN || !attrs_bool(pattern, CKA_TOKEN, true))
		return rv == CKR_USER_NOT_LOGGED_IN ? CKR_OK : rv;
	return rv == CKR_OK ? page(o) : rv;
}

CK_RV C_FindObjectsInit(CK_SESSION_HANDLE h, CK_ATTRIBUTE *v, CK_ULONG n)
{
	struct attrs pattern;
	struct opn *o;
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	rv = attrs_from(&pattern, v, n);
	if (rv != CKR_OK)
		return rv;
	rv = opn_begin(h, FIND, &o);
	if (rv == CKR_OK) {
		rv = begin(o, &pattern);
		if (rv == CKR_OK)
			opn_put(h, FIND, o);
		else
			opn_drop(h, FIND, o);
	}
	attrs_free(&pattern);
	return rv;
}

CK_RV C_FindObjects(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE *to, CK_ULONG most, CK_ULONG *n)
{
	struct opn *o;
	CK_RV rv = opn_take(h, FIND, &o);
	if (rv != CKR_OK)
		return rv;
	if (!to || !n) {
		opn_put(h, FIND, o);
		return CKR_ARGUMENTS_BAD;
	}
	*n = 0;
	while (*n < most && rv == CKR_OK) {
		if (o->at < o->data.n) {
			memcpy(&to[(*n)++], o->data.p + o->at, sizeof *to);
			o->at += sizeof *to;
		} else if (o->more) {
			o->data.n = o->at = o->own_end; /* what was handed out is not needed again */
			rv = page(o);
		} else {
			break;
		}
	}
	opn_put(h, FIND, o);
	return rv;
}

CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE h)
{
	return opn_cancel(h, FIND);
}
