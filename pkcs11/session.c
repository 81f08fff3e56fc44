/* Sessions: a table of any size. They exist here only. */
#include <stdlib.h>

#include "module.h"

static struct opn busy; /* stands in a session for an operation that a call took out */

static struct session **bucket(CK_SESSION_HANDLE h)
{
	return &state.sessions[h % SESSION_BUCKETS];
}

/* With the lock held. */
static struct session *session_get(CK_SESSION_HANDLE h)
{
	struct session *s = *bucket(h);
	while (s && s->handle != h)
		s = s->next;
	return s;
}

/* With the lock held. */
bool session_exists(CK_SESSION_HANDLE h)
{
	return session_get(h) != NULL;
}

static CK_RV no_session(void)
{
	return state.up ? CKR_SESSION_HANDLE_INVALID : CKR_CRYPTOKI_NOT_INITIALIZED;
}

CK_RV session_flags(CK_SESSION_HANDLE h, CK_SLOT_ID *slot, CK_FLAGS *flags)
{
	lock();
	const struct session *s = session_get(h);
	CK_RV rv = s ? CKR_OK : no_session();
	if (s) {
		*slot = s->slot;
		*flags = s->flags;
	}
	unlock();
	return rv;
}

CK_RV session_slot(CK_SESSION_HANDLE h, CK_SLOT_ID *slot)
{
	CK_FLAGS flags;
	return session_flags(h, slot, &flags);
}

/* opn_begin makes an operation for the session, which is marked busy with it. The
 * caller hands it back by opn_put, or gives it up by opn_drop. */
CK_RV opn_begin(CK_SESSION_HANDLE h, enum kind kind, struct opn **to)
{
	struct opn *o = calloc(1, sizeof *o);
	if (!o)
		return CKR_HOST_MEMORY;
	lock();
	struct session *s = session_get(h);
	CK_RV rv = !s ? no_session() : s->ops[kind] ? CKR_OPERATION_ACTIVE : CKR_OK;
	if (rv == CKR_OK) {
		s->ops[kind] = &busy;
		o->slot = s->slot;
	}
	unlock();
	if (rv != CKR_OK) {
		free(o);
		return rv;
	}
	*to = o;
	return CKR_OK;
}

/* opn_take takes the operation out of the session, for this call alone. */
CK_RV opn_take(CK_SESSION_HANDLE h, enum kind kind, struct opn **to)
{
	lock();
	struct session *s = session_get(h);
	CK_RV rv = CKR_OK;
	if (!s)
		rv = no_session();
	else if (!s->ops[kind])
		rv = CKR_OPERATION_NOT_INITIALIZED;
	else if (s->ops[kind] == &busy)
		rv = CKR_OPERATION_ACTIVE;
	if (rv == CKR_OK) {
		*to = s->ops[kind];
		s->ops[kind] = &busy;
	}
	unlock();
	return rv;
}

/* opn_put hands o back to its session; if that was closed meanwhile, o ends too. */
void opn_put(CK_SESSION_HANDLE h, enum kind kind, struct opn *o)
{
	lock();
	struct session *s = session_get(h);
	if (s && s->ops[kind] == &busy) {
		s->ops[kind] = o;
		o = NULL;
	}
	unlock();
	opn_free(o);
}

/* opn_drop ends an operation that was taken or begun. */
void opn_drop(CK_SESSION_HANDLE h, enum kind kind, struct opn *o)
{
	opn_put(h, kind, NULL);
	opn_free(o);
}

/* opn_cancel ends the session's operation of the kind, as a NULL mechanism does. */
CK_RV opn_cancel(CK_SESSION_HANDLE h, enum kind kind)
{
	struct opn *o;
	CK_RV rv = opn_take(h, kind, &o);
	if (rv == CKR_OK)
		opn_drop(h, kind, o);
	return rv;
}

/* With the lock held: takes the session out of the table. */
static struct session *session_unlink(CK_SESSION_HANDLE h)
{
	struct session **at = bucket(h);
	while (*at && (*at)->handle != h)
		at = &(*at)->next;
	struct session *s = *at;
	if (s)
		*at = s->next;
	return s;
}

static void session_free(struct session *s)
{
	for (int k = 0; k < KINDS; k++)
		if (s->ops[k] != &busy)
			opn_free(s->ops[k]);
	free(s);
}

/* With the lock held. */
void sessions_clear(void)
{
	for (int b = 0; b < SESSION_BUCKETS; b++)
		while (state.sessions[b])
			session_free(session_unlink(state.sessions[b]->handle));
}

