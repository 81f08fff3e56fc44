/* The functions of the module against the test's server. */
#include <string.h>
#include <unistd.h>

#include "fake.h"

static CK_SESSION_HANDLE s;
#define BYTES(text) (CK_BYTE *)(uintptr_t)(text), sizeof(text) - 1

static void before(void)
{
	CK_ULONG n;
	CK_SLOT_ID slots[4];
	CK_C_INITIALIZE_ARGS args = {.pReserved = &n};
	check(f->C_GetSlotList(1, NULL, &n), CKR_CRYPTOKI_NOT_INITIALIZED);
	check(f->C_OpenSession(7, CKF_SERIAL_SESSION, NULL, NULL, &s), CKR_CRYPTOKI_NOT_INITIALIZED);
	check(f->C_InitToken(7, NULL, 0, NULL), CKR_CRYPTOKI_NOT_INITIALIZED);
	check(f->C_Finalize(NULL), CKR_CRYPTOKI_NOT_INITIALIZED);
	check(f->C_Initialize(&args), CKR_ARGUMENTS_BAD);
	setenv("CLAVIGER_PKCS11_TIMEOUT", "soon", 1);
	check(f->C_Initialize(NULL), CKR_ARGUMENTS_BAD);
	setenv("CLAVIGER_PKCS11_TIMEOUT", "3000", 1);
	ok(f->C_Initialize(NULL));
	check(f->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
	check(f->C_InitToken(7, NULL, 0, NULL), CKR_FUNCTION_NOT_SUPPORTED);
	ok(f->C_GetSlotList(1, NULL, &n));
	check(n, 2);
	n = 1;
	check(f->C_GetSlotList(1, slots, &n), CKR_BUFFER_TOO_SMALL);
	ok(f->C_GetSlotList(1, slots, &n));
	check(slots[1], 8);
	check(f->C_OpenSession(9, CKF_SERIAL_SESSION, NULL, NULL, &s), CKR_SLOT_ID_INVALID);
	check(f->C_OpenSession(7, CKF_RW_SESSION, NULL, NULL, &s), CKR_SESSION_PARALLEL_NOT_SUPPORTED);
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
}

static void infos(void)
{
	CK_INFO info;
	CK_SLOT_INFO slot;
	CK_TOKEN_INFO token;
	CK_SESSION_INFO session;
	CK_MECHANISM_INFO mechanism;
	CK_ULONG n = 0;
	CK_MECHANISM_TYPE types[64];
	ok(f->C_GetInfo(&info));
	ok(f->C_GetSlotInfo(7, &slot));
	check(memcmp(slot.slotDescription, "claviger  ", 10), 0);
	ok(f->C_GetTokenInfo(7, &token));
	check(memcmp(token.label, "claviger   ", 11), 0);
	check(memcmp(token.serialNumber, "0123456789abcdef", 16), 0);
	check(token.flags, CKF_RNG | CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED);
	check(token.ulSessionCount, 1);
	check(token.ulRwSessionCount, 1);
	ok(f->C_GetSessionInfo(s, &session));
	check(session.state, CKS_RW_PUBLIC_SESSION);
	ok(f->C_GetMechanismList(7, NULL, &n));
	check(n, 11 + 4);
	ok(f->C_GetMechanismList(7, types, &n));
	ok(f->C_GetMechanismInfo(7, CKM_SHA512, &mechanism));
	check(mechanism.flags, CKF_DIGEST);
	ok(f->C_GetMechanismInfo(7, CKM_ECDSA, &mechanism));
	check(mechanism.ulMaxKeySize, 4096);
	check(f->C_GetMechanismInfo(7, 0x999, &mechanism), CKR_MECHANISM_INVALID);
	check(f->C_WaitForSlotEvent(CKF_DONT_BLOCK, &n, NULL), CKR_NO_EVENT);
}

static void logins(void)
{
	CK_SESSION_INFO info;
	CK_SESSION_HANDLE ro, other;
	char long_pin[MAX_TOKEN + 1];
	memset(long_pin, 'x', sizeof long_pin);
	check(f->C_Login(s, CKU_SO, BYTES("good")), CKR_USER_TYPE_INVALID);
	check(f->C_Login(s, CKU_USER, BYTES("bad")), CKR_PIN_INCORRECT);
	check(f->C_Login(s, CKU_USER, BYTES("old")), CKR_PIN_EXPIRED);
	check(f->C_Login(s, CKU_USER, (CK_BYTE *)long_pin, sizeof long_pin), CKR_PIN_LEN_RANGE);
	check(f->C_Logout(s), CKR_USER_NOT_LOGGED_IN);
	ok(f->C_Login(s, CKU_USER, BYTES("good")));
	check(f->C_Login(s, CKU_USER, BYTES("good")), CKR_USER_ALREADY_LOGGED_IN);
	ok(f->C_Login(s, CKU_CONTEXT_SPECIFIC, BYTES("any")));
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION, NULL, NULL, &ro));
	ok(f->C_GetSessionInfo(ro, &info));
	check(info.state, CKS_RO_USER_FUNCTIONS);
	ok(f->C_OpenSession(8, CKF_SERIAL_SESSION, NULL, NULL, &other));
	ok(f->C_GetSessionInfo(other, &info));
	check(info.state, CKS_RO_PUBLIC_SESSION);
	ok(f->C_CloseAllSessions(8));
	check(f->C_CloseSession(other), CKR_SESSION_HANDLE_INVALID);
	ok(f->C_CloseSession(ro));
	ok(f->C_Logout(s));
	ok(f->C_Login(s, CKU_USER, BYTES("good")));
	ok(f->C_CloseSession(s)); /* the last one: logs out */
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
	check(f->C_Logout(s), CKR_USER_NOT_LOGGED_IN);
}

