/* Loads the module as applications do and lets it work against a running server:
 * threads, forks while other threads sign, unloading. Arguments: the module and
 * the label of an ECDSA P-256 key; the PIN is read from standard input. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ck.h"

enum { THREADS = 64, EACH = 10, FORKS = 20 };
static CK_FUNCTION_LIST *f;
static CK_SLOT_ID slot;
static CK_OBJECT_HANDLE private, public;
static CK_MECHANISM ecdsa = {CKM_ECDSA_SHA256, NULL, 0};
static atomic_bool stop;

static void ok_(int line, const char *what, CK_RV rv)
{
	if (rv == CKR_OK)
		return;
	fprintf(stderr, "line %d: %s: 0x%lx\n", line, what, rv);
	_exit(1);
}
#define ok(call) ok_(__LINE__, #call, (call))

static CK_SESSION_HANDLE session(void)
{
	CK_SESSION_HANDLE s;
	ok(f->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &s));
	return s;
}

static CK_OBJECT_HANDLE find(CK_SESSION_HANDLE s, CK_OBJECT_CLASS class, const char *label)
{
	CK_OBJECT_HANDLE h;
	CK_ULONG n;
	CK_ATTRIBUTE v[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, (void *)(uintptr_t)label, strlen(label)}};
	ok(f->C_FindObjectsInit(s, v, 2));
	ok(f->C_FindObjects(s, &h, 1, &n));
	ok(f->C_FindObjectsFinal(s));
	if (n != 1)
		ok(CKR_OBJECT_HANDLE_INVALID);
	return h;
}

/* Signs in two parts, and has the signature verified, and a wrong one refused. */
static void sign(CK_SESSION_HANDLE s)
{
	static atomic_ulong count;
	unsigned long what = atomic_fetch_add(&count, 1);
	CK_BYTE data[sizeof what], signature[64];
	CK_ULONG n = sizeof signature;
	memcpy(data, &what, sizeof what);
	ok(f->C_SignInit(s, &ecdsa, private));
	ok(f->C_SignUpdate(s, data, 3));
	ok(f->C_SignUpdate(s, data + 3, sizeof data - 3));
	ok(f->C_SignFinal(s, signature, &n));
	ok(f->C_VerifyInit(s, &ecdsa, public));
	ok(f->C_Verify(s, data, sizeof data, signature, n));
	data[0] ^= 1;
	ok(f->C_VerifyInit(s, &ecdsa, public));
	if (f->C_Verify(s, data, sizeof data, signature, n) != CKR_SIGNATURE_INVALID)
		ok(CKR_SIGNATURE_INVALID);
}

static void *signer(void *endless)
{
	CK_SESSION_HANDLE s = session();
	for (int i = 0; i < EACH || (endless && !atomic_load(&stop)); i++)
		sign(s);
	ok(f->C_CloseSession(s));
	return NULL;
}

static void ends_well(pid_t child)
{
	int status = 1;
	waitpid(child, &status, 0);
	if (status)
		ok(CKR_GENERAL_ERROR);
}

static void forks(CK_SESSION_HANDLE s)
{
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, signer, &stop);
	for (int i = 0; i < FORKS; i++) {
		pid_t child = fork();
		if (child == 0) {
			sign(s);
			ok(f->C_Initialize(NULL));
			ok(f->C_Finalize(NULL));
			_exit(0);
		}
		sign(s);
		ends_well(child);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
	char pin[4096];
	pthread_t t[THREADS];
	CK_ULONG n = 1;
	CK_RV (*get)(CK_FUNCTION_LIST **);
	if (argc != 3 || !fgets(pin, sizeof pin, stdin))
		return 2;
	void *module = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (!module) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	*(void **)&get = dlsym(module, "C_GetFunctionList");
	ok(get(&f));
	ok(f->C_Initialize(NULL));
	ok(f->C_GetSlotList(CK_TRUE, &slot, &n));
	CK_SESSION_HANDLE s = session();
	ok(f->C_Login(s, CKU_USER, (CK_BYTE *)pin, strlen(pin)));
	private = find(s, CKO_PRIVATE_KEY, argv[2]);
	public = find(s, CKO_PUBLIC_KEY, argv[2]);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, signer, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	forks(s);
	ok(f->C_Finalize(NULL));
	dlclose(module);
	pid_t child = fork(); /* the handlers of fork are still there */
	if (child == 0)
		_exit(0);
	ends_well(child);
	return 0;
}
