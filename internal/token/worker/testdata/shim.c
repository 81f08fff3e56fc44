/* A PKCS#11 module for tests: it passes everything on to the module SHIM_REAL,
 * and misbehaves when a file in the directory SHIM_DIR tells it to. A file is
 * obeyed once, by the process that manages to remove it; one whose name ends in
 * "-all" is obeyed by all for as long as it is there. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../pkcs11/pkcs11.h"

static CK_FUNCTION_LIST *real, mine;

static void path(char *buf, size_t n, const char *name)
{
	snprintf(buf, n, "%s/%s", getenv("SHIM_DIR"), name);
}

static int told(const char *what)
{
	char p[4096], all[64];
	path(p, sizeof p, what);
	if (unlink(p) == 0)
		return 1;
	snprintf(all, sizeof all, "%s-all", what);
	path(p, sizeof p, all);
	return access(p, F_OK) == 0;
}

static void note(const char *name, const char *text)
{
	char p[4096];
	path(p, sizeof p, name);
	int fd = open(p, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

static CK_RV misbehave(void)
{
	if (told("hang"))
		for (;;)
			pause();
	if (told("crash"))
		*(volatile int *)8 = 1;
	if (told("removed"))
		return 0x32; /* CKR_DEVICE_REMOVED */
	if (told("session"))
		return 0xb3; /* CKR_SESSION_HANDLE_INVALID */
	if (told("device"))
		return 0x30; /* CKR_DEVICE_ERROR */
	return 0;
}

/* SHIM_NOTED is a number of bytes: inputs of that length to C_Sign are noted in
 * hexadecimal digits when they are signed, so that a test knows what was. */
static CK_RV sign_noted(CK_ULONG s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m)
{
	char line[2 * 64 + 2];
	if (told("hang-before-signing"))
		for (;;)
			pause();
	CK_RV rv = real->C_Sign(s, in, n, out, m);
	if (rv || !out)
		return rv;
	for (CK_ULONG i = 0; i < n; i++)
		snprintf(line + 2 * i, 3, "%02x", in[i]);
	memcpy(line + 2 * n, "\n", 2);
	note("signed", line);
	if (told("hang-after-signing"))
		for (;;)
			pause();
	return rv;
}

static CK_RV sign(CK_ULONG s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m)
{
	const char *noted = getenv("SHIM_NOTED");
	if (noted && n <= 64 && n == (CK_ULONG)atoi(noted))
		return sign_noted(s, in, n, out, m);
	CK_RV rv = misbehave();
	return rv ? rv : real->C_Sign(s, in, n, out, m);
}

static CK_RV encrypt(CK_ULONG s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m)
{
	CK_RV rv = misbehave();
	return rv ? rv : real->C_Encrypt(s, in, n, out, m);
}

static CK_RV generate_pair(CK_ULONG s, CK_MECHANISM *m, CK_ATTRIBUTE *a, CK_ULONG na, CK_ATTRIBUTE *b, CK_ULONG nb,
	CK_ULONG *pub, CK_ULONG *prv)
{
	CK_RV rv = real->C_GenerateKeyPair(s, m, a, na, b, nb, pub, prv);
	if (told("crash-after-generate"))
		abort();
	return rv;
}

static CK_RV login(CK_ULONG s, CK_ULONG user, CK_BYTE *pin, CK_ULONG n)
{
	note("logins", user == 1 ? "u" : "s");
	if (told("login-slow")) {
		usleep(700 * 1000);
		note("slow-logins", "u");
	}
	if (told("login-busy"))
		return 0x05; /* CKR_GENERAL_ERROR */
	if (told("login-locked"))
		return 0xa4; /* CKR_PIN_LOCKED */
	return real->C_Login(s, user, pin, n);
}

static CK_RV open_session(CK_ULONG slot, CK_ULONG flags, void *app, void *notify, CK_ULONG *s)
{
	if (told("token-half-written"))
		return 0xe1; /* CKR_TOKEN_NOT_RECOGNIZED */
	return real->C_OpenSession(slot, flags, app, notify, s);
}

static CK_RV initialize(void *args)
{
	const char *secret = getenv("SHIM_SECRET");
	if (secret)
		note("landlock", open(secret, O_RDONLY) < 0 ? "denied\n" : "open\n");
	if (told("slow-start"))
		for (;;)
			pause();
	return real->C_Initialize(args);
}

