/* The part of PKCS#11 v2.40 that Claviger uses: types (section 3), the function
 * list in the order of section 5, and the helpers of pkcs11.c. Written from the
 * specification; structures have the platform's natural packing, as on Linux. */
#ifndef CLAVIGER_PKCS11_H
#define CLAVIGER_PKCS11_H

#include <stddef.h>
#include <stdint.h>

typedef unsigned char CK_BYTE;
typedef CK_BYTE CK_BBOOL;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;

typedef struct { CK_BYTE major, minor; } CK_VERSION;

typedef struct {
	CK_VERSION cryptokiVersion;
	CK_BYTE manufacturerID[32];
	CK_ULONG flags;
	CK_BYTE libraryDescription[32];
	CK_VERSION libraryVersion;
} CK_INFO;

typedef struct {
	CK_BYTE slotDescription[64];
	CK_BYTE manufacturerID[32];
	CK_ULONG flags;
	CK_VERSION hardwareVersion, firmwareVersion;
} CK_SLOT_INFO;

typedef struct {
	CK_BYTE label[32];
	CK_BYTE manufacturerID[32];
	CK_BYTE model[16];
	CK_BYTE serialNumber[16];
	CK_ULONG flags;
	CK_ULONG ulMaxSessionCount, ulSessionCount, ulMaxRwSessionCount, ulRwSessionCount;
	CK_ULONG ulMaxPinLen, ulMinPinLen;
	CK_ULONG ulTotalPublicMemory, ulFreePublicMemory, ulTotalPrivateMemory, ulFreePrivateMemory;
	CK_VERSION hardwareVersion, firmwareVersion;
	CK_BYTE utcTime[16];
} CK_TOKEN_INFO;

typedef struct { CK_ULONG slotID, state, flags, ulDeviceError; } CK_SESSION_INFO;
typedef struct { CK_ULONG type; void *pValue; CK_ULONG ulValueLen; } CK_ATTRIBUTE;
typedef struct { CK_ULONG mechanism; void *pParameter; CK_ULONG ulParameterLen; } CK_MECHANISM;
typedef struct { CK_ULONG ulMinKeySize, ulMaxKeySize, flags; } CK_MECHANISM_INFO;

typedef struct {
	CK_BYTE *pIv;
	CK_ULONG ulIvLen, ulIvBits;
	CK_BYTE *pAAD;
	CK_ULONG ulAADLen, ulTagBits;
} CK_GCM_PARAMS;

typedef struct { CK_ULONG hashAlg, mgf, sLen; } CK_RSA_PKCS_PSS_PARAMS;

typedef struct {
	CK_ULONG hashAlg, mgf, source;
	void *pSourceData;
	CK_ULONG ulSourceDataLen;
} CK_RSA_PKCS_OAEP_PARAMS;

typedef struct {
	CK_ULONG ulAESKeyBits;
	CK_RSA_PKCS_OAEP_PARAMS *pOAEPParams;
} CK_RSA_AES_KEY_WRAP_PARAMS;

typedef struct {
	CK_ULONG kdf, ulSharedDataLen;
	CK_BYTE *pSharedData;
	CK_ULONG ulPublicDataLen;
	CK_BYTE *pPublicData;
} CK_ECDH1_DERIVE_PARAMS;

typedef struct {
	void *CreateMutex, *DestroyMutex, *LockMutex, *UnlockMutex;
	CK_ULONG flags;
	void *pReserved;
} CK_C_INITIALIZE_ARGS;

