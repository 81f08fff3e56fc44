/* PKCS#11: the types, functions and numbers that the module uses, written from
 * PKCS#11 v2.40 (base specification, sections 3 to 5; current mechanisms) and
 * v3.0 (section 5.1, interfaces and message functions). Structures have the
 * platform's natural packing, as on every Unix. */
#ifndef CLAVIGER_CK_H
#define CLAVIGER_CK_H

#include <stdint.h>

typedef unsigned char CK_BYTE;
typedef CK_BYTE CK_BBOOL;
typedef CK_BYTE CK_CHAR;
typedef CK_BYTE CK_UTF8CHAR;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_FLAGS;
typedef CK_ULONG CK_RV;
typedef CK_ULONG CK_SLOT_ID;
typedef CK_ULONG CK_SESSION_HANDLE;
typedef CK_ULONG CK_OBJECT_HANDLE;
typedef CK_ULONG CK_OBJECT_CLASS;
typedef CK_ULONG CK_KEY_TYPE;
typedef CK_ULONG CK_ATTRIBUTE_TYPE;
typedef CK_ULONG CK_MECHANISM_TYPE;
typedef CK_ULONG CK_USER_TYPE;
typedef CK_ULONG CK_STATE;

/* Object handles have 63 bits, see docs/pkcs11-protocol.md. */
_Static_assert(sizeof(CK_ULONG) == 8, "the module needs a CK_ULONG of 64 bits");

typedef struct { CK_BYTE major, minor; } CK_VERSION;

typedef struct {
	CK_VERSION cryptokiVersion;
	CK_UTF8CHAR manufacturerID[32];
	CK_FLAGS flags;
	CK_UTF8CHAR libraryDescription[32];
	CK_VERSION libraryVersion;
} CK_INFO;

typedef struct {
	CK_UTF8CHAR slotDescription[64];
	CK_UTF8CHAR manufacturerID[32];
	CK_FLAGS flags;
	CK_VERSION hardwareVersion, firmwareVersion;
} CK_SLOT_INFO;

typedef struct {
	CK_UTF8CHAR label[32];
	CK_UTF8CHAR manufacturerID[32];
	CK_UTF8CHAR model[16];
	CK_CHAR serialNumber[16];
	CK_FLAGS flags;
	CK_ULONG ulMaxSessionCount, ulSessionCount;
	CK_ULONG ulMaxRwSessionCount, ulRwSessionCount;
	CK_ULONG ulMaxPinLen, ulMinPinLen;
	CK_ULONG ulTotalPublicMemory, ulFreePublicMemory;
	CK_ULONG ulTotalPrivateMemory, ulFreePrivateMemory;
	CK_VERSION hardwareVersion, firmwareVersion;
	CK_CHAR utcTime[16];
} CK_TOKEN_INFO;

typedef struct {
	CK_SLOT_ID slotID;
	CK_STATE state;
	CK_FLAGS flags;
	CK_ULONG ulDeviceError;
} CK_SESSION_INFO;

typedef struct {
	CK_ATTRIBUTE_TYPE type;
	void *pValue;
	CK_ULONG ulValueLen;
} CK_ATTRIBUTE;

typedef struct {
	CK_MECHANISM_TYPE mechanism;
	void *pParameter;
	CK_ULONG ulParameterLen;
} CK_MECHANISM;

typedef struct {
	CK_ULONG ulMinKeySize, ulMaxKeySize;
	CK_FLAGS flags;
} CK_MECHANISM_INFO;

typedef CK_RV (*CK_NOTIFY)(CK_SESSION_HANDLE, CK_ULONG, void *);

typedef struct {
	CK_RV (*CreateMutex)(void **);
	CK_RV (*DestroyMutex)(void *);
	CK_RV (*LockMutex)(void *);
	CK_RV (*UnlockMutex)(void *);
	CK_FLAGS flags;
	void *pReserved;
} CK_C_INITIALIZE_ARGS;

typedef struct {
	CK_UTF8CHAR *pInterfaceName;
	void *pFunctionList;
	CK_FLAGS flags;
} CK_INTERFACE;

/* Parameters of mechanisms that hold pointers or numbers. */

typedef struct { CK_ULONG hashAlg, mgf, sLen; } CK_RSA_PKCS_PSS_PARAMS;

typedef struct {
	CK_ULONG hashAlg, mgf, source;
	void *pSourceData;
	CK_ULONG ulSourceDataLen;
} CK_RSA_PKCS_OAEP_PARAMS;

typedef struct {
	CK_BYTE *pIv;
	CK_ULONG ulIvLen, ulIvBits;
	CK_BYTE *pAAD;
	CK_ULONG ulAADLen, ulTagBits;
} CK_GCM_PARAMS;

