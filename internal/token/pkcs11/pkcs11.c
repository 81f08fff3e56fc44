#include "pkcs11.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define CKR_HOST_MEMORY 0x02UL
#define CKR_FUNCTION_NOT_SUPPORTED 0x54UL
#define MAX_ATTRS 40

/* A module may leave out what it does not support by a null pointer. */
#define CALL(fn, ...) (f->fn ? f->fn(__VA_ARGS__) : CKR_FUNCTION_NOT_SUPPORTED)

CK_FUNCTION_LIST *cl_open(const char *path, char *err, size_t errlen)
{
	void *dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!dl) {
		snprintf(err, errlen, "%s", dlerror());
		return NULL;
	}
	CK_RV (*get)(CK_FUNCTION_LIST **) = (CK_RV(*)(CK_FUNCTION_LIST **))dlsym(dl, "C_GetFunctionList");
	if (!get) {
		snprintf(err, errlen, "it is a shared library, but has no C_GetFunctionList");
		dlclose(dl);
		return NULL;
	}
	CK_FUNCTION_LIST *f = NULL;
	CK_RV rv = get(&f);
	if (rv || !f) {
		snprintf(err, errlen, "C_GetFunctionList returned 0x%lx", rv);
		return NULL;
	}
	if (f->version.major < 2) {
		snprintf(err, errlen, "it speaks Cryptoki %d.%02d, and 2.0 or newer is needed", f->version.major,
			f->version.minor);
		return NULL;
	}
	return f;
}

CK_RV cl_initialize(CK_FUNCTION_LIST *f)
{
	CK_C_INITIALIZE_ARGS a;
	memset(&a, 0, sizeof a);
	a.flags = 2; /* CKF_OS_LOCKING_OK: without it modules are not thread-safe */
	return CALL(C_Initialize, &a);
}

CK_RV cl_finalize(CK_FUNCTION_LIST *f) { return CALL(C_Finalize, NULL); }
CK_RV cl_info(CK_FUNCTION_LIST *f, CK_INFO *i) { return CALL(C_GetInfo, i); }

CK_RV cl_slots(CK_FUNCTION_LIST *f, int present, CK_ULONG *ids, CK_ULONG *n)
{
	return CALL(C_GetSlotList, (CK_BBOOL)present, ids, n);
}

CK_RV cl_slot_info(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_SLOT_INFO *i) { return CALL(C_GetSlotInfo, slot, i); }
CK_RV cl_token_info(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_TOKEN_INFO *i) { return CALL(C_GetTokenInfo, slot, i); }

CK_RV cl_mechanisms(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_ULONG *m, CK_ULONG *n)
{
	return CALL(C_GetMechanismList, slot, m, n);
}

CK_RV cl_mechanism_info(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_ULONG m, CK_MECHANISM_INFO *i)
{
	return CALL(C_GetMechanismInfo, slot, m, i);
}

CK_RV cl_init_token(CK_FUNCTION_LIST *f, CK_ULONG slot, void *pin, CK_ULONG n, void *label)
{
	return CALL(C_InitToken, slot, pin, n, label);
}

CK_RV cl_init_pin(CK_FUNCTION_LIST *f, CK_ULONG s, void *pin, CK_ULONG n) { return CALL(C_InitPIN, s, pin, n); }

CK_RV cl_set_pin(CK_FUNCTION_LIST *f, CK_ULONG s, void *old, CK_ULONG nold, void *pin, CK_ULONG n)
{
	return CALL(C_SetPIN, s, old, nold, pin, n);
}

CK_RV cl_open_session(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_ULONG *s)
{
	return CALL(C_OpenSession, slot, 4 | 2, NULL, NULL, s); /* CKF_SERIAL_SESSION | CKF_RW_SESSION */
}

CK_RV cl_close_session(CK_FUNCTION_LIST *f, CK_ULONG s) { return CALL(C_CloseSession, s); }
CK_RV cl_session_info(CK_FUNCTION_LIST *f, CK_ULONG s, CK_SESSION_INFO *i) { return CALL(C_GetSessionInfo, s, i); }

CK_RV cl_login(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG user, void *pin, CK_ULONG n)
{
	return CALL(C_Login, s, user, pin, n);
}

CK_RV cl_destroy(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG o) { return CALL(C_DestroyObject, s, o); }

CK_RV cl_get(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG o, CK_ULONG type, void *p, CK_ULONG *n)
{
	CK_ATTRIBUTE a = {type, p, *n};
	CK_RV rv = CALL(C_GetAttributeValue, s, o, &a, 1);
	*n = a.ulValueLen;
	return rv;
}

CK_RV cl_set(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG o, CK_ULONG type, void *p, CK_ULONG n)
{
	CK_ATTRIBUTE a = {type, p, n};
	return CALL(C_SetAttributeValue, s, o, &a, 1);
}

static int fill(CK_ATTRIBUTE *a, const cl_attr *t, CK_ULONG n, void *data)
{
	if (n > MAX_ATTRS)
		return -1;
	for (CK_ULONG i = 0; i < n; i++) {
		a[i].type = t[i].type;
		a[i].pValue = (CK_BYTE *)data + t[i].off;
		a[i].ulValueLen = t[i].len;
	}
	return 0;
}