typedef void *CK_UNUSED; /* a function that Claviger never calls */

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;
struct CK_FUNCTION_LIST {
	CK_VERSION version;
	CK_RV (*C_Initialize)(void *);
	CK_RV (*C_Finalize)(void *);
	CK_RV (*C_GetInfo)(CK_INFO *);
	CK_RV (*C_GetFunctionList)(CK_FUNCTION_LIST **);
	CK_RV (*C_GetSlotList)(CK_BBOOL, CK_ULONG *, CK_ULONG *);
	CK_RV (*C_GetSlotInfo)(CK_ULONG, CK_SLOT_INFO *);
	CK_RV (*C_GetTokenInfo)(CK_ULONG, CK_TOKEN_INFO *);
	CK_RV (*C_GetMechanismList)(CK_ULONG, CK_ULONG *, CK_ULONG *);
	CK_RV (*C_GetMechanismInfo)(CK_ULONG, CK_ULONG, CK_MECHANISM_INFO *);
	CK_RV (*C_InitToken)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *);
	CK_RV (*C_InitPIN)(CK_ULONG, CK_BYTE *, CK_ULONG);
	CK_RV (*C_SetPIN)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG);
	CK_RV (*C_OpenSession)(CK_ULONG, CK_ULONG, void *, void *, CK_ULONG *);
	CK_RV (*C_CloseSession)(CK_ULONG);
	CK_UNUSED C_CloseAllSessions;
	CK_RV (*C_GetSessionInfo)(CK_ULONG, CK_SESSION_INFO *);
	CK_UNUSED C_GetOperationState, C_SetOperationState;
	CK_RV (*C_Login)(CK_ULONG, CK_ULONG, CK_BYTE *, CK_ULONG);
	CK_UNUSED C_Logout;
	CK_RV (*C_CreateObject)(CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *);
	CK_UNUSED C_CopyObject;
	CK_RV (*C_DestroyObject)(CK_ULONG, CK_ULONG);
	CK_UNUSED C_GetObjectSize;
	CK_RV (*C_GetAttributeValue)(CK_ULONG, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG);
	CK_RV (*C_SetAttributeValue)(CK_ULONG, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG);
	CK_RV (*C_FindObjectsInit)(CK_ULONG, CK_ATTRIBUTE *, CK_ULONG);
	CK_RV (*C_FindObjects)(CK_ULONG, CK_ULONG *, CK_ULONG, CK_ULONG *);
	CK_RV (*C_FindObjectsFinal)(CK_ULONG);
	CK_RV (*C_EncryptInit)(CK_ULONG, CK_MECHANISM *, CK_ULONG);
	CK_RV (*C_Encrypt)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *);
	CK_UNUSED C_EncryptUpdate, C_EncryptFinal;
	CK_RV (*C_DecryptInit)(CK_ULONG, CK_MECHANISM *, CK_ULONG);
	CK_RV (*C_Decrypt)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *);
	CK_UNUSED C_DecryptUpdate, C_DecryptFinal;
	CK_UNUSED C_DigestInit, C_Digest, C_DigestUpdate, C_DigestKey, C_DigestFinal;
	CK_RV (*C_SignInit)(CK_ULONG, CK_MECHANISM *, CK_ULONG);
	CK_RV (*C_Sign)(CK_ULONG, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *);
	CK_UNUSED C_SignUpdate, C_SignFinal, C_SignRecoverInit, C_SignRecover;
	CK_UNUSED C_VerifyInit, C_Verify, C_VerifyUpdate, C_VerifyFinal, C_VerifyRecoverInit, C_VerifyRecover;
	CK_UNUSED C_DigestEncryptUpdate, C_DecryptDigestUpdate, C_SignEncryptUpdate, C_DecryptVerifyUpdate;
	CK_RV (*C_GenerateKey)(CK_ULONG, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *);
	CK_RV (*C_GenerateKeyPair)(CK_ULONG, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG,
		CK_ULONG *, CK_ULONG *);
	CK_RV (*C_WrapKey)(CK_ULONG, CK_MECHANISM *, CK_ULONG, CK_ULONG, CK_BYTE *, CK_ULONG *);
	CK_RV (*C_UnwrapKey)(CK_ULONG, CK_MECHANISM *, CK_ULONG, CK_BYTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG,
		CK_ULONG *);
	CK_RV (*C_DeriveKey)(CK_ULONG, CK_MECHANISM *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_ULONG *);
	CK_UNUSED C_SeedRandom;
	CK_RV (*C_GenerateRandom)(CK_ULONG, CK_BYTE *, CK_ULONG);
	CK_UNUSED C_GetFunctionStatus, C_CancelFunction, C_WaitForSlotEvent;
};

/* Helpers. Go hands over flat memory with offsets instead of pointers in it, so
 * that nothing needs pinning and one call does a whole batch. */

typedef struct { uint64_t type; uint32_t off, len; } cl_attr;