static CK_ULONG find(CK_ATTRIBUTE *v, CK_ULONG n, CK_OBJECT_HANDLE *to, CK_ULONG most, CK_ULONG step)
{
	CK_ULONG all = 0, got;
	ok(f->C_FindObjectsInit(s, v, n));
	check(f->C_FindObjectsInit(s, v, n), CKR_OPERATION_ACTIVE);
	do {
		ok(f->C_FindObjects(s, to + all, all + step > most ? most - all : step, &got));
		all += got;
	} while (got);
	ok(f->C_FindObjectsFinal(s));
	check(f->C_FindObjectsFinal(s), CKR_OPERATION_NOT_INITIALIZED);
	return all;
}

static void finds(void)
{
	CK_OBJECT_HANDLE h[2000];
	CK_OBJECT_CLASS class = CKO_DATA;
	CK_ATTRIBUTE data = {CKA_CLASS, &class, sizeof class}, label = {CKA_LABEL, (void *)(uintptr_t)"object-1", 8};
	atomic_store(&fake->objects, 700);
	fake_count(OP_FIND);
	check(find(NULL, 0, h, 2000, 100), 706);
	check(fake_count(OP_FIND), 3);
	check(find(&data, 1, h, 2000, 7), 700);
	check(h[699], DATA + 699);
	check(find(&label, 1, h, 2000, 1), 1);
	check(h[0], EC_PRIVATE);
	fake_count(OP_GET);
	char text[20];
	CK_ATTRIBUTE v[2] = {{CKA_LABEL, text, sizeof text}, {CKA_VALUE, text, sizeof text}};
	for (CK_OBJECT_HANDLE i = 0; i < 700; i++) {
		v[0].ulValueLen = sizeof text;
		ok(f->C_GetAttributeValue(s, DATA + i, v, 1));
	}
	check(fake_count(OP_GET), 0); /* all came with the search */
	v[0].ulValueLen = sizeof text;
	check(f->C_GetAttributeValue(s, AES_KEY, v, 2), CKR_ATTRIBUTE_SENSITIVE);
	check(v[0].ulValueLen, 8);
	check(v[1].ulValueLen, CK_UNAVAILABLE_INFORMATION);
	check(f->C_GetAttributeValue(s, 99, v, 1), CKR_OBJECT_HANDLE_INVALID);
	atomic_store(&fake->objects, 3);
}

