/* A program that uses a PKCS#11 module as it is told, one line of standard input
 * a call. For each it prints a line: the CKR code in hexadecimal, the milliseconds
 * that it took, and what came out.
 *
 *   open LABEL        C_Initialize and a session with the token of that label
 *   login PIN         C_Login
 *   logout            C_Logout
 *   find LABEL        the private key of that label (the first found); it is kept
 *   version ID        the private key of that CKA_ID, hexadecimal; it is kept
 *   sign DIGEST       ECDSA with the kept key: the signature, r and s
 *   fork DIGEST       the same in a child process, with the parent's session
 *   threads T N LABEL N signatures in each of T threads with sessions of their
 *                     own, each one verified with the public key of that label,
 *                     or not if it is "-": how often which code came
 *
 * Argument: the module. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ck.h"
#include "cknum.h"

enum { OS_LOCKING_OK = 2, TOKEN_NOT_PRESENT = 0xE0 }; /* CKF_, CKR_ */

static CK_FUNCTION_LIST *p11;
static CK_SLOT_ID slot;
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE key;

static long milliseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t unhex(const char *text, unsigned char *to, size_t most)
{
	size_t n = 0;
	while (n < most && sscanf(text + 2 * n, "%2hhx", &to[n]) == 1)
		n++;
	return n;
}

static CK_RV open_token(const char *label)
{
	CK_C_INITIALIZE_ARGS args = {.flags = OS_LOCKING_OK};
	CK_RV rv = p11->C_Initialize(&args);
	if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
		return rv;
	CK_SLOT_ID slots[64];
	CK_ULONG count = 64;
	rv = p11->C_GetSlotList(CK_TRUE, slots, &count);
	for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
		CK_TOKEN_INFO info;
		rv = p11->C_GetTokenInfo(slots[i], &info);
		size_t n = strlen(label);
		if (rv != CKR_OK || n > 32 || memcmp(info.label, label, n) || (n < 32 && info.label[n] != ' '))
			continue;
		slot = slots[i];
		return p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
	}
	return rv != CKR_OK ? rv : TOKEN_NOT_PRESENT;
}

static CK_RV find(CK_SESSION_HANDLE at, CK_ULONG class, CK_ULONG type, void *value, size_t len, CK_OBJECT_HANDLE *found)
{
	CK_ATTRIBUTE want[] = {{CKA_CLASS, &class, sizeof class}, {type, value, len}};
	CK_ULONG count = 0;
	CK_RV rv = p11->C_FindObjectsInit(at, want, 2);
	if (rv != CKR_OK)
		return rv;
	rv = p11->C_FindObjects(at, found, 1, &count);
	CK_RV end = p11->C_FindObjectsFinal(at);
	if (rv == CKR_OK)
		rv = end;
	return rv == CKR_OK && count == 0 ? CKR_KEY_HANDLE_INVALID : rv;
}

static CK_RV sign(CK_SESSION_HANDLE at, const char *digest, unsigned char *sig, CK_ULONG *len)
{
	unsigned char data[64];
	size_t n = unhex(digest, data, sizeof data);
	CK_MECHANISM how = {CKM_ECDSA, NULL, 0};
	CK_RV rv = p11->C_SignInit(at, &how, key);
	return rv != CKR_OK ? rv : p11->C_Sign(at, data, n, sig, len);
}

static void say(CK_RV rv, long since, const unsigned char *out, size_t n)
{
	printf("0x%lx %ld ", rv, milliseconds() - since);
	for (size_t i = 0; rv == CKR_OK && i < n; i++)
		printf("%02x", out[i]);
	printf("\n");
	fflush(stdout);
}

static void in_child(const char *digest, long since)
{
	pid_t child = fork();
	if (child == 0) {
		unsigned char sig[256];
		CK_ULONG len = sizeof sig;
		CK_RV rv = sign(session, digest, sig, &len);
		say(rv, since, sig, len);
		_exit(0);
	}
	int status = 0;
	if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
		printf("crash %ld \n", milliseconds() - since);
	fflush(stdout);
}