CK_RV cl_find(CK_FUNCTION_LIST *f, CK_ULONG s, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o, CK_ULONG *n)
{
	CK_ATTRIBUTE a[MAX_ATTRS];
	if (fill(a, t, nt, data))
		return CKR_HOST_MEMORY;
	CK_RV rv = CALL(C_FindObjectsInit, s, a, nt);
	if (rv)
		return rv;
	CK_ULONG max = *n, got = 0;
	*n = 0;
	/* A module may return fewer than it has: only zero ends the search. */
	while (*n < max && !(rv = CALL(C_FindObjects, s, o + *n, max - *n, &got)) && got)
		*n += got;
	CK_RV fin = CALL(C_FindObjectsFinal, s);
	return rv ? rv : fin;
}

CK_RV cl_generate(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o)
{
	CK_ATTRIBUTE a[MAX_ATTRS];
	CK_MECHANISM m = {mech, NULL, 0};
	if (fill(a, t, nt, data))
		return CKR_HOST_MEMORY;
	return CALL(C_GenerateKey, s, &m, a, nt, o);
}

CK_RV cl_generate_pair(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, cl_attr *pub, CK_ULONG npub, void *pubdata,
	cl_attr *prv, CK_ULONG nprv, void *prvdata, CK_ULONG *opub, CK_ULONG *oprv)
{
	CK_ATTRIBUTE a[MAX_ATTRS], b[MAX_ATTRS];
	CK_MECHANISM m = {mech, NULL, 0};
	if (fill(a, pub, npub, pubdata) || fill(b, prv, nprv, prvdata))
		return CKR_HOST_MEMORY;
	return CALL(C_GenerateKeyPair, s, &m, a, npub, b, nprv, opub, oprv);
}

CK_RV cl_wrap(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, CK_ULONG kek, CK_ULONG key, void *out, CK_ULONG *n)
{
	CK_MECHANISM m = {mech, NULL, 0};
	return CALL(C_WrapKey, s, &m, kek, key, out, n);
}

CK_RV cl_unwrap(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, CK_ULONG kek, void *blob, CK_ULONG nblob,
	cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o)
{
	CK_ATTRIBUTE a[MAX_ATTRS];
	CK_MECHANISM m = {mech, NULL, 0};
	if (fill(a, t, nt, data))
		return CKR_HOST_MEMORY;
	return CALL(C_UnwrapKey, s, &m, kek, blob, nblob, a, nt, o);
}

CK_RV cl_unwrap_oaep(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, CK_ULONG hash, CK_ULONG mgf, CK_ULONG aes_bits,
	CK_ULONG kek, void *blob, CK_ULONG nblob, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o)
{
	CK_ATTRIBUTE a[MAX_ATTRS];
	CK_RSA_PKCS_OAEP_PARAMS oaep = {hash, mgf, 1 /* CKZ_DATA_SPECIFIED */, NULL, 0};
	CK_RSA_AES_KEY_WRAP_PARAMS both = {aes_bits, &oaep};
	CK_MECHANISM m = {mech, &oaep, sizeof oaep};
	if (aes_bits) {
		m.pParameter = &both;
		m.ulParameterLen = sizeof both;
	}
	if (fill(a, t, nt, data))
		return CKR_HOST_MEMORY;
	return CALL(C_UnwrapKey, s, &m, kek, blob, nblob, a, nt, o);
}

CK_RV cl_wrap_oaep(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG hash, CK_ULONG mgf, CK_ULONG kek, CK_ULONG key, void *out, CK_ULONG *n)
{
	CK_RSA_PKCS_OAEP_PARAMS oaep = {hash, mgf, 1 /* CKZ_DATA_SPECIFIED */, NULL, 0};
	CK_MECHANISM m = {9 /* CKM_RSA_PKCS_OAEP */, &oaep, sizeof oaep};
	return CALL(C_WrapKey, s, &m, kek, key, out, n);
}

CK_RV cl_create(CK_FUNCTION_LIST *f, CK_ULONG s, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o)
{
	CK_ATTRIBUTE a[MAX_ATTRS];
	if (fill(a, t, nt, data))
		return CKR_HOST_MEMORY;
	return CALL(C_CreateObject, s, a, nt, o);
}

CK_RV cl_random(CK_FUNCTION_LIST *f, CK_ULONG s, void *p, CK_ULONG n) { return CALL(C_GenerateRandom, s, p, n); }

static CK_RV start(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG key, uint32_t fn, CK_MECHANISM *m)
{
	switch (fn) {
	case CL_ENCRYPT:
		return CALL(C_EncryptInit, s, m, key);
	case CL_DECRYPT:
		return CALL(C_DecryptInit, s, m, key);
	default:
		return CALL(C_SignInit, s, m, key);
	}
}

static CK_RV finish(CK_FUNCTION_LIST *f, CK_ULONG s, uint32_t fn, CK_BYTE *in, CK_ULONG nin, CK_BYTE *out, CK_ULONG *nout)
{
	switch (fn) {
	case CL_ENCRYPT:
		return CALL(C_Encrypt, s, in, nin, out, nout);
	case CL_DECRYPT:
		return CALL(C_Decrypt, s, in, nin, out, nout);
	default:
		return CALL(C_Sign, s, in, nin, out, nout);
	}
}