static void login_needed(void)
{
	CK_OBJECT_HANDLE h[10];
	CK_TOKEN_INFO token;
	CK_MECHANISM m = {CKM_ECDSA, NULL, 0};
	CK_ULONG n;
	ok(f->C_Finalize(NULL));
	atomic_store(&fake->flags, 3);
	ok(f->C_Initialize(NULL));
	ok(f->C_GetSlotList(1, NULL, &n));
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
	ok(f->C_GetTokenInfo(7, &token));
	check(token.flags & CKF_LOGIN_REQUIRED, CKF_LOGIN_REQUIRED);
	check(find(NULL, 0, h, 10, 10), 0);
	check(f->C_SignInit(s, &m, EC_PRIVATE), CKR_USER_NOT_LOGGED_IN);
	CK_BYTE random[64] = {0}, zero[64] = {0};
	ok(f->C_GenerateRandom(s, random, sizeof random)); /* the kernel's */
	check(memcmp(random, zero, sizeof zero) != 0, true);
	check(fake_count(OP_RANDOM), 0);
	ok(f->C_Login(s, CKU_USER, BYTES("good\n"))); /* as read from a file */
	check(find(NULL, 0, h, 10, 10), 9);
	ok(f->C_SignInit(s, &m, EC_PRIVATE));
	ok(f->C_Logout(s));
	ok(f->C_Finalize(NULL));
	atomic_store(&fake->flags, 1);
	ok(f->C_Initialize(NULL));
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
}

static void pin_file(void)
{
	char name[128];
	CK_TOKEN_INFO token;
	snprintf(name, sizeof name, "%s/token", fake->dir);
	FILE *out = fopen(name, "w");
	fputs("good\n", out);
	fclose(out);
	setenv("CLAVIGER_PKCS11_URI", "pkcs11:token=claviger", 1);
	setenv("CLAVIGER_PKCS11_PIN_FILE", name, 1);
	CK_SLOT_ID slots[2];
	CK_ULONG n = 2;
	ok(f->C_Finalize(NULL));
	atomic_store(&fake->flags, 3);
	ok(f->C_Initialize(NULL));
	ok(f->C_GetSlotList(1, slots, &n));
	check(n, 1);
	ok(f->C_GetTokenInfo(7, &token));
	check(token.flags & CKF_LOGIN_REQUIRED, 0);
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION, NULL, NULL, &s));
	ok(f->C_Login(s, CKU_USER, NULL, 0)); /* with the token of the file */
	ok(f->C_Finalize(NULL));
	unlink(name);
	unsetenv("CLAVIGER_PKCS11_URI");
	unsetenv("CLAVIGER_PKCS11_PIN_FILE");
	atomic_store(&fake->flags, 1);
	ok(f->C_Initialize(NULL));
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
}