/* In the child of a fork: the threads that took operations out are not here. */
void sessions_forked(void)
{
	for (int b = 0; b < SESSION_BUCKETS; b++)
		for (struct session *s = state.sessions[b]; s; s = s->next)
			for (int k = 0; k < KINDS; k++)
				if (s->ops[k] == &busy)
					s->ops[k] = NULL;
}

CK_RV C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify, CK_SESSION_HANDLE *to)
{
	(void)application;
	(void)notify; /* nothing is ever notified */
	CK_RV rv = slot_check(slot);
	if (rv != CKR_OK)
		return rv;
	if (!to)
		return CKR_ARGUMENTS_BAD;
	if (!(flags & CKF_SERIAL_SESSION))
		return CKR_SESSION_PARALLEL_NOT_SUPPORTED;
	struct session *s = calloc(1, sizeof *s);
	if (!s)
		return CKR_HOST_MEMORY;
	s->slot = slot;
	s->flags = flags & (CKF_SERIAL_SESSION | CKF_RW_SESSION);
	lock();
	bool is = state.up;
	if (is) {
		*to = s->handle = ++state.last_session;
		s->next = *bucket(s->handle);
		*bucket(s->handle) = s;
	}
	unlock();
	if (!is)
		free(s);
	return is ? CKR_OK : CKR_CRYPTOKI_NOT_INITIALIZED;
}

/* With the lock held: a session of the slot, or 0. */
static CK_SESSION_HANDLE session_of(CK_SLOT_ID slot)
{
	for (int b = 0; b < SESSION_BUCKETS; b++)
		for (const struct session *s = state.sessions[b]; s; s = s->next)
			if (s->slot == slot)
				return s->handle;
	return 0;
}

/* close_one also logs out after the slot's last session (section 6.7.4). */
static bool close_one(CK_SLOT_ID slot, CK_SESSION_HANDLE h)
{
	own_close(slot, h);
	lock();
	struct session *s = session_unlink(h);
	bool last = s && !session_of(slot);
	unlock();
	if (s)
		session_free(s);
	if (last)
		slot_logout(slot);
	return s != NULL;
}

CK_RV C_CloseSession(CK_SESSION_HANDLE h)
{
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv == CKR_OK && !close_one(slot, h))
		rv = CKR_SESSION_HANDLE_INVALID;
	return rv;
}

CK_RV C_CloseAllSessions(CK_SLOT_ID slot)
{
	CK_RV rv = slot_check(slot);
	if (rv != CKR_OK)
		return rv;
	for (;;) {
		lock();
		CK_SESSION_HANDLE h = session_of(slot);
		unlock();
		if (!h)
			return CKR_OK;
		close_one(slot, h);
	}
}

CK_RV C_GetSessionInfo(CK_SESSION_HANDLE h, CK_SESSION_INFO *info)
{
	if (!info)
		return up() == CKR_OK ? CKR_ARGUMENTS_BAD : CKR_CRYPTOKI_NOT_INITIALIZED;
	*info = (CK_SESSION_INFO){0};
	CK_RV rv = session_flags(h, &info->slotID, &info->flags);
	if (rv != CKR_OK)
		return rv;
	lock();
	const struct slot *s = slot_get(info->slotID);
	bool user = s && s->token;
	unlock();
	if (info->flags & CKF_RW_SESSION)
		info->state = user ? CKS_RW_USER_FUNCTIONS : CKS_RW_PUBLIC_SESSION;
	else
		info->state = user ? CKS_RO_USER_FUNCTIONS : CKS_RO_PUBLIC_SESSION;
	return CKR_OK;
}

/* C_SessionCancel (v3.0, section 5.6): ends the operations that flags name. */
CK_RV C_SessionCancel(CK_SESSION_HANDLE h, CK_FLAGS flags)
{
	static const CK_FLAGS of[KINDS] = {
		[FIND] = CKF_FIND_OBJECTS, [SIGN] = CKF_SIGN, [VERIFY] = CKF_VERIFY, [ENCRYPT] = CKF_ENCRYPT,
		[DECRYPT] = CKF_DECRYPT, [DIGEST] = CKF_DIGEST,
	};
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	for (int k = 0; rv == CKR_OK && k < KINDS; k++)
		if (flags & of[k])
			opn_cancel(h, (enum kind)k);
	return rv;
}