/* Codes are counted up to this one; those above are counted as it. */
enum { CODES = 0x200 };
static atomic_long counts[CODES + 1], slowest;
static int each;

static void *work(void *arg)
{
	CK_OBJECT_HANDLE public = *(CK_OBJECT_HANDLE *)arg;
	CK_SESSION_HANDLE own;
	CK_RV rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &own);
	if (rv != CKR_OK) {
		counts[rv < CODES ? rv : CODES]++;
		return NULL;
	}
	for (int i = 0; i < each; i++) {
		char digest[65];
		snprintf(digest, sizeof digest, "%064lx", (unsigned long)own * 1000003 + (unsigned long)i);
		unsigned char sig[256], data[32];
		CK_ULONG len = sizeof sig;
		long since = milliseconds();
		rv = sign(own, digest, sig, &len);
		long took = milliseconds() - since;
		for (long s = slowest; took > s && !atomic_compare_exchange_weak(&slowest, &s, took);)
			;
		if (rv == CKR_OK && public) {
			CK_MECHANISM how = {CKM_ECDSA, NULL, 0};
			rv = p11->C_VerifyInit(own, &how, public);
			if (rv == CKR_OK)
				rv = p11->C_Verify(own, data, unhex(digest, data, sizeof data), sig, len);
		}
		counts[rv < CODES ? rv : CODES]++;
	}
	p11->C_CloseSession(own);
	return NULL;
}

static void threads(int number, char *label, long since)
{
	CK_OBJECT_HANDLE public = 0;
	CK_RV rv = CKR_OK;
	if (strcmp(label, "-"))
		rv = find(session, CKO_PUBLIC_KEY, CKA_LABEL, label, strlen(label), &public);
	memset(counts, 0, sizeof counts);
	slowest = 0;
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	pthread_t *all = calloc((size_t)number, sizeof *all);
	int started = 0;
	while (rv == CKR_OK && started < number && pthread_create(&all[started], &small, work, &public) == 0)
		started++;
	for (int i = 0; i < started; i++)
		pthread_join(all[i], NULL);
	free(all);
	printf("0x%lx %ld slowest=%ld threads=%d", rv, milliseconds() - since, (long)slowest, started);
	for (int i = 0; i <= CODES; i++)
		if (counts[i])
			printf(" 0x%x=%ld", i, (long)counts[i]);
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	void *module = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	CK_RV (*list)(CK_FUNCTION_LIST **) = NULL;
	if (module)
		*(void **)&list = dlsym(module, "C_GetFunctionList");
	if (!list || list(&p11) != CKR_OK) {
		fprintf(stderr, "the module is not loaded: %s\n", dlerror());
		return 1;
	}
	static char line[8192], word[32], text[8000];
	while (fgets(line, sizeof line, stdin)) {
		unsigned char out[256];
		CK_ULONG len = 0;
		CK_RV rv = CKR_ARGUMENTS_BAD;
		long since = milliseconds();
		int number;
		text[0] = 0;
		if (sscanf(line, "%31s %7999s %d", word, text, &each) < 1)
			continue;
		if (!strcmp(word, "open")) {
			rv = open_token(text);
		} else if (!strcmp(word, "login")) {
			rv = p11->C_Login(session, CKU_USER, (unsigned char *)text, strlen(text));
		} else if (!strcmp(word, "logout")) {
			rv = p11->C_Logout(session);
		} else if (!strcmp(word, "find")) {
			rv = find(session, CKO_PRIVATE_KEY, CKA_LABEL, text, strlen(text), &key);
		} else if (!strcmp(word, "version")) {
			unsigned char id[64];
			rv = find(session, CKO_PRIVATE_KEY, CKA_ID, id, unhex(text, id, sizeof id), &key);
		} else if (!strcmp(word, "sign")) {
			len = sizeof out;
			rv = sign(session, text, out, &len);
		} else if (!strcmp(word, "fork")) {
			in_child(text, since);
			continue;
		} else if (!strcmp(word, "threads") && sscanf(line, "%*s %d %d %7999s", &number, &each, text) == 3) {
			threads(number, text, since);
			continue;
		}
		say(rv, since, out, len);
	}
	return 0;
}
