/* Slots and their tokens: what SLOTS and INFO tell, kept for some seconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"

enum { FRESH = 5000, MOST_SLOTS = 4096, MOST_MECHANISMS = 4096 };
enum { SLOT_LOGIN = 2 };

/* With the lock held. */
struct slot *slot_get(CK_SLOT_ID id)
{
	for (size_t i = 0; i < state.nslots; i++)
		if (state.slots[i]->id == id)
			return state.slots[i];
	return NULL;
}

/* With the lock held. */
void token_wipe(struct slot *s)
{
	if (s->token)
		explicit_bzero(s->token, s->token_n);
	free(s->token);
	s->token = NULL;
	s->token_n = 0;
}

/* With the lock held. */
void slots_clear(void)
{
	for (size_t i = 0; i < state.nslots; i++) {
		token_wipe(state.slots[i]);
		free(state.slots[i]->info.v);
		free(state.slots[i]);
	}
	free(state.slots);
	state.slots = NULL;
	state.nslots = 0;
	state.asked_slots = false;
}

/* With the lock held. Slots that were seen once stay: a program may hold sessions. */
static bool slot_add(CK_SLOT_ID id, struct rbuf label)
{
	const struct config *c = &state.config;
	char name[sizeof((struct slot *)0)->label];
	snprintf(name, sizeof name, "%.*s", (int)(label.n < 64 ? label.n : 64), label.n ? (const char *)label.p : "");
	if ((c->one_slot && c->slot != id) || (c->label[0] && strcmp(c->label, name) != 0))
		return true;
	struct slot *s = slot_get(id);
	if (!s) {
		struct slot **v = realloc(state.slots, (state.nslots + 1) * sizeof *v);
		if (!v)
			return false;
		state.slots = v;
		if (!(s = calloc(1, sizeof *s)))
			return false;
		s->id = id;
		s->kept = now_ms();
		v[state.nslots++] = s;
	}
	memcpy(s->label, name, sizeof name);
	return true;
}

CK_RV slots_read(struct rbuf *r)
{
	uint32_t n = r_u32(r);
	if (n > MOST_SLOTS)
		return CKR_DEVICE_ERROR;
	CK_RV rv = CKR_OK;
	lock();
	for (uint32_t i = 0; i < n && rv == CKR_OK; i++) {
		CK_SLOT_ID id = r_u32(r);
		struct rbuf label = r_bytes(r);
		if (r->bad)
			rv = CKR_DEVICE_ERROR;
		else if (!slot_add(id, label))
			rv = CKR_HOST_MEMORY;
	}
	state.asked_slots = state.asked_slots || rv == CKR_OK;
	state.slots_asked = now_ms();
	unlock();
	return rv;
}

/* slots_ask asks for the slots: if none was ever told, or with again if that was
 * some seconds ago. What is known counts if nobody answers. */
static CK_RV slots_ask(bool again)
{
	struct call c;
	lock();
	CK_RV rv = state.up ? CKR_OK : CKR_CRYPTOKI_NOT_INITIALIZED;
	bool known = state.asked_slots, fresh = now_ms() - state.slots_asked < FRESH;
	unlock();
	if (rv != CKR_OK || (known && (!again || fresh)))
		return rv;
	call_begin(&c, OP_SLOTS, 0);
	rv = call_run(&c);
	if (rv == CKR_OK)
		rv = slots_read(&c.body);
	rv = call_ended(&c, rv);
	return known ? CKR_OK : rv;
}

/* slot_check: the module is initialized and has this slot. If another thread
 * ended and began anew meanwhile, the slots are asked for again. */
CK_RV slot_check(CK_SLOT_ID id)
{
	for (;;) {
		CK_RV rv = slots_ask(false);
		if (rv != CKR_OK)
			return rv;
		lock();
		bool found = slot_get(id) != NULL, asked = state.asked_slots;
		unlock();
		if (found || asked)
			return found ? CKR_OK : CKR_SLOT_ID_INVALID;
	}
}

static void pad(uint8_t *to, size_t size, struct rbuf from)
{
	memset(to, ' ', size);
	if (from.n)
		memcpy(to, from.p, from.n < size ? from.n : size);
}

/* Digests are computed here, whatever the other side offers. */
static const CK_MECHANISM_TYPE digests[] = {CKM_SHA_1, CKM_SHA224, CKM_SHA256, CKM_SHA384, CKM_SHA512};
enum { DIGESTS = sizeof digests / sizeof digests[0] };

