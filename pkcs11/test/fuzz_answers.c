/* libFuzzer: every reader of what the other side answers. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Attributes that were read are written the same again, and answer templates. */
static void attributes(struct rbuf r)
{
	struct attrs a, b;
	struct wbuf w = {0}, again = {0};
	uint8_t out[64];
	if (!r_attrs(&r, &a))
		return;
	w_attrs(&w, &a);
	struct rbuf back = {.p = w.p, .n = w.n};
	if (!r_attrs(&back, &b) || back.n)
		abort();
	w_attrs(&again, &b);
	if (again.n != w.n || memcmp(again.p, w.p, w.n) != 0)
		abort();
	attrs_match(&a, &b);
	for (size_t i = 0; i < a.n; i++) {
		CK_ATTRIBUTE q[2] = {{a.v[i].type, NULL, 0}, {a.v[i].type, out, i % sizeof out}};
		attrs_answer(&a, &q[0], 1);
		if (a.v[i].form != FORM_TEMPLATE)
			attrs_answer(&a, &q[1], 1);
		attrs_number(&a, a.v[i].type, 0);
		attrs_bool(&a, a.v[i].type, false);
	}
	struct object key = {.a = a};
	key_bytes(&key);
	attrs_free(&a);
	attrs_free(&b);
	w_free(&w);
	w_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct rbuf r = {.p = data + 1, .n = n - 1};
	struct info in = {0};
	struct opn *o;
	if (!n)
		return -1;
	switch (data[0] % 4) {
	case 0:
		slots_read(&r);
		lock();
		slots_clear();
		unlock();
		break;
	case 1:
		info_read(&r, &in);
		free(in.v);
		break;
	case 2:
		o = calloc(1, sizeof *o);
		page_read(o, &r);
		opn_free(o);
		lock();
		cache_clear();
		unlock();
		break;
	default:
		attributes(r);
	}
	return 0;
}
