/* Attributes: between an application's templates, memory and the protocol. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

static enum form form_of(CK_ATTRIBUTE_TYPE type)
{
	switch (type) {
	case CKA_TOKEN: case CKA_PRIVATE: case CKA_TRUSTED: case CKA_SENSITIVE:
	case CKA_ENCRYPT: case CKA_DECRYPT: case CKA_DECRYPT + 1: case CKA_DECRYPT + 2: /* WRAP, UNWRAP */
	case CKA_SIGN: case CKA_SIGN_RECOVER: case CKA_VERIFY: case CKA_VERIFY + 1: case CKA_DERIVE:
	case CKA_EXTRACTABLE: case CKA_LOCAL: case CKA_NEVER_EXTRACTABLE: case CKA_ALWAYS_SENSITIVE:
	case CKA_MODIFIABLE: case CKA_COPYABLE: case CKA_DESTROYABLE: case CKA_ALWAYS_AUTHENTICATE:
	case CKA_WRAP_WITH_TRUSTED: case CKA_RESET_ON_INIT: case CKA_HAS_RESET:
		return FORM_BOOL;
	case CKA_CLASS: case CKA_CERTIFICATE_TYPE: case CKA_CERTIFICATE_CATEGORY: case CKA_JAVA_MIDP_SECURITY_DOMAIN:
	case CKA_NAME_HASH_ALGORITHM: case CKA_KEY_TYPE: case CKA_MODULUS_BITS: case CKA_PRIME_BITS:
	case CKA_SUBPRIME_BITS: case CKA_VALUE_BITS: case CKA_VALUE_LEN: case CKA_KEY_GEN_MECHANISM:
	case CKA_HW_FEATURE_TYPE: case CKA_MECHANISM_TYPE: case CKA_PROFILE_ID:
		return FORM_NUMBER;
	case CKA_ALLOWED_MECHANISMS:
		return FORM_NUMBERS;
	case CKA_WRAP_TEMPLATE: case CKA_UNWRAP_TEMPLATE: case CKA_DERIVE_TEMPLATE:
		return FORM_TEMPLATE;
	default:
		return FORM_BYTES;
	}
}

void attrs_free(struct attrs *a)
{
	for (size_t i = 0; i < a->n; i++) {
		if (a->v[i].v)
			explicit_bzero(a->v[i].v, a->v[i].n);
		free(a->v[i].v);
	}
	free(a->v);
	*a = (struct attrs){0};
}

static bool attr_copy(struct attr *to, CK_ATTRIBUTE_TYPE type, enum form form, const void *v, size_t n)
{
	*to = (struct attr){.type = type, .form = form, .n = n};
	to->v = malloc(n ? n : 1);
	if (!to->v)
		return false;
	if (n)
		memcpy(to->v, v, n);
	return true;
}

static CK_RV from_one(struct attr *to, const CK_ATTRIBUTE *from, int depth);

static CK_RV from_list(struct attrs *to, const CK_ATTRIBUTE *from, CK_ULONG n, int depth)
{
	*to = (struct attrs){0};
	if (n && !from)
		return CKR_ARGUMENTS_BAD;
	if (n > MAX_ATTRS)
		return CKR_ARGUMENTS_BAD;
	to->v = calloc(n ? n : 1, sizeof *to->v);
	if (!to->v)
		return CKR_HOST_MEMORY;
	for (; to->n < n; to->n++) {
		CK_RV rv = from_one(&to->v[to->n], &from[to->n], depth);
		if (rv != CKR_OK) {
			attrs_free(to);
			return rv;
		}
	}
	return CKR_OK;
}

/* A template within a template is kept as the protocol has it. */
static CK_RV from_template(struct attr *to, const CK_ATTRIBUTE *from, int depth)
{
	struct attrs inner;
	struct wbuf w = {0};
	if (depth > 0 || from->ulValueLen % sizeof(CK_ATTRIBUTE))
		return CKR_ATTRIBUTE_VALUE_INVALID;
	CK_RV rv = from_list(&inner, from->pValue, from->ulValueLen / sizeof(CK_ATTRIBUTE), depth + 1);
	if (rv != CKR_OK)
		return rv;
	w_attrs(&w, &inner);
	attrs_free(&inner);
	if (w.bad || !attr_copy(to, from->type, FORM_TEMPLATE, w.p, w.n))
		rv = CKR_HOST_MEMORY;
	w_free(&w);
	return rv;
}