/* With SHIM_WHOLE set the module has CKM_RSA_AES_KEY_WRAP to unwrap with. */
#define WHOLE 0x1054UL

static CK_RV mechanisms(CK_ULONG slot, CK_ULONG *list, CK_ULONG *n)
{
	CK_ULONG room = *n;
	CK_RV rv = real->C_GetMechanismList(slot, list, n);
	if (rv || !getenv("SHIM_WHOLE"))
		return rv;
	if (list && *n < room)
		list[*n] = WHOLE;
	++*n;
	return 0;
}

static CK_RV mechanism_info(CK_ULONG slot, CK_ULONG m, CK_MECHANISM_INFO *i)
{
	if (m != WHOLE || !getenv("SHIM_WHOLE"))
		return real->C_GetMechanismInfo(slot, m, i);
	*i = (CK_MECHANISM_INFO){1024, 4096, 0x40000};
	return 0;
}

static int for_token(const CK_ATTRIBUTE *t, CK_ULONG n)
{
	for (CK_ULONG i = 0; i < n; i++)
		if (t[i].type == 1 && t[i].ulValueLen == 1 && *(const CK_BYTE *)t[i].pValue)
			return 1;
	return 0;
}

static CK_RV unwrap(CK_ULONG s, CK_MECHANISM *m, CK_ULONG key, CK_BYTE *blob, CK_ULONG n, CK_ATTRIBUTE *t, CK_ULONG nt,
	CK_ULONG *o)
{
	if (m->mechanism != WHOLE) {
		CK_RV rv = real->C_UnwrapKey(s, m, key, blob, n, t, nt, o);
		if (rv || !for_token(t, nt))
			return rv;
		if (told("crash-after-unwrap"))
			abort();
		/* The object stays, as with a module that fails half way. */
		return told("full") ? 0x31 /* CKR_DEVICE_MEMORY */ : 0;
	}
	note("whole", "u");
	CK_RSA_AES_KEY_WRAP_PARAMS *p = m->pParameter;
	if (m->ulParameterLen != sizeof *p || p->ulAESKeyBits != 256)
		return 0x71; /* CKR_MECHANISM_PARAM_INVALID */
	CK_BYTE modulus[1024], no = 0, yes = 1;
	CK_ATTRIBUTE size = {0x120, modulus, sizeof modulus};
	CK_RV rv = real->C_GetAttributeValue(s, key, &size, 1);
	if (rv)
		return rv;
	CK_MECHANISM oaep = {0x9, p->pOAEPParams, sizeof *p->pOAEPParams}, pad = {0x210a, NULL, 0};
	CK_ULONG secret = 4, aes = 0x1f, between;
	CK_ATTRIBUTE as[] = {{0, &secret, sizeof secret}, {0x100, &aes, sizeof aes}, {1, &no, 1}, {0x107, &yes, 1}};
	rv = real->C_UnwrapKey(s, &oaep, key, blob, size.ulValueLen, as, 4, &between);
	if (rv)
		return rv == 0x7 ? 0x71 : rv;
	rv = real->C_UnwrapKey(s, &pad, between, blob + size.ulValueLen, n - size.ulValueLen, t, nt, o);
	real->C_DestroyObject(s, between);
	return rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
	void *dl = dlopen(getenv("SHIM_REAL"), RTLD_NOW | RTLD_LOCAL);
	if (!dl)
		return 0x05;
	CK_RV (*get)(CK_FUNCTION_LIST **) = (CK_RV(*)(CK_FUNCTION_LIST **))dlsym(dl, "C_GetFunctionList");
	CK_RV rv = get(&real);
	if (rv)
		return rv;
	mine = *real;
	mine.C_Initialize = initialize;
	mine.C_Sign = sign;
	mine.C_Encrypt = encrypt;
	mine.C_OpenSession = open_session;
	mine.C_Login = login;
	mine.C_GetMechanismList = mechanisms;
	mine.C_GetMechanismInfo = mechanism_info;
	mine.C_UnwrapKey = unwrap;
	mine.C_GenerateKeyPair = generate_pair;
	*list = &mine;
	return 0;
}
