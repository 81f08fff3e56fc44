/* Logins: the PIN is a client token, asked about once and kept until C_Logout. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

static bool logged_in(CK_SLOT_ID id)
{
	lock();
	const struct slot *s = slot_get(id);
	bool is = s && s->token;
	unlock();
	return is;
}

static CK_RV ask(CK_SLOT_ID slot, const void *pin, CK_ULONG n)
{
	struct call c;
	if (n)
		call_begin_as(&c, OP_LOGIN, slot, pin, n);
	else
		call_begin(&c, OP_LOGIN, slot);
	CK_RV rv = call_run(&c);
	return call_ended(&c, rv);
}

static CK_RV keep(CK_SLOT_ID id, const void *pin, CK_ULONG n)
{
	char *token = malloc(n + 1);
	CK_RV rv = CKR_USER_ALREADY_LOGGED_IN;
	if (!token)
		return CKR_HOST_MEMORY;
	if (n)
		memcpy(token, pin, n);
	lock();
	struct slot *s = slot_get(id);
	if (s && !s->token) {
		s->token = token;
		s->token_n = n;
		cache_clear(); /* others may see other objects */
		token = NULL;
		rv = CKR_OK;
	}
	unlock();
	if (token)
		explicit_bzero(token, n);
	free(token);
	return rv;
}

CK_RV C_Login(CK_SESSION_HANDLE h, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG n)
{
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (user == CKU_CONTEXT_SPECIFIC) /* no key asks for it */
		return CKR_OK;
	if (user != CKU_USER)
		return CKR_USER_TYPE_INVALID;
	if (n && !pin)
		return CKR_ARGUMENTS_BAD;
	while (n && (pin[n - 1] == '\n' || pin[n - 1] == '\r'))
		n--; /* programs read PINs from files, with the end of the line */
	if (n > MAX_TOKEN)
		return CKR_PIN_LEN_RANGE;
	if (logged_in(slot))
		return CKR_USER_ALREADY_LOGGED_IN;
	rv = ask(slot, pin, n);
	return rv == CKR_OK ? keep(slot, pin, n) : rv;
}

/* C_LoginUser (v3.0): there are no names of users, an empty one is none. */
CK_RV C_LoginUser(CK_SESSION_HANDLE h, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG n, CK_UTF8CHAR *name, CK_ULONG name_n)
{
	(void)name;
	return name_n ? CKR_ARGUMENTS_BAD : C_Login(h, user, pin, n);
}

/* slot_logout forgets the client token and what only its holder may see. */
bool slot_logout(CK_SLOT_ID id)
{
	lock();
	struct slot *s = slot_get(id);
	bool was = s && s->token;
	if (was) {
		token_wipe(s);
		cache_clear();
	}
	unlock();
	return was;
}

CK_RV C_Logout(CK_SESSION_HANDLE h)
{
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	if (rv != CKR_OK)
		return rv;
	if (!logged_in(slot))
		return CKR_USER_NOT_LOGGED_IN;
	own_logout(slot);
	slot_logout(slot);
	return CKR_OK;
}