enum { CL_ENCRYPT = 1, CL_DECRYPT = 2, CL_SIGN = 3, CL_DERIVE = 4 };
enum { CL_PLAIN = 0, CL_GCM = 1, CL_PSS = 2, CL_OAEP = 3, CL_IV = 4 };
/* Which call of an item failed: 1 is the Init call, 2 the operation. */
enum { CL_AT_INIT = 1, CL_AT_CALL = 2 };

typedef struct { uint32_t fn, param, mech, hash, mgf, salt; } cl_op;

typedef struct {
	uint32_t nonce, nonce_len, aad, aad_len, in, in_len, out, out_cap;
	uint32_t out_len, rv, at, done;
} cl_item;

CK_FUNCTION_LIST *cl_open(const char *path, char *err, size_t errlen);
CK_RV cl_initialize(CK_FUNCTION_LIST *f);
CK_RV cl_finalize(CK_FUNCTION_LIST *f);
CK_RV cl_info(CK_FUNCTION_LIST *f, CK_INFO *i);
CK_RV cl_slots(CK_FUNCTION_LIST *f, int present, CK_ULONG *ids, CK_ULONG *n);
CK_RV cl_slot_info(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_SLOT_INFO *i);
CK_RV cl_token_info(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_TOKEN_INFO *i);
CK_RV cl_mechanisms(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_ULONG *m, CK_ULONG *n);
CK_RV cl_mechanism_info(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_ULONG m, CK_MECHANISM_INFO *i);
CK_RV cl_init_token(CK_FUNCTION_LIST *f, CK_ULONG slot, void *pin, CK_ULONG n, void *label);
CK_RV cl_init_pin(CK_FUNCTION_LIST *f, CK_ULONG s, void *pin, CK_ULONG n);
CK_RV cl_set_pin(CK_FUNCTION_LIST *f, CK_ULONG s, void *old, CK_ULONG nold, void *pin, CK_ULONG n);
CK_RV cl_open_session(CK_FUNCTION_LIST *f, CK_ULONG slot, CK_ULONG *s);
CK_RV cl_close_session(CK_FUNCTION_LIST *f, CK_ULONG s);
CK_RV cl_session_info(CK_FUNCTION_LIST *f, CK_ULONG s, CK_SESSION_INFO *i);
CK_RV cl_login(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG user, void *pin, CK_ULONG n);
CK_RV cl_destroy(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG o);
CK_RV cl_get(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG o, CK_ULONG type, void *p, CK_ULONG *n);
CK_RV cl_set(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG o, CK_ULONG type, void *p, CK_ULONG n);
CK_RV cl_find(CK_FUNCTION_LIST *f, CK_ULONG s, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o, CK_ULONG *n);
CK_RV cl_generate(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o);
CK_RV cl_generate_pair(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, cl_attr *pub, CK_ULONG npub, void *pubdata,
	cl_attr *prv, CK_ULONG nprv, void *prvdata, CK_ULONG *opub, CK_ULONG *oprv);
CK_RV cl_wrap(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, CK_ULONG kek, CK_ULONG key, void *out, CK_ULONG *n);
CK_RV cl_unwrap(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, CK_ULONG kek, void *blob, CK_ULONG nblob,
	cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o);
CK_RV cl_wrap_oaep(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG hash, CK_ULONG mgf, CK_ULONG kek, CK_ULONG key, void *out, CK_ULONG *n);
/* Unwraps with CKM_RSA_PKCS_OAEP, or with CKM_RSA_AES_KEY_WRAP if aes_bits is not 0. */
CK_RV cl_unwrap_oaep(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG mech, CK_ULONG hash, CK_ULONG mgf, CK_ULONG aes_bits,
	CK_ULONG kek, void *blob, CK_ULONG nblob, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o);
CK_RV cl_create(CK_FUNCTION_LIST *f, CK_ULONG s, cl_attr *t, CK_ULONG nt, void *data, CK_ULONG *o);
CK_RV cl_random(CK_FUNCTION_LIST *f, CK_ULONG s, void *p, CK_ULONG n);
/* Tells whether an item failed for what is not its own fault alone. */
int cl_stops(const cl_item *it);
/* Performs items [0,n) in order and stops after the first whose failure is not
 * confined to it (cl_stops); items that were tried have done=1. */
void cl_batch(CK_FUNCTION_LIST *f, CK_ULONG s, CK_ULONG key, cl_op *op, uint8_t *in, uint8_t *out, cl_item *items,
	uint32_t n);

#endif
