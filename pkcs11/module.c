/* Start, end and function lists of the module. Only the three functions that
 * find the others are exported. */
#include <string.h>
#include <unistd.h>

#include "module.h"

#define EXPORT __attribute__((visibility("default")))

struct state state = {.lock = PTHREAD_MUTEX_INITIALIZER};

void lock(void) { pthread_mutex_lock(&state.lock); }
void unlock(void) { pthread_mutex_unlock(&state.lock); }

CK_RV up(void)
{
	lock();
	bool is = state.up;
	unlock();
	return is ? CKR_OK : CKR_CRYPTOKI_NOT_INITIALIZED;
}

/* Section 5.4: the four functions for mutexes come together or not at all. The
 * module locks with those of the system, which satisfy every combination. */
static CK_RV check_args(const CK_C_INITIALIZE_ARGS *args)
{
	if (!args)
		return CKR_OK;
	int given = !!args->CreateMutex + !!args->DestroyMutex + !!args->LockMutex + !!args->UnlockMutex;
	return args->pReserved || (given && given != 4) ? CKR_ARGUMENTS_BAD : CKR_OK;
}

/* C_Initialize reads the configuration; it asks nobody, so that a program may
 * start before the server. In the child of a fork everything is there already,
 * and a first call there, as section 6.6 demands it, changes nothing. */
CK_RV C_Initialize(void *args)
{
	struct config config;
	struct why why;
	CK_RV rv = check_args(args);
	if (rv != CKR_OK)
		return rv;
	lock();
	bool is = state.up, forked = state.forked;
	state.forked = false;
	unlock();
	if (is)
		return forked ? CKR_OK : CKR_CRYPTOKI_ALREADY_INITIALIZED;
	if (!config_load(&config, &why)) {
		debug("configuration: %s", why.text);
		return CKR_ARGUMENTS_BAD;
	}
	if (!fork_watch())
		return CKR_HOST_MEMORY;
	lock();
	rv = state.up ? CKR_CRYPTOKI_ALREADY_INITIALIZED : CKR_OK;
	if (rv == CKR_OK) {
		state.config = config;
		state.up = true;
	}
	unlock();
	return rv;
}

/* C_Finalize may come while other threads are within calls: those work on what
 * is their own and find afterwards that their session is gone. */
CK_RV C_Finalize(void *reserved)
{
	if (reserved)
		return CKR_ARGUMENTS_BAD;
	CK_RV rv = up();
	if (rv != CKR_OK)
		return rv;
	own_clear();
	lock();
	state.up = state.forked = false;
	sessions_clear();
	slots_clear();
	cache_clear();
	unlock();
	conn_close_idle();
	return CKR_OK;
}

static void fill(CK_UTF8CHAR *to, size_t size, const char *text)
{
	memset(to, ' ', size);
	memcpy(to, text, strnlen(text, size));
}

CK_RV C_GetInfo(CK_INFO *info)
{
	CK_RV rv = up();
	if (rv != CKR_OK)
		return rv;
	if (!info)
		return CKR_ARGUMENTS_BAD;
	*info = (CK_INFO){.cryptokiVersion = {2, 40}, .libraryVersion = {0, 1}};
	fill(info->manufacturerID, sizeof info->manufacturerID, "Claviger");
	fill(info->libraryDescription, sizeof info->libraryDescription, "Claviger PKCS#11 module");
	return CKR_OK;
}

#define ENTRY(name, args) .C_##name = C_##name,

static CK_FUNCTION_LIST list2 = {.version = {2, 40}, CK_FUNCTIONS_2(ENTRY)};
static CK_FUNCTION_LIST_3_0 list3 = {.version = {3, 0}, CK_FUNCTIONS_2(ENTRY) CK_FUNCTIONS_3(ENTRY)};

static CK_UTF8CHAR standard[] = "PKCS 11";
static CK_INTERFACE interfaces[] = {
	{standard, &list3, CKF_INTERFACE_FORK_SAFE},
	{standard, &list2, CKF_INTERFACE_FORK_SAFE},
};
enum { INTERFACES = sizeof interfaces / sizeof interfaces[0] };

EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
	if (!list)
		return CKR_ARGUMENTS_BAD;
	*list = &list2;
	return CKR_OK;
}

EXPORT CK_RV C_GetInterfaceList(CK_INTERFACE *list, CK_ULONG *count)
{
	if (!count)
		return CKR_ARGUMENTS_BAD;
	CK_ULONG room = *count;
	*count = INTERFACES;
	if (!list)
		return CKR_OK;
	if (room < INTERFACES)
		return CKR_BUFFER_TOO_SMALL;
	memcpy(list, interfaces, sizeof interfaces);
	return CKR_OK;
}

/* C_GetInterface finds the first interface of the name, version and flags that
 * are asked for; v3.0 if nothing is. */
EXPORT CK_RV C_GetInterface(CK_UTF8CHAR *name, CK_VERSION *version, CK_INTERFACE **found, CK_FLAGS flags)
{
	if (!found)
		return CKR_ARGUMENTS_BAD;
	for (int i = 0; i < INTERFACES; i++) {
		const CK_VERSION *is = interfaces[i].pFunctionList;
		if ((name && strcmp((char *)name, (char *)standard) != 0) || (flags & ~interfaces[i].flags))
			continue;
		if (version && (version->major != is->major || version->minor != is->minor))
			continue;
		*found = &interfaces[i];
		return CKR_OK;
	}
	return CKR_FUNCTION_FAILED;
}