/* As v2.30 had it, and as some programs still pass it: without ulIvBits. */
typedef struct {
	CK_BYTE *pIv;
	CK_ULONG ulIvLen;
	CK_BYTE *pAAD;
	CK_ULONG ulAADLen, ulTagBits;
} CK_GCM_PARAMS_V230;

typedef struct {
	CK_ULONG ulDataLen;
	CK_BYTE *pNonce;
	CK_ULONG ulNonceLen;
	CK_BYTE *pAAD;
	CK_ULONG ulAADLen, ulMACLen;
} CK_CCM_PARAMS;

typedef struct {
	CK_ULONG kdf, ulSharedDataLen;
	CK_BYTE *pSharedData;
	CK_ULONG ulPublicDataLen;
	CK_BYTE *pPublicData;
} CK_ECDH1_DERIVE_PARAMS;

typedef struct {
	CK_ULONG ulCounterBits;
	CK_BYTE cb[16];
} CK_AES_CTR_PARAMS;

typedef struct {
	CK_BBOOL phFlag;
	CK_ULONG ulContextDataLen;
	CK_BYTE *pContextData;
} CK_EDDSA_PARAMS;

typedef struct {
	CK_BYTE *pData;
	CK_ULONG ulLen;
} CK_KEY_DERIVATION_STRING_DATA;

typedef struct {
	CK_ULONG ulAESKeyBits;
	CK_RSA_PKCS_OAEP_PARAMS *pOAEPParams;
} CK_RSA_AES_KEY_WRAP_PARAMS;

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;