static CK_RV from_one(struct attr *to, const CK_ATTRIBUTE *from, int depth)
{
	enum form form = form_of(from->type);
	CK_ULONG n = from->ulValueLen;
	if (n > MAX_DATA || (n && !from->pValue))
		return CKR_ATTRIBUTE_VALUE_INVALID;
	if ((form == FORM_BOOL && n != sizeof(CK_BBOOL)) || (form == FORM_NUMBER && n != sizeof(CK_ULONG)) ||
	    (form == FORM_NUMBERS && n % sizeof(CK_ULONG)))
		return CKR_ATTRIBUTE_VALUE_INVALID;
	if (form == FORM_TEMPLATE)
		return from_template(to, from, depth);
	return attr_copy(to, from->type, form, from->pValue, n) ? CKR_OK : CKR_HOST_MEMORY;
}

/* attrs_from copies an application's template; wrong sizes are refused. */
CK_RV attrs_from(struct attrs *to, const CK_ATTRIBUTE *from, CK_ULONG n)
{
	return from_list(to, from, n, 0);
}

const struct attr *attrs_get(const struct attrs *a, CK_ATTRIBUTE_TYPE type)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].type == type && a->v[i].form != FORM_WITHHELD)
			return &a->v[i];
	return NULL;
}

bool attrs_bool(const struct attrs *a, CK_ATTRIBUTE_TYPE type, bool absent)
{
	const struct attr *x = attrs_get(a, type);
	return x && x->n == sizeof(CK_BBOOL) ? x->v[0] != CK_FALSE : absent;
}

CK_ULONG attrs_number(const struct attrs *a, CK_ATTRIBUTE_TYPE type, CK_ULONG absent)
{
	const struct attr *x = attrs_get(a, type);
	CK_ULONG v = absent;
	if (x && x->form == FORM_NUMBER)
		memcpy(&v, x->v, sizeof v);
	return v;
}

/* attrs_merge is base with over in place of what both have. */
CK_RV attrs_merge(struct attrs *to, const struct attrs *base, const struct attrs *over)
{
	*to = (struct attrs){.v = calloc(base->n + over->n + 1, sizeof *to->v)};
	if (!to->v)
		return CKR_HOST_MEMORY;
	for (size_t i = 0; i < base->n + over->n; i++) {
		const struct attr *a = i < base->n ? &base->v[i] : &over->v[i - base->n];
		if (i < base->n && attrs_get(over, a->type))
			continue;
		if (!attr_copy(&to->v[to->n], a->type, a->form, a->v, a->n)) {
			attrs_free(to);
			return CKR_HOST_MEMORY;
		}
		to->n++;
	}
	return CKR_OK;
}

bool attrs_match(const struct attrs *a, const struct attrs *pattern)
{
	for (size_t i = 0; i < pattern->n; i++) {
		const struct attr *want = &pattern->v[i], *is = attrs_get(a, want->type);
		if (!is || is->n != want->n || (is->n && memcmp(is->v, want->v, is->n) != 0))
			return false;
	}
	return true;
}

/* How long attribute a is in an application's memory. */
static size_t memory_size(const struct attr *a)
{
	if (a->form != FORM_TEMPLATE)
		return a->n;
	struct rbuf r = {.p = a->v, .n = a->n};
	return r_u32(&r) * sizeof(CK_ATTRIBUTE);
}

static CK_RV answer_one(const struct attr *a, CK_ATTRIBUTE *to);

static CK_RV answer_template(const struct attr *a, CK_ATTRIBUTE *to)
{
	struct rbuf r = {.p = a->v, .n = a->n};
	struct attrs inner;
	if (!r_attrs(&r, &inner))
		return CKR_GENERAL_ERROR;
	CK_RV rv = CKR_OK;
	CK_ATTRIBUTE *v = to->pValue;
	for (size_t i = 0; i < inner.n; i++) {
		v[i].type = inner.v[i].type;
		CK_RV one = answer_one(&inner.v[i], &v[i]);
		if (rv == CKR_OK)
			rv = one;
	}
	attrs_free(&inner);
	return rv;
}

static CK_RV answer_one(const struct attr *a, CK_ATTRIBUTE *to)
{
	CK_ULONG room = to->ulValueLen;
	to->ulValueLen = CK_UNAVAILABLE_INFORMATION;
	if (!a)
		return CKR_ATTRIBUTE_TYPE_INVALID;
	if (a->form == FORM_WITHHELD)
		return CKR_ATTRIBUTE_SENSITIVE;
	size_t n = memory_size(a);
	if (to->pValue && room < n)
		return CKR_BUFFER_TOO_SMALL;
	to->ulValueLen = n;
	if (!to->pValue || !n)
		return CKR_OK;
	if (a->form == FORM_TEMPLATE)
		return answer_template(a, to);
	memcpy(to->pValue, a->v, n);
	return CKR_OK;
}