static void signs(void)
{
	CK_MECHANISM ecdsa = {CKM_ECDSA, NULL, 0}, hashed = {CKM_ECDSA_SHA256, NULL, 0}, odd = {0x80000001, NULL, 0}, none = {0x77, NULL, 0};
	CK_BYTE sig[256], again[256], small[10];
	CK_ULONG n = 0;
	check(f->C_SignInit(s, &none, EC_PRIVATE), CKR_MECHANISM_INVALID);
	check(f->C_SignInit(s, &ecdsa, 77), CKR_KEY_HANDLE_INVALID);
	check(f->C_SignInit(s, NULL, EC_PRIVATE), CKR_OPERATION_NOT_INITIALIZED);
	check(f->C_Sign(s, BYTES("data"), sig, &n), CKR_OPERATION_NOT_INITIALIZED);
	ok(f->C_SignInit(s, &ecdsa, EC_PRIVATE));
	check(f->C_SignInit(s, &ecdsa, EC_PRIVATE), CKR_OPERATION_ACTIVE);
	fake_count(OP_SIGN), fake_count(OP_GET), fake_count(OP_INFO);
	ok(f->C_Sign(s, BYTES("data"), NULL, &n));
	check(n, 64);
	n = 63;
	check(f->C_Sign(s, BYTES("data"), sig, &n), CKR_BUFFER_TOO_SMALL);
	check(n, 64);
	check(fake_count(OP_SIGN), 0);
	ok(f->C_Sign(s, BYTES("data"), sig, &n));
	check(memcmp(sig, "\0dataS", 6), 0);
	check(fake_count(OP_SIGN), 1);
	check(f->C_Sign(s, BYTES("data"), sig, &n), CKR_OPERATION_NOT_INITIALIZED);
	ok(f->C_VerifyInit(s, &ecdsa, EC_PUBLIC));
	ok(f->C_Verify(s, BYTES("data"), sig, 64));
	ok(f->C_VerifyInit(s, &ecdsa, EC_PUBLIC));
	check(f->C_Verify(s, BYTES("data"), sig, 63), CKR_SIGNATURE_LEN_RANGE);
	ok(f->C_VerifyInit(s, &ecdsa, EC_PUBLIC));
	check(f->C_Verify(s, BYTES("datum"), sig, 64), CKR_SIGNATURE_INVALID);
	check(f->C_Verify(s, BYTES("data"), sig, 64), CKR_OPERATION_NOT_INITIALIZED);

	/* Hashed here: what is signed is the digest, whatever the parts. */
	n = sizeof sig;
	ok(f->C_SignInit(s, &hashed, EC_PRIVATE));
	ok(f->C_Sign(s, BYTES("abc"), sig, &n));
	check(memcmp(sig, "\1\xba\x78\x16\xbf", 5), 0);
	ok(f->C_SignInit(s, &hashed, EC_PRIVATE));
	ok(f->C_SignUpdate(s, BYTES("a")));
	check(f->C_Sign(s, BYTES("a"), again, &n), CKR_OPERATION_ACTIVE);
	ok(f->C_SignFinal(s, NULL, &n));
	n = 3;
	check(f->C_SignFinal(s, again, &n), CKR_BUFFER_TOO_SMALL);
	ok(f->C_SignUpdate(s, BYTES("bc")));
	ok(f->C_SignFinal(s, again, &n));
	check(memcmp(sig, again, 64), 0);
	ok(f->C_VerifyInit(s, &hashed, EC_PUBLIC));
	ok(f->C_VerifyUpdate(s, BYTES("abc")));
	ok(f->C_VerifyFinal(s, sig, 64));

	/* Of unknown length: asked once, kept for the retry with the same data only. */
	ok(f->C_SignInit(s, &odd, ODD_KEY));
	fake_count(OP_SIGN);
	ok(f->C_Sign(s, BYTES("data"), NULL, &n));
	check(n, 100);
	n = sizeof small;
	check(f->C_Sign(s, BYTES("data"), small, &n), CKR_BUFFER_TOO_SMALL);
	n = sizeof sig;
	ok(f->C_Sign(s, BYTES("data"), sig, &n));
	check(fake_count(OP_SIGN), 1);
	ok(f->C_SignInit(s, &odd, ODD_KEY));
	ok(f->C_Sign(s, BYTES("one"), NULL, &n));
	ok(f->C_Sign(s, BYTES("two"), sig, &n));
	check(memcmp(sig, "\0twoS", 5), 0);
	ok(f->C_SignInit(s, &ecdsa, EC_PRIVATE));
	ok(f->C_SignInit(s, NULL, 0));
	ok(C_SessionCancel(s, CKF_SIGN | CKF_DIGEST));
}

static void ciphers(void)
{
	CK_BYTE iv[16] = "0123456789abcde", plain[1000], whole[1024] = {0}, parts[1024];
	CK_MECHANISM m[2] = {{CKM_AES_CBC, iv, 16}, {CKM_AES_CBC_PAD, iv, 16}}, rsa = {CKM_RSA_PKCS, NULL, 0};
	for (size_t i = 0; i < sizeof plain; i++)
		plain[i] = (CK_BYTE)(i * 3);
	for (int k = 0; k < 2; k++)
		for (CK_ULONG n = 0; n <= 200; n += k ? 7 : 16) {
			CK_ULONG all = sizeof whole, some, done = 0, step = 1;
			ok(f->C_EncryptInit(s, &m[k], AES_KEY));
			ok(f->C_Encrypt(s, plain, n, whole, &all));
			for (int seal = 1; seal >= 0; seal--) {
				const CK_BYTE *in = seal ? plain : whole;
				CK_ULONG in_n = seal ? n : all;
				done = 0;
				ok(seal ? f->C_EncryptInit(s, &m[k], AES_KEY) : f->C_DecryptInit(s, &m[k], AES_KEY));
				for (CK_ULONG at = 0; at < in_n; at += step, step = step % 40 + 1) {
					CK_ULONG now = step < in_n - at ? step : in_n - at;
					some = sizeof parts - done;
					CK_BYTE *from = (CK_BYTE *)(uintptr_t)in + at;
					ok(seal ? f->C_EncryptUpdate(s, from, now, parts + done, &some) : f->C_DecryptUpdate(s, from, now, parts + done, &some));
					done += some;
				}
				some = sizeof parts - done;
				ok(seal ? f->C_EncryptFinal(s, parts + done, &some) : f->C_DecryptFinal(s, parts + done, &some));
				done += some;
				check(done, seal ? all : n);
				check(memcmp(parts, seal ? whole : plain, done), 0);
			}
		}
	CK_ULONG n = 0;
	ok(f->C_EncryptInit(s, &m[0], AES_KEY));
	check(f->C_EncryptUpdate(s, plain, 40, parts, &n), CKR_BUFFER_TOO_SMALL);
	check(n, 32);
	ok(f->C_EncryptUpdate(s, plain, 40, parts, &n));
	check(f->C_EncryptFinal(s, parts, &n), CKR_DATA_LEN_RANGE);

	/* A length that is only a bound: what fits, fits. */
	fake_count(OP_DECRYPT);
	ok(f->C_DecryptInit(s, &rsa, RSA_PRIVATE));
	ok(f->C_Decrypt(s, whole, 256, NULL, &n));
	check(n, 256);
	n = 10;
	check(f->C_Decrypt(s, whole, 256, parts, &n), CKR_BUFFER_TOO_SMALL);
	check(n, 20);
	ok(f->C_Decrypt(s, whole, 256, parts, &n));
	check(memcmp(parts, "twenty bytes of plai", 20), 0);
	check(fake_count(OP_DECRYPT), 1);
	check(f->C_EncryptInit(s, &m[0], HMAC_KEY), CKR_KEY_FUNCTION_NOT_PERMITTED);
}

