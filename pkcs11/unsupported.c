/* Functions of the standard that this module does not offer: each says so. The
 * prototypes are those of the header; no argument is looked at. */
#include "module.h"

/* NOT_OFFERED defines a function of the given parameters. v2.40 section 5.1.5:
 * CKR_CRYPTOKI_NOT_INITIALIZED comes before all other answers. */
#define NOT_OFFERED(name, ...) \
	CK_RV C_##name(__VA_ARGS__) \
	{ \
		CK_RV rv = up(); \
		return rv == CKR_OK ? CKR_FUNCTION_NOT_SUPPORTED : rv; \
	}

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define S CK_SESSION_HANDLE s
#define KEY CK_OBJECT_HANDLE key
#define MECH CK_MECHANISM *m
#define IN CK_BYTE *in, CK_ULONG in_n
#define IN2 CK_BYTE *in2, CK_ULONG in2_n
#define OUT CK_BYTE *out, CK_ULONG *out_n
#define PARAM void *p, CK_ULONG p_n

NOT_OFFERED(InitToken, CK_SLOT_ID slot, CK_UTF8CHAR *pin, CK_ULONG n, CK_UTF8CHAR *label)
NOT_OFFERED(InitPIN, S, IN)
NOT_OFFERED(SetPIN, S, IN, IN2)
NOT_OFFERED(GetOperationState, S, OUT)
NOT_OFFERED(SetOperationState, S, IN, KEY, CK_OBJECT_HANDLE other)
NOT_OFFERED(SignRecoverInit, S, MECH, KEY)
NOT_OFFERED(SignRecover, S, IN, OUT)
NOT_OFFERED(VerifyRecoverInit, S, MECH, KEY)
NOT_OFFERED(VerifyRecover, S, IN, OUT)
NOT_OFFERED(DigestEncryptUpdate, S, IN, OUT)
NOT_OFFERED(DecryptDigestUpdate, S, IN, OUT)
NOT_OFFERED(SignEncryptUpdate, S, IN, OUT)
NOT_OFFERED(DecryptVerifyUpdate, S, IN, OUT)

NOT_OFFERED(MessageEncryptInit, S, MECH, KEY)
NOT_OFFERED(EncryptMessage, S, PARAM, IN, IN2, OUT)
NOT_OFFERED(EncryptMessageBegin, S, PARAM, IN)
NOT_OFFERED(EncryptMessageNext, S, PARAM, IN, OUT, CK_FLAGS flags)
NOT_OFFERED(MessageEncryptFinal, S)
NOT_OFFERED(MessageDecryptInit, S, MECH, KEY)
NOT_OFFERED(DecryptMessage, S, PARAM, IN, IN2, OUT)
NOT_OFFERED(DecryptMessageBegin, S, PARAM, IN)
NOT_OFFERED(DecryptMessageNext, S, PARAM, IN, OUT, CK_FLAGS flags)
NOT_OFFERED(MessageDecryptFinal, S)
NOT_OFFERED(MessageSignInit, S, MECH, KEY)
NOT_OFFERED(SignMessage, S, PARAM, IN, OUT)
NOT_OFFERED(SignMessageBegin, S, PARAM)
NOT_OFFERED(SignMessageNext, S, PARAM, IN, OUT)
NOT_OFFERED(MessageSignFinal, S)
NOT_OFFERED(MessageVerifyInit, S, MECH, KEY)
NOT_OFFERED(VerifyMessage, S, PARAM, IN, IN2)
NOT_OFFERED(VerifyMessageBegin, S, PARAM)
NOT_OFFERED(VerifyMessageNext, S, PARAM, IN, IN2)
NOT_OFFERED(MessageVerifyFinal, S)

/* The random numbers of the other side take no seed. */
CK_RV C_SeedRandom(CK_SESSION_HANDLE h, CK_BYTE *seed, CK_ULONG n)
{
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	return rv == CKR_OK ? CKR_RANDOM_SEED_NOT_SUPPORTED : rv;
}

/* Leftovers of version 1 (section 5.15): nothing runs in parallel. */
CK_RV C_GetFunctionStatus(CK_SESSION_HANDLE h)
{
	CK_SLOT_ID slot;
	CK_RV rv = session_slot(h, &slot);
	return rv == CKR_OK ? CKR_FUNCTION_NOT_PARALLEL : rv;
}

CK_RV C_CancelFunction(CK_SESSION_HANDLE h)
{
	return C_GetFunctionStatus(h);
}

/* Tokens are never put in or taken out. */
CK_RV C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
	CK_RV rv = up();
	if (rv != CKR_OK)
		return rv;
	return flags & CKF_DONT_BLOCK ? CKR_NO_EVENT : CKR_FUNCTION_NOT_SUPPORTED;
}
