/* Objects of sessions. Public ones and secrets that may be known live here only;
 * the others are kept by the server, and destroyed there with their session. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

enum { KEEP_AFTER = 180000, SHORT = 1000, MOST_KEPT = 65536 };

static bool remote(const struct object *o)
{
	return !(o->handle & LOCAL);
}

/* own_add takes a reference; false: memory ran out, or the session is closed. */
bool own_add(CK_SESSION_HANDLE session, struct object *object)
{
	struct own *o = calloc(1, sizeof *o);
	if (!o)
		return false;
	o->session = session;
	o->object = object_ref(object);
	lock();
	bool is = session_exists(session);
	if (is) {
		o->next = state.owns;
		state.owns = o;
	}
	unlock();
	if (!is) {
		object_put(o->object);
		free(o);
	}
	return is;
}

/* With the lock held. */
static struct own **own_find(CK_SLOT_ID slot, CK_OBJECT_HANDLE h)
{
	struct own **at = &state.owns;
	while (*at && ((*at)->object->handle != h || (*at)->object->slot != slot))
		at = &(*at)->next;
	return at;
}

struct object *own_get(CK_SLOT_ID slot, CK_OBJECT_HANDLE h)
{
	lock();
	struct own *o = *own_find(slot, h);
	struct object *object = o ? object_ref(o->object) : NULL;
	unlock();
	return object;
}

/* own_replace puts the changed object in the place of that of the same handle. */
void own_replace(struct object *object)
{
	struct object *old = NULL;
	lock();
	struct own *o = *own_find(object->slot, object->handle);
	if (o) {
		old = o->object;
		o->object = object_ref(object);
	}
	unlock();
	object_put(old);
}

bool own_drop(CK_SLOT_ID slot, CK_OBJECT_HANDLE h)
{
	lock();
	struct own **at = own_find(slot, h), *o = *at;
	if (o)
		*at = o->next;
	unlock();
	if (o)
		object_put(o->object);
	free(o);
	return o != NULL;
}

/* own_match appends the handles of the objects that have all of pattern. */
void own_match(CK_SLOT_ID slot, const struct attrs *pattern, struct wbuf *handles)
{
	lock();
	for (const struct own *o = state.owns; o; o = o->next)
		if (o->object->slot == slot && attrs_match(&o->object->a, pattern))
			w_raw(handles, &o->object->handle, sizeof o->object->handle);
	unlock();
}

static bool destroy(CK_SLOT_ID slot, CK_OBJECT_HANDLE h)
{
	struct call c;
	call_begin(&c, OP_DESTROY, slot);
	c.most = SHORT;
	w_u64(&c.req, h);
	CK_RV rv = call_run(&c);
	return call_ended(&c, rv) != CKR_DEVICE_ERROR;
}

typedef bool chosen(const struct own *, CK_SLOT_ID, CK_SESSION_HANDLE);

/* end_all ends the objects that are chosen. If nobody answers, those of the server
 * are left to end by themselves. */
static void end_all(chosen *is, CK_SLOT_ID slot, CK_SESSION_HANDLE session)
{
	struct own *out = NULL;
	bool answers = true;
	lock();
	for (struct own **at = &state.owns; *at;) {
		struct own *o = *at;
		if (!is(o, slot, session)) {
			at = &o->next;
			continue;
		}
		*at = o->next;
		o->next = out;
		out = o;
	}
	unlock();
	while (out) {
		struct own *o = out;
		out = o->next;
		if (answers && remote(o->object) && !o->inherited)
			answers = destroy(o->object->slot, o->object->handle);
		object_put(o->object);
		free(o);
	}
}

static bool of_session(const struct own *o, CK_SLOT_ID slot, CK_SESSION_HANDLE session)
{
	return o->session == session && o->object->slot == slot;
}

/* Private objects of sessions end with the login (section 6.7.5). */
static bool of_user(const struct own *o, CK_SLOT_ID slot, CK_SESSION_HANDLE session)
{
	(void)session;
	return o->object->slot == slot && attrs_bool(&o->object->a, CKA_PRIVATE, false);
}

static bool every(const struct own *o, CK_SLOT_ID slot, CK_SESSION_HANDLE session)
{
	(void)o, (void)slot, (void)session;
	return true;
}

void own_close(CK_SLOT_ID slot, CK_SESSION_HANDLE session) { end_all(of_session, slot, session); }
void own_logout(CK_SLOT_ID slot) { end_all(of_user, slot, 0); }
void own_clear(void) { end_all(every, 0, 0); }

/* own_keep tells the server, every few minutes and with some other question, that
 * the objects it keeps for this process are needed. */
void own_keep(CK_SLOT_ID slot)
{
	struct wbuf handles = {0};
	uint32_t n = 0;
	lock();
	struct slot *s = slot_get(slot);
	if (s && state.owns && now_ms() - s->kept > KEEP_AFTER) {
		s->kept = now_ms();
		for (const struct own *o = state.owns; o && n < MOST_KEPT; o = o->next)
			if (remote(o->object) && o->object->slot == slot) {
				w_u64(&handles, o->object->handle);
				n++;
			}
	}
	unlock();
	if (n && !handles.bad) {
		struct call c;
		call_begin(&c, OP_KEEP, slot);
		c.most = SHORT;
		w_u32(&c.req, n);
		w_raw(&c.req, handles.p, handles.n);
		call_ended(&c, call_run(&c));
	}
	w_free(&handles);
}