static void add_digests(struct info *in)
{
	for (size_t d = 0; d < DIGESTS; d++) {
		size_t i = 0;
		while (i < in->n && in->v[i].type != digests[d])
			i++;
		if (i == in->n)
			in->v[in->n++] = (struct mechanism){.type = digests[d]};
		in->v[i].info.flags |= CKF_DIGEST;
	}
}

CK_RV info_read(struct rbuf *r, struct info *in)
{
	*in = (struct info){0};
	pad(in->label, sizeof in->label, r_bytes(r));
	pad(in->serial, sizeof in->serial, r_bytes(r));
	pad(in->maker, sizeof in->maker, r_bytes(r));
	pad(in->model, sizeof in->model, r_bytes(r));
	in->version.major = (CK_BYTE)r_u8(r);
	in->version.minor = (CK_BYTE)r_u8(r);
	in->flags = (uint8_t)r_u8(r);
	uint32_t n = r_u32(r);
	if (r->bad || n > MOST_MECHANISMS)
		return CKR_DEVICE_ERROR;
	in->v = calloc(n + DIGESTS, sizeof *in->v);
	if (!in->v)
		return CKR_HOST_MEMORY;
	for (; in->n < n; in->n++) {
		struct mechanism *m = &in->v[in->n];
		m->type = r_u64(r);
		m->info.ulMinKeySize = r_u32(r);
		m->info.ulMaxKeySize = r_u32(r);
		m->info.flags = r_u64(r);
	}
	add_digests(in);
	return CKR_OK;
}

/* info_ask keeps what INFO tells of the slot, and asks if that is older than
 * most_age milliseconds or if it was never told. */
static CK_RV info_ask(CK_SLOT_ID id, int64_t most_age)
{
	struct call c;
	struct info in = {0};
	CK_RV rv = slot_check(id);
	if (rv != CKR_OK)
		return rv;
	lock();
	struct slot *s = slot_get(id);
	bool fresh = s && s->known && now_ms() - s->asked < most_age;
	unlock();
	if (fresh)
		return CKR_OK;
	call_begin(&c, OP_INFO, id);
	rv = call_run(&c);
	if (rv == CKR_OK)
		rv = info_read(&c.body, &in);
	rv = call_ended(&c, rv);
	lock();
	s = slot_get(id);
	if (rv == CKR_OK && s) {
		struct info old = s->info;
		s->info = in;
		in = old;
		s->known = true;
		s->asked = now_ms();
	} else if (rv == CKR_OK) {
		rv = CKR_CRYPTOKI_NOT_INITIALIZED;
	}
	unlock();
	free(in.v);
	return rv;
}

static bool stranger(CK_SLOT_ID id)
{
	lock();
	const struct slot *s = slot_get(id);
	bool is = s && !s->token && (s->info.flags & SLOT_LOGIN) && !state.config.pin_file[0];
	unlock();
	return is;
}

/* slot_may: CKR_USER_NOT_LOGGED_IN where a login is needed and there is none. The
 * agent may have got a client token of its own since it was asked. */
CK_RV slot_may(CK_SLOT_ID id)
{
	CK_RV rv = info_ask(id, INT64_MAX);
	if (rv == CKR_OK && stranger(id)) {
		rv = info_ask(id, FRESH);
		if (rv == CKR_OK && stranger(id))
			rv = CKR_USER_NOT_LOGGED_IN;
	}
	return rv;
}

static bool has(CK_SLOT_ID id, CK_MECHANISM_TYPE type, CK_FLAGS flags, CK_MECHANISM_INFO *info)
{
	bool found = false;
	lock();
	const struct slot *s = slot_get(id);
	for (size_t i = 0; s && i < s->info.n && !found; i++) {
		const struct mechanism *m = &s->info.v[i];
		found = m->type == type && (m->info.flags & flags) == flags;
		if (found && info)
			*info = m->info;
	}
	unlock();
	return found;
}

/* slot_mechanism: the other side offers the mechanism for all of flags. The list
 * is asked again before a mechanism is refused: the server may be newer by now. */
CK_RV slot_mechanism(CK_SLOT_ID id, CK_MECHANISM_TYPE type, CK_FLAGS flags)
{
	CK_RV rv = info_ask(id, INT64_MAX);
	if (rv == CKR_OK && !has(id, type, flags, NULL)) {
		rv = info_ask(id, FRESH);
		if (rv == CKR_OK && !has(id, type, flags, NULL))
			rv = CKR_MECHANISM_INVALID;
	}
	return rv;
}

