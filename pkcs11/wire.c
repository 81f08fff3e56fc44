/* Fields of the protocol, written and read. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

/* w_room makes room for n more bytes and returns where they go, or NULL. Growing
 * copies by hand: realloc would leave secrets behind in freed memory. */
uint8_t *w_room(struct wbuf *w, size_t n)
{
	if (w->bad || n > 2 * (size_t)MAX_FRAME - w->n) {
		w->bad = true;
		return NULL;
	}
	if (w->n + n > w->cap) {
		size_t cap = w->cap ? w->cap : 256;
		while (cap < w->n + n)
			cap *= 2;
		uint8_t *p = malloc(cap);
		if (!p) {
			w->bad = true;
			return NULL;
		}
		if (w->n)
			memcpy(p, w->p, w->n);
		if (w->p)
			explicit_bzero(w->p, w->cap);
		free(w->p);
		w->p = p;
		w->cap = cap;
	}
	w->n += n;
	return w->p + w->n - n;
}

void w_raw(struct wbuf *w, const void *p, size_t n)
{
	uint8_t *to = n ? w_room(w, n) : NULL;
	if (to)
		memcpy(to, p, n);
}

static void put(uint8_t *to, uint64_t v, size_t n)
{
	while (n--) {
		to[n] = (uint8_t)v;
		v >>= 8;
	}
}

static void w_number(struct wbuf *w, uint64_t v, size_t n)
{
	uint8_t *to = w_room(w, n);
	if (to)
		put(to, v, n);
}

void w_u8(struct wbuf *w, unsigned v) { w_number(w, v, 1); }
void w_u32(struct wbuf *w, uint32_t v) { w_number(w, v, 4); }
void w_u64(struct wbuf *w, uint64_t v) { w_number(w, v, 8); }

void w_bytes(struct wbuf *w, const void *p, size_t n)
{
	if (n > MAX_FRAME) {
		w->bad = true;
		return;
	}
	w_u32(w, (uint32_t)n);
	w_raw(w, p, n);
}

void w_patch32(struct wbuf *w, size_t at, uint32_t v)
{
	if (!w->bad)
		put(w->p + at, v, 4);
}

void w_free(struct wbuf *w)
{
	if (w->p)
		explicit_bzero(w->p, w->cap);
	free(w->p);
	*w = (struct wbuf){0};
}

static uint64_t r_number(struct rbuf *r, size_t n)
{
	if (r->bad || r->n < n) {
		r->bad = true;
		return 0;
	}
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v = v << 8 | r->p[i];
	r->p += n;
	r->n -= n;
	return v;
}

unsigned r_u8(struct rbuf *r) { return (unsigned)r_number(r, 1); }
uint32_t r_u32(struct rbuf *r) { return (uint32_t)r_number(r, 4); }
uint64_t r_u64(struct rbuf *r) { return r_number(r, 8); }

/* r_bytes is a view of the field's bytes, empty if there are not as many. */
struct rbuf r_bytes(struct rbuf *r)
{
	size_t n = r_u32(r);
	if (r->bad || r->n < n) {
		r->bad = true;
		return (struct rbuf){.bad = true};
	}
	struct rbuf field = {.p = r->p, .n = n};
	r->p += n;
	r->n -= n;
	return field;
}