/* attrs_answer fills an application's template as C_GetAttributeValue does
 * (v2.40, section 5.7): every attribute that can be answered is, whatever the
 * others are; the code is that of the first that could not. */
CK_RV attrs_answer(const struct attrs *a, CK_ATTRIBUTE *to, CK_ULONG n)
{
	CK_RV rv = CKR_OK;
	for (CK_ULONG i = 0; i < n; i++) {
		const struct attr *found = NULL;
		for (size_t k = 0; k < a->n && !found; k++)
			if (a->v[k].type == to[i].type)
				found = &a->v[k];
		CK_RV one = answer_one(found, &to[i]);
		if (rv == CKR_OK)
			rv = one;
	}
	return rv;
}

static void w_numbers(struct wbuf *w, const struct attr *a)
{
	w_u32(w, (uint32_t)a->n);
	for (size_t i = 0; i + sizeof(CK_ULONG) <= a->n; i += sizeof(CK_ULONG)) {
		CK_ULONG v;
		memcpy(&v, a->v + i, sizeof v);
		w_u64(w, v);
	}
}

void w_attrs(struct wbuf *w, const struct attrs *a)
{
	size_t at = w->n;
	uint32_t n = 0;
	w_u32(w, 0);
	for (size_t i = 0; i < a->n; i++) {
		const struct attr *x = &a->v[i];
		CK_ULONG v = 0;
		if (x->form == FORM_WITHHELD)
			continue;
		n++;
		w_u64(w, x->type);
		w_u8(w, x->form);
		switch (x->form) {
		case FORM_BOOL:
			w_u8(w, x->v[0] != CK_FALSE);
			break;
		case FORM_NUMBER:
			memcpy(&v, x->v, sizeof v);
			w_u64(w, v);
			break;
		case FORM_NUMBERS:
			w_numbers(w, x);
			break;
		default:
			w_bytes(w, x->v, x->n);
		}
	}
	w_patch32(w, at, n);
}

static bool r_numbers(struct rbuf *r, struct attr *a)
{
	struct rbuf field = r_bytes(r);
	if (field.bad || field.n % 8)
		return false;
	a->n = field.n;
	a->v = malloc(a->n ? a->n : 1);
	if (!a->v) {
		a->n = 0;
		return false;
	}
	for (size_t i = 0; i < a->n; i += 8) {
		CK_ULONG v = r_u64(&field);
		memcpy(a->v + i, &v, sizeof v);
	}
	return true;
}

static bool r_list(struct rbuf *r, struct attrs *to, int depth);

static bool r_template(struct rbuf *r, struct attr *a, int depth)
{
	struct rbuf field = r_bytes(r), rest = field;
	struct attrs inner;
	if (depth > 0 || !r_list(&rest, &inner, depth + 1))
		return false;
	attrs_free(&inner);
	return !rest.n && attr_copy(a, a->type, FORM_TEMPLATE, field.p, field.n);
}

static bool r_attr(struct rbuf *r, struct attr *a, int depth)
{
	*a = (struct attr){.type = r_u64(r)};
	unsigned form = r_u8(r);
	struct rbuf field;
	CK_ULONG v;
	CK_BBOOL b;
	a->form = (enum form)form;
	switch (form) {
	case FORM_BYTES:
		field = r_bytes(r);
		return !r->bad && attr_copy(a, a->type, FORM_BYTES, field.p, field.n);
	case FORM_BOOL:
		b = (CK_BBOOL)r_u8(r);
		return !r->bad && b <= 1 && attr_copy(a, a->type, FORM_BOOL, &b, sizeof b);
	case FORM_NUMBER:
		v = r_u64(r);
		return !r->bad && attr_copy(a, a->type, FORM_NUMBER, &v, sizeof v);
	case FORM_NUMBERS:
		return r_numbers(r, a);
	case FORM_WITHHELD:
		return !r->bad;
	case FORM_TEMPLATE:
		return r_template(r, a, depth);
	default:
		return false;
	}
}

static bool r_list(struct rbuf *r, struct attrs *to, int depth)
{
	*to = (struct attrs){0};
	uint32_t n = r_u32(r);
	if (r->bad || n > MAX_ATTRS)
		return false;
	to->v = calloc(n ? n : 1, sizeof *to->v);
	if (!to->v)
		return false;
	while (to->n < n) {
		if (!r_attr(r, &to->v[to->n++], depth)) {
			attrs_free(to);
			return false;
		}
	}
	return true;
}

/* r_attrs reads attributes; nothing is left in to if they are not as they must be. */
bool r_attrs(struct rbuf *r, struct attrs *to)
{
	return r_list(r, to, 0);
}