/* The functions in the order of the list, v2.40 section 5. */
#define CK_S CK_SESSION_HANDLE
#define CK_IN CK_BYTE *, CK_ULONG
#define CK_OUT CK_BYTE *, CK_ULONG *
#define CK_FUNCTIONS_2(X) \
	X(Initialize, (void *)) \
	X(Finalize, (void *)) \
	X(GetInfo, (CK_INFO *)) \
	X(GetFunctionList, (CK_FUNCTION_LIST **)) \
	X(GetSlotList, (CK_BBOOL, CK_SLOT_ID *, CK_ULONG *)) \
	X(GetSlotInfo, (CK_SLOT_ID, CK_SLOT_INFO *)) \
	X(GetTokenInfo, (CK_SLOT_ID, CK_TOKEN_INFO *)) \
	X(GetMechanismList, (CK_SLOT_ID, CK_MECHANISM_TYPE *, CK_ULONG *)) \
	X(GetMechanismInfo, (CK_SLOT_ID, CK_MECHANISM_TYPE, CK_MECHANISM_INFO *)) \
	X(InitToken, (CK_SLOT_ID, CK_UTF8CHAR *, CK_ULONG, CK_UTF8CHAR *)) \
	X(InitPIN, (CK_S, CK_UTF8CHAR *, CK_ULONG)) \
	X(SetPIN, (CK_S, CK_UTF8CHAR *, CK_ULONG, CK_UTF8CHAR *, CK_ULONG)) \
	X(OpenSession, (CK_SLOT_ID, CK_FLAGS, void *, CK_NOTIFY, CK_SESSION_HANDLE *)) \
	X(CloseSession, (CK_S)) \
	X(CloseAllSessions, (CK_SLOT_ID)) \
	X(GetSessionInfo, (CK_S, CK_SESSION_INFO *)) \
	X(GetOperationState, (CK_S, CK_OUT)) \
	X(SetOperationState, (CK_S, CK_IN, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)) \
	X(Login, (CK_S, CK_USER_TYPE, CK_UTF8CHAR *, CK_ULONG)) \
	X(Logout, (CK_S)) \
	X(CreateObject, (CK_S, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *)) \
	X(CopyObject, (CK_S, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *)) \
	X(DestroyObject, (CK_S, CK_OBJECT_HANDLE)) \
	X(GetObjectSize, (CK_S, CK_OBJECT_HANDLE, CK_ULONG *)) \
	X(GetAttributeValue, (CK_S, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG)) \
	X(SetAttributeValue, (CK_S, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG)) \
	X(FindObjectsInit, (CK_S, CK_ATTRIBUTE *, CK_ULONG)) \
	X(FindObjects, (CK_S, CK_OBJECT_HANDLE *, CK_ULONG, CK_ULONG *)) \
	X(FindObjectsFinal, (CK_S)) \
	X(EncryptInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(Encrypt, (CK_S, CK_IN, CK_OUT)) \
	X(EncryptUpdate, (CK_S, CK_IN, CK_OUT)) \
	X(EncryptFinal, (CK_S, CK_OUT)) \
	X(DecryptInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(Decrypt, (CK_S, CK_IN, CK_OUT)) \
	X(DecryptUpdate, (CK_S, CK_IN, CK_OUT)) \
	X(DecryptFinal, (CK_S, CK_OUT)) \
	X(DigestInit, (CK_S, CK_MECHANISM *)) \
	X(Digest, (CK_S, CK_IN, CK_OUT)) \
	X(DigestUpdate, (CK_S, CK_IN)) \
	X(DigestKey, (CK_S, CK_OBJECT_HANDLE)) \
	X(DigestFinal, (CK_S, CK_OUT)) \
	X(SignInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(Sign, (CK_S, CK_IN, CK_OUT)) \
	X(SignUpdate, (CK_S, CK_IN)) \
	X(SignFinal, (CK_S, CK_OUT)) \
	X(SignRecoverInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(SignRecover, (CK_S, CK_IN, CK_OUT)) \
	X(VerifyInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(Verify, (CK_S, CK_IN, CK_IN)) \
	X(VerifyUpdate, (CK_S, CK_IN)) \
	X(VerifyFinal, (CK_S, CK_IN)) \
	X(VerifyRecoverInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(VerifyRecover, (CK_S, CK_IN, CK_OUT)) \
	X(DigestEncryptUpdate, (CK_S, CK_IN, CK_OUT)) \
	X(DecryptDigestUpdate, (CK_S, CK_IN, CK_OUT)) \
	X(SignEncryptUpdate, (CK_S, CK_IN, CK_OUT)) \
	X(DecryptVerifyUpdate, (CK_S, CK_IN, CK_OUT)) \
	X(GenerateKey, (CK_S, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *)) \
	X(GenerateKeyPair, (CK_S, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *, CK_OBJECT_HANDLE *)) \
	X(WrapKey, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE, CK_OUT)) \
	X(UnwrapKey, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE, CK_IN, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *)) \
	X(DeriveKey, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *)) \
	X(SeedRandom, (CK_S, CK_IN)) \
	X(GenerateRandom, (CK_S, CK_IN)) \
	X(GetFunctionStatus, (CK_S)) \
	X(CancelFunction, (CK_S)) \
	X(WaitForSlotEvent, (CK_FLAGS, CK_SLOT_ID *, void *))

/* What v3.0 adds at the end of the list. */
#define CK_FUNCTIONS_3(X) \
	X(GetInterfaceList, (CK_INTERFACE *, CK_ULONG *)) \
	X(GetInterface, (CK_UTF8CHAR *, CK_VERSION *, CK_INTERFACE **, CK_FLAGS)) \
	X(LoginUser, (CK_S, CK_USER_TYPE, CK_UTF8CHAR *, CK_ULONG, CK_UTF8CHAR *, CK_ULONG)) \
	X(SessionCancel, (CK_S, CK_FLAGS)) \
	X(MessageEncryptInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(EncryptMessage, (CK_S, void *, CK_ULONG, CK_IN, CK_IN, CK_OUT)) \
	X(EncryptMessageBegin, (CK_S, void *, CK_ULONG, CK_IN)) \
	X(EncryptMessageNext, (CK_S, void *, CK_ULONG, CK_IN, CK_OUT, CK_FLAGS)) \
	X(MessageEncryptFinal, (CK_S)) \
	X(MessageDecryptInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(DecryptMessage, (CK_S, void *, CK_ULONG, CK_IN, CK_IN, CK_OUT)) \
	X(DecryptMessageBegin, (CK_S, void *, CK_ULONG, CK_IN)) \
	X(DecryptMessageNext, (CK_S, void *, CK_ULONG, CK_IN, CK_OUT, CK_FLAGS)) \
	X(MessageDecryptFinal, (CK_S)) \
	X(MessageSignInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(SignMessage, (CK_S, void *, CK_ULONG, CK_IN, CK_OUT)) \
	X(SignMessageBegin, (CK_S, void *, CK_ULONG)) \
	X(SignMessageNext, (CK_S, void *, CK_ULONG, CK_IN, CK_OUT)) \
	X(MessageSignFinal, (CK_S)) \
	X(MessageVerifyInit, (CK_S, CK_MECHANISM *, CK_OBJECT_HANDLE)) \
	X(VerifyMessage, (CK_S, void *, CK_ULONG, CK_IN, CK_IN)) \
	X(VerifyMessageBegin, (CK_S, void *, CK_ULONG)) \
	X(VerifyMessageNext, (CK_S, void *, CK_ULONG, CK_IN, CK_IN)) \
	X(MessageVerifyFinal, (CK_S))

#define CK_POINTER(name, args) CK_RV (*C_##name) args;
#define CK_PROTOTYPE(name, args) CK_RV C_##name args;

struct CK_FUNCTION_LIST {
	CK_VERSION version;
	CK_FUNCTIONS_2(CK_POINTER)
};

typedef struct {
	CK_VERSION version;
	CK_FUNCTIONS_2(CK_POINTER)
	CK_FUNCTIONS_3(CK_POINTER)
} CK_FUNCTION_LIST_3_0;

CK_FUNCTIONS_2(CK_PROTOTYPE)
CK_FUNCTIONS_3(CK_PROTOTYPE)

#include "cknum.h"

#endif
