/* Parameters of mechanisms: those with pointers are laid flat, all others travel
 * as they lie in memory. A new mechanism without pointers needs no new module. */
#include <string.h>

#include "module.h"

enum param { RAW = 1, ULONG, PSS, OAEP, GCM, ECDH, CTR, CCM, EDDSA, STRING, KEY_WRAP };

static enum param param_of(CK_MECHANISM_TYPE m)
{
	switch (m) {
	case CKM_MD5_HMAC_GENERAL: case CKM_SHA_1_HMAC_GENERAL: case CKM_SHA224_HMAC_GENERAL:
	case CKM_SHA256_HMAC_GENERAL: case CKM_SHA384_HMAC_GENERAL: case CKM_SHA512_HMAC_GENERAL:
	case CKM_SHA512_224_HMAC_GENERAL: case CKM_SHA512_256_HMAC_GENERAL: case CKM_AES_MAC_GENERAL:
	case CKM_AES_CMAC_GENERAL: case CKM_EXTRACT_KEY_FROM_KEY: case CKM_CONCATENATE_BASE_AND_KEY:
		return ULONG;
	case CKM_RSA_PKCS_PSS: case CKM_SHA1_RSA_PKCS_PSS: case CKM_SHA224_RSA_PKCS_PSS:
	case CKM_SHA256_RSA_PKCS_PSS: case CKM_SHA384_RSA_PKCS_PSS: case CKM_SHA512_RSA_PKCS_PSS:
	case CKM_SHA3_224_RSA_PKCS_PSS: case CKM_SHA3_256_RSA_PKCS_PSS: case CKM_SHA3_384_RSA_PKCS_PSS:
	case CKM_SHA3_512_RSA_PKCS_PSS:
		return PSS;
	case CKM_RSA_PKCS_OAEP:
		return OAEP;
	case CKM_AES_GCM:
		return GCM;
	case CKM_ECDH1_DERIVE: case CKM_ECDH1_COFACTOR_DERIVE:
		return ECDH;
	case CKM_AES_CTR:
		return CTR;
	case CKM_AES_CCM:
		return CCM;
	case CKM_EDDSA:
		return EDDSA;
	case CKM_AES_ECB_ENCRYPT_DATA: case CKM_DES3_ECB_ENCRYPT_DATA: case CKM_CONCATENATE_BASE_AND_DATA:
	case CKM_CONCATENATE_DATA_AND_BASE: case CKM_XOR_BASE_AND_DATA:
		return STRING;
	case CKM_RSA_AES_KEY_WRAP:
		return KEY_WRAP;
	default:
		return RAW;
	}
}

/* A pointer of a parameter with its length. */
static bool w_field(struct wbuf *w, const void *p, CK_ULONG n)
{
	if ((n && !p) || n > MAX_DATA)
		return false;
	w_bytes(w, p, n);
	return true;
}

static bool w_oaep(struct wbuf *w, const CK_RSA_PKCS_OAEP_PARAMS *p)
{
	w_u64(w, p->hashAlg);
	w_u64(w, p->mgf);
	w_u64(w, p->source);
	return w_field(w, p->pSourceData, p->ulSourceDataLen);
}

static bool w_gcm(struct wbuf *w, const void *param, CK_ULONG n)
{
	CK_GCM_PARAMS p;
	if (n == sizeof(CK_GCM_PARAMS_V230)) {
		CK_GCM_PARAMS_V230 old;
		memcpy(&old, param, sizeof old);
		p = (CK_GCM_PARAMS){old.pIv, old.ulIvLen, old.ulIvLen * 8, old.pAAD, old.ulAADLen, old.ulTagBits};
	} else if (n == sizeof p) {
		memcpy(&p, param, sizeof p);
	} else {
		return false;
	}
	if (!w_field(w, p.pIv, p.ulIvLen))
		return false;
	w_u64(w, p.ulIvBits);
	if (!w_field(w, p.pAAD, p.ulAADLen))
		return false;
	w_u64(w, p.ulTagBits);
	return true;
}

static bool w_ccm(struct wbuf *w, const CK_CCM_PARAMS *p)
{
	w_u64(w, p->ulDataLen);
	if (!w_field(w, p->pNonce, p->ulNonceLen) || !w_field(w, p->pAAD, p->ulAADLen))
		return false;
	w_u64(w, p->ulMACLen);
	return true;
}

