/* The parts that ask nobody: hashes, fields, attributes, parameters, configuration. */
#include <string.h>
#include <unistd.h>

#include "fake.h"

static void hex(const uint8_t *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", p[i]);
}

/* Known answers: FIPS 180-4 examples for "abc", the empty message, and a million a. */
static void hashes(void)
{
	static const struct { enum hash h; const char *text, *digest; } known[] = {
		{SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
		{SHA1, "a", "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
		{SHA224, "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
		{SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{SHA256, "a", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
		{SHA384, "abc", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
		{SHA512, "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
			"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{SHA512, "a", "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
			"de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b"},
	};
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		struct sha s;
		uint8_t out[64];
		char text[129];
		size_t n = strlen(known[i].text), repeat = strcmp(known[i].text, "a") == 0 ? 1000000 : 1;
		sha_begin(&s, known[i].h);
		for (size_t k = 0; k < repeat; k++)
			sha_add(&s, known[i].text, n);
		hex(out, sha_end(&s, out), text);
		check(strcmp(text, known[i].digest), 0);
	}
}

/* However a message is divided, its digest is the same; every length to 300. */
static void hash_parts(void)
{
	uint8_t data[300];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7);
	for (enum hash h = SHA1; h <= SHA512; h++)
		for (size_t n = 0; n <= sizeof data; n++) {
			struct sha one, many;
			uint8_t a[64], b[64];
			sha_begin(&one, h);
			sha_begin(&many, h);
			sha_add(&one, data, n);
			for (size_t at = 0, step = 1; at < n; at += step, step = step % 130 + 1) {
				if (step > n - at)
					step = n - at;
				sha_add(&many, data + at, step);
			}
			check(sha_end(&one, a), sha_size(h));
			sha_end(&many, b);
			check(memcmp(a, b, sha_size(h)), 0);
		}
}

static void fields(void)
{
	struct wbuf w = {0};
	w_u8(&w, 0x12);
	w_u32(&w, 0x3456789a);
	w_u64(&w, 0xbcdef0123456789aUL);
	w_bytes(&w, "xyz", 3);
	static const uint8_t want[] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0, 0, 0, 3, 'x', 'y', 'z'};
	check(w.n, sizeof want);
	check(memcmp(w.p, want, w.n), 0);
	for (size_t n = 0; n <= w.n; n++) {
		struct rbuf r = {.p = w.p, .n = n};
		r_u8(&r), r_u32(&r), r_u64(&r);
		struct rbuf field = r_bytes(&r);
		check(r.bad || field.bad, n < w.n);
	}
	check(w_room(&w, (size_t)-1) == NULL, true);
	check(w.bad, true);
	w_free(&w);
}

static void attributes(void)
{
	CK_BBOOL yes = CK_TRUE;
	CK_ULONG class = CKO_SECRET_KEY, list[2] = {5, 6};
	CK_ATTRIBUTE inner[] = {{CKA_SIGN, &yes, 1}, {CKA_CLASS, &class, 8}};
	CK_ATTRIBUTE v[] = {
		{CKA_TOKEN, &yes, 1}, {CKA_CLASS, &class, 8}, {CKA_LABEL, (void *)(uintptr_t)"hello", 5}, {CKA_ALLOWED_MECHANISMS, list, 16},
		{CKA_WRAP_TEMPLATE, inner, sizeof inner}, {0x80001234, (void *)(uintptr_t)"vendor", 6},
	};
	struct attrs a, b;
	struct wbuf w = {0}, again = {0};
	ok(attrs_from(&a, v, 6));
	w_attrs(&w, &a);
	for (size_t n = 0; n < w.n; n++) {
		struct rbuf r = {.p = w.p, .n = n};
		check(r_attrs(&r, &b), false);
	}
	struct rbuf r = {.p = w.p, .n = w.n};
	check(r_attrs(&r, &b), true);
	check(r.n, 0);
	w_attrs(&again, &b);
	check(again.n, w.n);
	check(memcmp(again.p, w.p, w.n), 0);
	check(attrs_match(&a, &b), true);

	CK_BBOOL bool_out = 7;
	CK_ULONG number = 0, numbers[2] = {0};
	char label[5];
	CK_ATTRIBUTE nested[2] = {{0, &bool_out, 1}, {0, &number, 8}};
	CK_ATTRIBUTE q[] = {{CKA_LABEL, NULL, 0}, {CKA_LABEL, label, 4}, {CKA_ID, NULL, 0}, {CKA_ALLOWED_MECHANISMS, numbers, 16},
		{CKA_WRAP_TEMPLATE, nested, sizeof nested}, {CKA_LABEL, label, 5}};
	check(attrs_answer(&b, q, 6), CKR_BUFFER_TOO_SMALL);
	check(q[0].ulValueLen, 5);
	check(q[1].ulValueLen, CK_UNAVAILABLE_INFORMATION);
	check(q[2].ulValueLen, CK_UNAVAILABLE_INFORMATION);
	check(numbers[1], 6);
	check(nested[0].type, CKA_SIGN);
	check(bool_out, 1);
	check(number, CKO_SECRET_KEY);
	check(memcmp(label, "hello", 5), 0);
	attrs_free(&a);
	attrs_free(&b);
	w_free(&w);
	w_free(&again);

	CK_ATTRIBUTE deep[] = {{CKA_WRAP_TEMPLATE, &v[4], sizeof v[4]}};
	const CK_ATTRIBUTE wrong[] = {
		{CKA_TOKEN, &yes, 2}, {CKA_CLASS, &class, 4}, {CKA_LABEL, NULL, 3}, {CKA_ALLOWED_MECHANISMS, list, 9},
		{CKA_WRAP_TEMPLATE, inner, 5}, {CKA_LABEL, label, CK_UNAVAILABLE_INFORMATION}, deep[0],
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		check(attrs_from(&a, &wrong[i], 1), CKR_ATTRIBUTE_VALUE_INVALID);
	check(attrs_from(&a, NULL, 1), CKR_ARGUMENTS_BAD);
	check(attrs_from(&a, v, MAX_ATTRS + 1), CKR_ARGUMENTS_BAD);
}

/* Forms of docs/pkcs11-protocol.md, byte by byte. */
static void mechanisms(void)
{
	CK_ULONG n16 = 16;
	CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, 2, 32};
	CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA256, 2, 1, (void *)(uintptr_t)"L", 1};
	CK_GCM_PARAMS gcm = {(CK_BYTE *)(uintptr_t)"iv", 2, 16, (CK_BYTE *)(uintptr_t)"a", 1, 128};
	CK_GCM_PARAMS_V230 gcm_old = {(CK_BYTE *)(uintptr_t)"iv", 2, (CK_BYTE *)(uintptr_t)"a", 1, 128};
	CK_ECDH1_DERIVE_PARAMS ecdh = {1, 0, NULL, 2, (CK_BYTE *)(uintptr_t)"pk"};
	CK_EDDSA_PARAMS ed = {1, 1, (CK_BYTE *)(uintptr_t)"c"};
	CK_KEY_DERIVATION_STRING_DATA str = {(CK_BYTE *)(uintptr_t)"d", 1};
	CK_RSA_AES_KEY_WRAP_PARAMS wrap = {256, &oaep}, no_oaep = {256, NULL};
	static const struct { CK_ULONG form, size; } forms[] = {
		{0, 9}, {1, 9 + 4 + 3}, {2, 17}, {3, 9 + 24}, {4, 9 + 24 + 5}, {5, 9 + 6 + 8 + 5 + 8}, {5, 9 + 6 + 8 + 5 + 8}, {6, 9 + 8 + 4 + 6},
		{9, 9 + 1 + 5}, {10, 9 + 5}, {11, 9 + 8 + 24 + 5},
	};
	CK_MECHANISM m[] = {
		{CKM_ECDSA, NULL, 0}, {CKM_AES_CBC, (void *)(uintptr_t)"abc", 3}, {CKM_SHA256_HMAC_GENERAL, &n16, 8}, {CKM_RSA_PKCS_PSS, &pss, sizeof pss},
		{CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep}, {CKM_AES_GCM, &gcm, sizeof gcm}, {CKM_AES_GCM, &gcm_old, sizeof gcm_old},
		{CKM_ECDH1_DERIVE, &ecdh, sizeof ecdh}, {CKM_EDDSA, &ed, sizeof ed}, {CKM_XOR_BASE_AND_DATA, &str, sizeof str},
		{CKM_RSA_AES_KEY_WRAP, &wrap, sizeof wrap},
	};
	for (size_t i = 0; i < sizeof m / sizeof m[0]; i++) {
		struct wbuf w = {0};
		ok(w_mechanism(&w, &m[i]));
		check(w.n, forms[i].size);
		check(w.p[8], forms[i].form);
		w_free(&w);
	}
	static const uint8_t bytes[] = {0, 0, 0, 0, 0, 0, 0x10, 0x87, 5, 0, 0, 0, 2, 'i', 'v', 0, 0, 0, 0, 0, 0, 0, 16,
		0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 128};
	struct wbuf w = {0};
	ok(w_mechanism(&w, &m[6]));
	check(memcmp(w.p, bytes, sizeof bytes), 0);
	w_free(&w);
	oaep.pSourceData = NULL;
	CK_MECHANISM wrong[] = {
		{CKM_RSA_PKCS_PSS, &pss, 23}, {CKM_AES_GCM, &gcm, 41}, {CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep}, {CKM_AES_CBC, NULL, 16},
		{CKM_RSA_AES_KEY_WRAP, &no_oaep, sizeof no_oaep}, {CKM_SHA256_HMAC_GENERAL, &n16, 4},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		check(w_mechanism(&w, &wrong[i]), CKR_MECHANISM_PARAM_INVALID);
		w_free(&w);
	}
}

static void configurations(void)
{
	struct config c;
	struct why why;
	config_defaults(&c);
	check(c.timeout, 5000);
	static const char good[] = "# comment\n\n socket = /run/x.sock \r\ntimeout=250\nslot = 7\ndebug = /var/log/x\n"
		"uri = pkcs11:token=my%20token;slot-id=9?pin-source=file:/etc/a%2fb\n";
	check(config_text(&c, good, sizeof good - 1, &why), true);
	check(strcmp(c.places[0], "/run/x.sock"), 0);
	check(c.places[1][0], 0);
	check(c.timeout, 250);
	check(c.slot, 9);
	check(c.one_slot, true);
	check(strcmp(c.label, "my token"), 0);
	check(strcmp(c.pin_file, "/etc/a/b"), 0);
	check(strcmp(c.debug, "/var/log/x"), 0);
	static const char *const bad[] = {
		"socket", "socket = relative", "sockets = /x", "timeout = 5s", "timeout = 99", "timeout = 600001", "timeout = -1",
		"slot = x", "slot = 4294967296", "pin_file = x", "debug = yes", "uri = token=x", "uri = pkcs11:token=", "uri = pkcs11:object=x",
		"uri = pkcs11:token=a;token=b", "uri = pkcs11:token=a;", "uri = pkcs11:slot-id=1;slot-id=1", "uri = pkcs11:token=%0", "uri = pkcs11:token=%00", "uri = pkcs11:token=a#b",
		"uri = pkcs11:?pin-value=1234", "uri = pkcs11:?pin-source=|prog", "uri = pkcs11:?pin-source=relative", "uri = pkcs11:?",
		"uri = pkcs11:?pin-source=/a&pin-source=/b",
		"uri = pkcs11:token=123456789012345678901234567890123", "uri = pkcs11:=x", "= x",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct config before = c;
		if (config_text(&c, bad[i], strlen(bad[i]), &why))
			check_(__FILE__, (int)i, bad[i], 1, 0);
		check(strlen(why.text) > 10, true);
		check(strcmp(before.label, c.label), 0);
	}
	check(config_text(&c, "uri = pkcs11:", 13, &why), true);
}

static void lists(void)
{
	CK_FUNCTION_LIST *two;
	CK_INTERFACE *one, all[2];
	CK_ULONG n = 0;
	CK_VERSION v2 = {2, 40}, v3 = {3, 0}, v4 = {4, 0};
	ok(C_GetFunctionList(&two));
	for (void **p = (void **)&two->C_Initialize; p <= (void **)&two->C_WaitForSlotEvent; p++)
		check(*p != NULL, true);
	check((void **)&two->C_WaitForSlotEvent - (void **)&two->C_Initialize, 67);
	ok(C_GetInterface(NULL, NULL, &one, 0));
	CK_FUNCTION_LIST_3_0 *three = one->pFunctionList;
	check(three->version.major, 3);
	for (void **p = (void **)&three->C_Initialize; p <= (void **)&three->C_MessageVerifyFinal; p++)
		check(*p != NULL, true);
	check((void **)&three->C_MessageVerifyFinal - (void **)&three->C_Initialize, 91);
	check(three->C_MessageSignFinal(1), CKR_CRYPTOKI_NOT_INITIALIZED);
	ok(C_GetInterface((CK_UTF8CHAR *)(uintptr_t)"PKCS 11", &v2, &one, CKF_INTERFACE_FORK_SAFE));
	check(((CK_VERSION *)one->pFunctionList)->minor, 40);
	ok(C_GetInterface(NULL, &v3, &one, 0));
	check(C_GetInterface(NULL, &v4, &one, 0), CKR_FUNCTION_FAILED);
	check(C_GetInterface((CK_UTF8CHAR *)(uintptr_t)"Vendor", NULL, &one, 0), CKR_FUNCTION_FAILED);
	check(C_GetInterface(NULL, NULL, &one, 8), CKR_FUNCTION_FAILED);
	ok(C_GetInterfaceList(NULL, &n));
	check(n, 2);
	n = 1;
	check(C_GetInterfaceList(all, &n), CKR_BUFFER_TOO_SMALL);
	ok(C_GetInterfaceList(all, &n));
}

int main(void)
{
	hashes();
	hash_parts();
	fields();
	attributes();
	mechanisms();
	configurations();
	lists();
	return 0;
}