CK_RV C_GetSlotList(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *count)
{
	(void)present; /* every slot has its token */
	CK_RV rv = slots_ask(!list);
	if (rv != CKR_OK)
		return rv;
	if (!count)
		return CKR_ARGUMENTS_BAD;
	lock();
	CK_ULONG room = *count;
	*count = state.nslots;
	if (list && room < state.nslots)
		rv = CKR_BUFFER_TOO_SMALL;
	for (size_t i = 0; list && rv == CKR_OK && i < state.nslots; i++)
		list[i] = state.slots[i]->id;
	unlock();
	return rv;
}

CK_RV C_GetSlotInfo(CK_SLOT_ID id, CK_SLOT_INFO *info)
{
	CK_RV rv = slot_check(id);
	if (rv != CKR_OK)
		return rv;
	if (!info)
		return CKR_ARGUMENTS_BAD;
	lock();
	const struct slot *s = slot_get(id);
	*info = (CK_SLOT_INFO){.flags = CKF_TOKEN_PRESENT};
	struct rbuf label = {.p = s ? (const uint8_t *)s->label : NULL, .n = s ? strlen(s->label) : 0};
	pad(info->slotDescription, sizeof info->slotDescription, label);
	pad(info->manufacturerID, sizeof info->manufacturerID, (struct rbuf){.p = (const uint8_t *)"Claviger", .n = 8});
	unlock();
	return CKR_OK;
}

static void count_sessions(CK_SLOT_ID id, CK_TOKEN_INFO *info)
{
	for (int b = 0; b < SESSION_BUCKETS; b++)
		for (const struct session *s = state.sessions[b]; s; s = s->next)
			if (s->slot == id) {
				info->ulSessionCount++;
				info->ulRwSessionCount += (s->flags & CKF_RW_SESSION) != 0;
			}
}

CK_RV C_GetTokenInfo(CK_SLOT_ID id, CK_TOKEN_INFO *info)
{
	CK_RV rv = info_ask(id, FRESH);
	if (rv != CKR_OK)
		return rv;
	if (!info)
		return CKR_ARGUMENTS_BAD;
	*info = (CK_TOKEN_INFO){
		.ulMaxSessionCount = CK_EFFECTIVELY_INFINITE, .ulMaxRwSessionCount = CK_EFFECTIVELY_INFINITE,
		.ulMaxPinLen = MAX_TOKEN, .ulMinPinLen = 1,
		.ulTotalPublicMemory = CK_UNAVAILABLE_INFORMATION, .ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION,
		.ulTotalPrivateMemory = CK_UNAVAILABLE_INFORMATION, .ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION,
		.flags = CKF_RNG | CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED,
	};
	memset(info->utcTime, '0', sizeof info->utcTime);
	lock();
	const struct slot *s = slot_get(id);
	if (s) {
		memcpy(info->label, s->info.label, sizeof info->label);
		memcpy(info->manufacturerID, s->info.maker, sizeof info->manufacturerID);
		memcpy(info->model, s->info.model, sizeof info->model);
		memcpy(info->serialNumber, s->info.serial, sizeof info->serialNumber);
		info->hardwareVersion = info->firmwareVersion = s->info.version;
		info->flags |= s->info.flags & SLOT_LOGIN && !state.config.pin_file[0] ? CKF_LOGIN_REQUIRED : 0;
		count_sessions(id, info);
	}
	unlock();
	return s ? CKR_OK : CKR_CRYPTOKI_NOT_INITIALIZED;
}

CK_RV C_GetMechanismList(CK_SLOT_ID id, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
	CK_RV rv = info_ask(id, FRESH);
	if (rv != CKR_OK)
		return rv;
	if (!count)
		return CKR_ARGUMENTS_BAD;
	lock();
	const struct slot *s = slot_get(id);
	size_t n = s ? s->info.n : 0;
	CK_ULONG room = *count;
	*count = n;
	if (list && room < n)
		rv = CKR_BUFFER_TOO_SMALL;
	for (size_t i = 0; list && rv == CKR_OK && i < n; i++)
		list[i] = s->info.v[i].type;
	unlock();
	return rv;
}

CK_RV C_GetMechanismInfo(CK_SLOT_ID id, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
	CK_RV rv = slot_mechanism(id, type, 0);
	if (rv != CKR_OK)
		return rv;
	if (!info)
		return CKR_ARGUMENTS_BAD;
	return has(id, type, 0, info) ? CKR_OK : CKR_MECHANISM_INVALID;
}