/* The secret belongs to the caller, so its object is neither sensitive nor kept. */
static CK_RV derive(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG key, const cl_op *op, CK_BYTE *in, CK_ULONG nin, CK_BYTE *out,
	CK_ULONG *nout)
{
	CK_ECDH1_DERIVE_PARAMS p = {1 /* CKD_NULL */, 0, NULL, nin, in};
	CK_MECHANISM m = {op->mech, &p, sizeof p};
	CK_ULONG class = 4, type = 0x10, size = op->salt, o;
	CK_BBOOL no = 0, yes = 1;
	CK_ATTRIBUTE t[] = {{0x000, &class, sizeof class}, {0x100, &type, sizeof type}, {0x161, &size, sizeof size},
		{0x001, &no, 1}, {0x103, &no, 1}, {0x162, &yes, 1}};
	CK_ATTRIBUTE value = {0x011, out, *nout};
	CK_RV rv = CALL(C_DeriveKey, s, &m, key, t, sizeof t / sizeof *t, &o);
	if (rv)
		return rv;
	rv = CALL(C_GetAttributeValue, s, o, &value, 1);
	CK_RV gone = CALL(C_DestroyObject, s, o);
	*nout = value.ulValueLen;
	return rv ? rv : gone;
}

/* A failed Init is the session's or the key's failure: the caller decides before
 * the rest is tried. A failed operation ends itself (section 5.2), but for a buffer
 * that was too small, which leaves it active. */
int cl_stops(const cl_item *it)
{
	if (!it->rv)
		return 0;
	if (it->at == CL_AT_INIT)
		return 1;
	switch (it->rv) {
	case 0x02:  /* CKR_HOST_MEMORY */
	case 0x30:  /* CKR_DEVICE_ERROR */
	case 0x31:  /* CKR_DEVICE_MEMORY */
	case 0x32:  /* CKR_DEVICE_REMOVED */
	case 0x90:  /* CKR_OPERATION_ACTIVE */
	case 0x91:  /* CKR_OPERATION_NOT_INITIALIZED */
	case 0xb0:  /* CKR_SESSION_CLOSED */
	case 0xb3:  /* CKR_SESSION_HANDLE_INVALID */
	case 0xe0:  /* CKR_TOKEN_NOT_PRESENT */
	case 0x101: /* CKR_USER_NOT_LOGGED_IN */
	case 0x150: /* CKR_BUFFER_TOO_SMALL */
	case 0x190: /* CKR_CRYPTOKI_NOT_INITIALIZED */
		return 1;
	}
	return 0;
}

void cl_batch(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG key, cl_op *op, uint8_t *in, uint8_t *out, cl_item *items,
	uint32_t n)
{
	CK_GCM_PARAMS gcm;
	CK_RSA_PKCS_PSS_PARAMS pss = {op->hash, op->mgf, op->salt};
	CK_RSA_PKCS_OAEP_PARAMS oaep = {op->hash, op->mgf, 1 /* CKZ_DATA_SPECIFIED */, NULL, 0};
	CK_MECHANISM m = {op->mech, NULL, 0};
	for (uint32_t i = 0; i < n; i++) {
		cl_item *it = &items[i];
		CK_BYTE *aad = it->aad_len ? in + it->aad : NULL;
		switch (op->param) {
		case CL_GCM:
			gcm = (CK_GCM_PARAMS){in + it->nonce, it->nonce_len, it->nonce_len * 8UL, aad, it->aad_len, 128};
			m.pParameter = &gcm;
			m.ulParameterLen = sizeof gcm;
			break;
		case CL_IV:
			m.pParameter = in + it->nonce;
			m.ulParameterLen = it->nonce_len;
			break;
		case CL_PSS:
			m.pParameter = &pss;
			m.ulParameterLen = sizeof pss;
			break;
		case CL_OAEP:
			oaep.pSourceData = aad;
			oaep.ulSourceDataLen = it->aad_len;
			m.pParameter = &oaep;
			m.ulParameterLen = sizeof oaep;
			break;
		}
		it->done = 1;
		it->at = CL_AT_INIT;
		CK_ULONG len = it->out_cap;
		CK_RV rv;
		if (op->fn == CL_DERIVE) {
			rv = derive(f, s, key, op, in + it->in, it->in_len, out + it->out, &len);
			it->out_len = rv ? 0 : (uint32_t)(len <= it->out_cap ? len : it->out_cap);
		} else if (!(rv = start(f, s, key, op->fn, &m))) {
			it->at = CL_AT_CALL;
			rv = finish(f, s, op->fn, in + it->in, it->in_len, out + it->out, &len);
			/* A module that claims more than its buffer has broken memory already. */
			it->out_len = rv ? 0 : (uint32_t)(len <= it->out_cap ? len : it->out_cap);
		}
		it->rv = (uint32_t)rv;
		if (cl_stops(it))
			return;
	}
}