static void digests(void)
{
	CK_MECHANISM sha = {CKM_SHA256, NULL, 0}, none = {CKM_ECDSA, NULL, 0};
	CK_BYTE one[64], many[64];
	CK_ULONG n = 10;
	check(f->C_DigestInit(s, &none), CKR_MECHANISM_INVALID);
	ok(f->C_DigestInit(s, &sha));
	check(f->C_Digest(s, BYTES("abc"), one, &n), CKR_BUFFER_TOO_SMALL);
	check(n, 32);
	ok(f->C_Digest(s, BYTES("abc"), one, &n));
	ok(f->C_DigestInit(s, &sha));
	ok(f->C_DigestUpdate(s, BYTES("ab")));
	check(f->C_Digest(s, BYTES("abc"), one, &n), CKR_OPERATION_ACTIVE);
	check(f->C_DigestKey(s, AES_KEY), CKR_KEY_INDIGESTIBLE);
	ok(f->C_DigestUpdate(s, BYTES("c")));
	ok(f->C_DigestFinal(s, many, &n));
	check(memcmp(one, many, 32), 0);
}

static void local_objects(void)
{
	CK_OBJECT_CLASS class = CKO_SECRET_KEY;
	CK_KEY_TYPE type = CKK_GENERIC_SECRET;
	CK_BBOOL yes = 1, no = 0;
	CK_OBJECT_HANDLE h, copy, found[10];
	CK_BYTE value[10], sig[64];
	CK_MECHANISM hmac = {CKM_SHA256_HMAC, NULL, 0}, sha = {CKM_SHA256, NULL, 0};
	CK_ATTRIBUTE v[] = {{CKA_CLASS, &class, 8}, {CKA_KEY_TYPE, &type, 8}, {CKA_VALUE, (void *)(uintptr_t)"secret", 6}, {CKA_EXTRACTABLE, &yes, 1},
		{CKA_SENSITIVE, &no, 1}, {CKA_LABEL, (void *)(uintptr_t)"mine", 4}};
	CK_ATTRIBUTE get = {CKA_VALUE, value, sizeof value}, label = {CKA_LABEL, (void *)(uintptr_t)"other", 5};
	CK_ULONG n = sizeof sig, counts[2];
	fake_count(OP_CREATE);
	ok(f->C_CreateObject(s, v, 6, &h));
	check(fake_count(OP_CREATE), 0);
	check(h >> 63, 1);
	ok(f->C_GetAttributeValue(s, h, &get, 1));
	check(get.ulValueLen, 6);
	check(find(&v[5], 1, found, 10, 10), 1);
	check(found[0], h);
	ok(f->C_SignInit(s, &hmac, h));
	ok(f->C_Sign(s, BYTES("data"), sig, &n));
	check(n, 32);
	ok(f->C_CopyObject(s, h, &label, 1, &copy));
	check(find(&label, 1, found, 10, 10), 1);
	ok(f->C_SetAttributeValue(s, h, &label, 1));
	check(find(&label, 1, found, 10, 10), 2);
	check(f->C_SetAttributeValue(s, h, v, 1), CKR_ATTRIBUTE_READ_ONLY);
	ok(f->C_DigestInit(s, &sha));
	ok(f->C_DigestKey(s, h));
	ok(C_SessionCancel(s, CKF_DIGEST));
	ok(f->C_GetObjectSize(s, h, counts));
	ok(f->C_DestroyObject(s, h));
	check(f->C_DestroyObject(s, h), CKR_OBJECT_HANDLE_INVALID);
	check(f->C_GetAttributeValue(s, h, &get, 1), CKR_OBJECT_HANDLE_INVALID);
	check(fake_count(OP_DESTROY), 0);

	/* One whose secret must not leave is the server's, and ends with its session. */
	CK_SESSION_HANDLE t;
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION, NULL, NULL, &t));
	CK_ATTRIBUTE sensitive[] = {v[0], v[1], v[2], {CKA_TOKEN, &no, 1}};
	ok(f->C_CreateObject(t, sensitive, 4, &h));
	check(h, 500);
	check(fake_count(OP_CREATE), 1);
	CK_ATTRIBUTE token[] = {v[0], v[1], v[2], {CKA_TOKEN, &yes, 1}};
	check(f->C_CreateObject(t, token, 4, &h), CKR_SESSION_READ_ONLY);
	ok(f->C_CloseSession(t));
	check(fake_count(OP_DESTROY), 1);
	check(f->C_CreateObject(s, v + 1, 5, &h), CKR_TEMPLATE_INCOMPLETE);
}