static bool w_ecdh(struct wbuf *w, const CK_ECDH1_DERIVE_PARAMS *p)
{
	w_u64(w, p->kdf);
	return w_field(w, p->pSharedData, p->ulSharedDataLen) && w_field(w, p->pPublicData, p->ulPublicDataLen);
}

/* Sizes of the structures, 0 for those of any or of several sizes. */
static size_t param_size(enum param form)
{
	switch (form) {
	case ULONG: return sizeof(CK_ULONG);
	case PSS: return sizeof(CK_RSA_PKCS_PSS_PARAMS);
	case OAEP: return sizeof(CK_RSA_PKCS_OAEP_PARAMS);
	case ECDH: return sizeof(CK_ECDH1_DERIVE_PARAMS);
	case CTR: return sizeof(CK_AES_CTR_PARAMS);
	case CCM: return sizeof(CK_CCM_PARAMS);
	case EDDSA: return sizeof(CK_EDDSA_PARAMS);
	case STRING: return sizeof(CK_KEY_DERIVATION_STRING_DATA);
	case KEY_WRAP: return sizeof(CK_RSA_AES_KEY_WRAP_PARAMS);
	default: return 0;
	}
}

union params {
	CK_ULONG number;
	CK_RSA_PKCS_PSS_PARAMS pss;
	CK_RSA_PKCS_OAEP_PARAMS oaep;
	CK_ECDH1_DERIVE_PARAMS ecdh;
	CK_AES_CTR_PARAMS ctr;
	CK_CCM_PARAMS ccm;
	CK_EDDSA_PARAMS eddsa;
	CK_KEY_DERIVATION_STRING_DATA string;
	CK_RSA_AES_KEY_WRAP_PARAMS wrap;
};

static bool w_struct(struct wbuf *w, enum param form, const union params *p)
{
	switch (form) {
	case ULONG:
		w_u64(w, p->number);
		return true;
	case PSS:
		w_u64(w, p->pss.hashAlg);
		w_u64(w, p->pss.mgf);
		w_u64(w, p->pss.sLen);
		return true;
	case OAEP:
		return w_oaep(w, &p->oaep);
	case ECDH:
		return w_ecdh(w, &p->ecdh);
	case CTR:
		w_u64(w, p->ctr.ulCounterBits);
		return w_field(w, p->ctr.cb, sizeof p->ctr.cb);
	case CCM:
		return w_ccm(w, &p->ccm);
	case EDDSA:
		w_u8(w, p->eddsa.phFlag);
		return w_field(w, p->eddsa.pContextData, p->eddsa.ulContextDataLen);
	case STRING:
		return w_field(w, p->string.pData, p->string.ulLen);
	default:
		w_u64(w, p->wrap.ulAESKeyBits);
		return p->wrap.pOAEPParams && w_oaep(w, p->wrap.pOAEPParams);
	}
}

/* w_mechanism writes a mechanism: its number, the form of its parameter and the
 * parameter. CKR_MECHANISM_PARAM_INVALID if that has not the structure's size, or
 * a length without a pointer. */
CK_RV w_mechanism(struct wbuf *w, const CK_MECHANISM *m)
{
	const void *p = m->pParameter;
	CK_ULONG n = m->ulParameterLen;
	enum param form = param_of(m->mechanism);
	union params v;
	if ((n && !p) || n > MAX_DATA)
		return CKR_MECHANISM_PARAM_INVALID;
	w_u64(w, m->mechanism);
	w_u8(w, n ? form : 0);
	bool ok = true;
	if (!n) {
		/* Without a parameter: the other side knows whether it needs one. */
	} else if (form == RAW) {
		w_bytes(w, p, n);
	} else if (form == GCM) {
		ok = w_gcm(w, p, n);
	} else {
		ok = n == param_size(form);
		if (ok) {
			memcpy(&v, p, n);
			ok = w_struct(w, form, &v);
		}
	}
	if (!ok)
		return CKR_MECHANISM_PARAM_INVALID;
	return w->bad ? CKR_HOST_MEMORY : CKR_OK;
}