static void makes(void)
{
	CK_BBOOL yes = 1, no = 0;
	CK_BYTE point[65] = {4}, out[10];
	CK_ECDH1_DERIVE_PARAMS ecdh = {1, 0, NULL, sizeof point, point};
	CK_MECHANISM derive = {CKM_ECDH1_DERIVE, &ecdh, sizeof ecdh}, pair = {0x1040, NULL, 0};
	CK_ATTRIBUTE token = {CKA_TOKEN, &yes, 1}, session = {CKA_TOKEN, &no, 1};
	CK_OBJECT_HANDLE a, b, h;
	CK_ULONG n = sizeof out;
	ok(f->C_GenerateKeyPair(s, &pair, &token, 1, &token, 1, &a, &b));
	check(a, 500);
	check(b, 501);
	check(atomic_load(&fake->last_deadline) > 25000, true);
	fake_count(OP_DESTROY);
	ok(f->C_GenerateKey(s, &pair, &session, 1, &h));
	ok(f->C_DestroyObject(s, h));
	check(fake_count(OP_DESTROY), 1);
	ok(f->C_DeriveKey(s, &derive, EC_PRIVATE, &session, 1, &h));
	check(h >> 63, 1);
	check(f->C_DeriveKey(s, &derive, 77, &session, 1, &h), CKR_KEY_HANDLE_INVALID);
	check(f->C_WrapKey(s, &derive, EC_PRIVATE, AES_KEY, out, &n), CKR_FUNCTION_NOT_SUPPORTED);
	CK_BYTE *random = calloc(1, 3000000);
	ok(f->C_GenerateRandom(s, random, 3000000));
	check(random[2999999], 'R');
	check(fake_count(OP_RANDOM), 3);
	free(random);
	check(f->C_SeedRandom(s, out, 1), CKR_RANDOM_SEED_NOT_SUPPORTED);
}

static void many_sessions(void)
{
	CK_SESSION_HANDLE h[5000];
	for (int i = 0; i < 5000; i++)
		ok(f->C_OpenSession(8, CKF_SERIAL_SESSION, NULL, NULL, &h[i]));
	ok(f->C_CloseSession(h[17]));
	check(f->C_CloseSession(h[17]), CKR_SESSION_HANDLE_INVALID);
	ok(f->C_CloseAllSessions(8));
	check(f->C_CloseSession(h[18]), CKR_SESSION_HANDLE_INVALID);
}

int main(void)
{
	fake_begin();
	fake_start();
	before();
	infos();
	logins();
	finds();
	login_needed();
	pin_file();
	signs();
	ciphers();
	digests();
	local_objects();
	makes();
	many_sessions();
	ok(f->C_Finalize(NULL));
	fake_end();
	return 0;
}
