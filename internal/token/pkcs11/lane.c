#include "lane.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	USUAL = 256 << 10,      /* bytes of either buffer */
	KEPT = 4 << 20,         /* larger ones are given back */
	FLUSH_SIZE = 128 << 10, /* answers wait for those behind them up to this size */
	FLUSH_NS = 200 * 1000,  /* and as long */
	ITEM_HEADER = 16,       /* bytes of an item without its data */
	MAX_SLOTS = 1 << 24,
};

typedef struct {
	uint8_t *b;
	size_t cap;
} buffer;

struct cl_lane {
	int fd;
	pthread_mutex_t writing;
	buffer in;
	size_t r, w;  /* in.b[r:w] is unread */
	size_t taken; /* bytes of the frame that was returned last */
	buffer out;
	size_t n;            /* bytes of answers in out */
	struct timespec since; /* when the first of them began */
	struct {
		CK_ULONG key;
		int holds;
	} *table;
	uint32_t slots;
	cl_item *items;
	uint32_t room; /* of items */
};

/* What was secret is overwritten, which the compiler must not leave out. */
static void wipe(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" : : "r"(p) : "memory");
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

cl_lane *cl_lane_new(int fd)
{
	cl_lane *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->fd = fd;
	pthread_mutex_init(&l->writing, NULL);
	l->in = (buffer){malloc(USUAL), USUAL};
	l->out = (buffer){malloc(USUAL), USUAL};
	if (!l->in.b || !l->out.b) {
		free(l->in.b);
		free(l->out.b);
		free(l);
		return NULL;
	}
	return l;
}

void cl_lane_free(cl_lane *l)
{
	wipe(l->in.b, l->in.cap);
	wipe(l->out.b, l->out.cap);
	free(l->in.b);
	free(l->out.b);
	free(l->table);
	free(l->items);
	pthread_mutex_destroy(&l->writing);
	free(l);
}

int cl_lane_set(cl_lane *l, uint32_t slot, int holds, CK_ULONG key)
{
	if (slot >= l->slots) {
		if (!holds)
			return 0;
		if (slot >= MAX_SLOTS)
			return -1;
		uint32_t slots = slot + slot / 2 + 64;
		void *table = realloc(l->table, slots * sizeof *l->table);
		if (!table)
			return -1;
		l->table = table;
		memset(l->table + l->slots, 0, (slots - l->slots) * sizeof *l->table);
		l->slots = slots;
	}
	l->table[slot].holds = holds;
	l->table[slot].key = key;
	return 0;
}

int cl_lane_write(cl_lane *l, const uint8_t *b, size_t n)
{
	int err = 0;
	pthread_mutex_lock(&l->writing);
	while (n) {
		ssize_t k = write(l->fd, b, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			err = errno;
			break;
		}
		b += k;
		n -= (size_t)k;
	}
	pthread_mutex_unlock(&l->writing);
	return err;
}

/* resize moves keep bytes of b at from to new memory. */
static int resize(buffer *b, size_t from, size_t keep, size_t cap)
{
	uint8_t *fresh = malloc(cap);
	if (!fresh)
		return -1;
	memcpy(fresh, b->b + from, keep);
	wipe(b->b, b->cap);
	free(b->b);
	*b = (buffer){fresh, cap};
	return 0;
}

static int flush(cl_lane *l)
{
	if (!l->n)
		return 0;
	int err = cl_lane_write(l, l->out.b, l->n);
	wipe(l->out.b, l->n);
	l->n = 0;
	if (l->out.cap > KEPT) /* without memory the large one stays */
		resize(&l->out, 0, 0, USUAL);
	return err;
}

/* reserve makes room for n more bytes of answers. */
static int reserve(cl_lane *l, size_t n)
{
	if (l->out.cap - l->n >= n)
		return 0;
	return resize(&l->out, 0, l->n, 2 * l->out.cap > l->n + n ? 2 * l->out.cap : l->n + n);
}

/* compact wipes what was read and makes room for a frame of need bytes. */
static int compact(cl_lane *l, size_t need)
{
	size_t left = l->w - l->r;
	if (need > l->in.cap || (l->in.cap > KEPT && need <= USUAL && left < USUAL)) {
		if (resize(&l->in, l->r, left, need > USUAL ? need : USUAL))
			return -1;
	} else if (l->r) {
		memmove(l->in.b, l->in.b + l->r, left);
		wipe(l->in.b + left, l->w - left);
	}
	l->r = 0;
	l->w = left;
	return 0;
}

/* parse reads an operation; offsets of items are into p. *room is the size of all
 * results. The fields are those of appendDo in package worker. */
static int parse(cl_lane *l, const uint8_t *p, size_t len, cl_op *op, uint32_t *n, size_t *room)
{
	if (len < 26)
		return CL_LANE_MALFORMED;
	*op = (cl_op){p[4], p[5], get32(p + 6), get32(p + 10), get32(p + 14), get32(p + 18)};
	*n = get32(p + 22);
	size_t at = 26;
	*room = 0;
	if (op->fn < CL_ENCRYPT || op->fn > CL_DERIVE || op->param > CL_IV || *n > (len - at) / ITEM_HEADER)
		return CL_LANE_MALFORMED;
	if (*n > l->room) {
		cl_item *items = realloc(l->items, *n * sizeof *items);
		if (!items)
			return CL_LANE_MEMORY;
		l->items = items;
		l->room = *n;
	}
	for (uint32_t i = 0; i < *n; i++) {
		if (len - at < ITEM_HEADER)
			return CL_LANE_MALFORMED;
		cl_item it = {.nonce_len = get32(p + at), .aad_len = get32(p + at + 4), .in_len = get32(p + at + 8), .out_cap = get32(p + at + 12)};
		at += ITEM_HEADER;
		uint64_t data = (uint64_t)it.nonce_len + it.aad_len + it.in_len;
		if (data > len - at)
			return CL_LANE_MALFORMED;
		it.nonce = (uint32_t)at;
		it.aad = it.nonce + it.nonce_len;
		it.in = it.aad + it.aad_len;
		at += data;
		it.out = (uint32_t)*room + CL_RESULT_HEADER;
		*room += CL_RESULT_HEADER + (size_t)it.out_cap;
		if (*room > CL_FRAME_MAX / 2)
			return CL_LANE_MALFORMED;
		l->items[i] = it;
	}
	return at == len ? CL_LANE_FRAME : CL_LANE_MALFORMED;
}

/* results completes an answer at out, where the module wrote each item's output
 * behind room for its header, and returns its length. */
static size_t results(const cl_item *items, uint32_t n, uint8_t *out)
{
	size_t at = 0;
	for (uint32_t i = 0; i < n; i++) {
		const cl_item *it = &items[i];
		memmove(out + at + CL_RESULT_HEADER, out + it->out, it->out_len);
		put32(out + at, it->rv);
		put32(out + at + 4, it->at);
		put32(out + at + 8, it->out_len);
		at += CL_RESULT_HEADER + (size_t)it->out_len;
	}
	return at;
}

/* operate performs a frame and adds its answer to out. If it returns anything but
 * CL_LANE_FRAME, there is no answer. */
static int operate(cl_lane *l, CK_FUNCTION_LIST *f, CK_ULONG s, cl_frame *frame)
{
	cl_op op;
	uint32_t n;
	size_t room;
	int err = parse(l, frame->payload, frame->len, &op, &n, &room);
	if (err)
		return err;
	frame->slot = get32(frame->payload);
	frame->fn = op.fn;
	if (frame->slot >= l->slots || !l->table[frame->slot].holds)
		return CL_LANE_EMPTY;
	const size_t head = CL_FRAME_HEADER + 1 + 4; /* with a status and the number of results */
	if (reserve(l, head + room))
		return CL_LANE_MEMORY;
	if (!l->n)
		clock_gettime(CLOCK_MONOTONIC, &l->since);
	uint8_t *out = l->out.b + l->n;
	cl_batch(f, s, l->table[frame->slot].key, &op, frame->payload, out + head, l->items, n);
	for (uint32_t i = 0; i < n; i++) {
		if (cl_stops(&l->items[i]) || !l->items[i].done) {
			wipe(out, head + room);
			frame->at = l->items[i].at;
			frame->code = l->items[i].rv;
			return CL_LANE_STOPPED;
		}
	}
	size_t len = head + results(l->items, n, out + head);
	wipe(out + len, head + room - len);
	put32(out, (uint32_t)len - 4);
	out[4] = CL_FRAME_DO | CL_FRAME_ANSWER;
	put32(out + 5, frame->seq);
	out[9] = 0; /* it went well */
	put32(out + 10, n);
	l->n += len;
	return CL_LANE_FRAME;
}

/* due tells whether answers are to wait no longer for those behind them. */
static int due(const cl_lane *l)
{
	if (l->n > FLUSH_SIZE)
		return 1;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - l->since.tv_sec) * 1000000000LL + (now.tv_nsec - l->since.tv_nsec) > FLUSH_NS;
}

/* receive reads more bytes, of a frame that takes need. */
static int receive(cl_lane *l, size_t need, cl_frame *frame)
{
	if (compact(l, need))
		return CL_LANE_MEMORY;
	for (;;) {
		ssize_t k = read(l->fd, l->in.b + l->w, l->in.cap - l->w);
		if (k > 0) {
			l->w += (size_t)k;
			return CL_LANE_FRAME;
		}
		if (!k)
			return CL_LANE_END;
		if (errno != EINTR) {
			frame->code = (uint32_t)errno;
			return CL_LANE_ERROR;
		}
	}
}

/* whole returns the bytes of the first frame in the buffer, or 0 if it is not
 * complete; *need is then what it takes, or 0 if its length is impossible. */
static size_t whole(const cl_lane *l, size_t *need)
{
	size_t have = l->w - l->r;
	*need = CL_FRAME_HEADER;
	if (have < CL_FRAME_HEADER)
		return 0;
	uint32_t n = get32(l->in.b + l->r);
	*need = n < CL_FRAME_HEADER - 4 || n > CL_FRAME_MAX ? 0 : (size_t)n + 4;
	return *need && have >= *need ? *need : 0;
}

int cl_lane_next(cl_lane *l, CK_FUNCTION_LIST *f, CK_ULONG s, int again, cl_frame *frame)
{
	if (!again)
		l->r += l->taken;
	l->taken = 0;
	for (;;) {
		memset(frame, 0, sizeof *frame);
		size_t need, len = whole(l, &need);
		if (!need) {
			frame->code = get32(l->in.b + l->r);
			return CL_LANE_LENGTH;
		}
		int rv = CL_LANE_FRAME;
		if (len) {
			uint8_t *p = l->in.b + l->r;
			*frame = (cl_frame){.payload = p + CL_FRAME_HEADER, .len = len - CL_FRAME_HEADER, .kind = p[4], .seq = get32(p + 5)};
			if (frame->kind == CL_FRAME_DO && !(rv = operate(l, f, s, frame))) {
				l->r += len;
				if (!due(l))
					continue;
				len = 0;
			}
		}
		int err = flush(l);
		if (err) {
			frame->code = (uint32_t)err;
			return CL_LANE_ERROR;
		}
		if (len) {
			l->taken = len;
			return rv;
		}
		if (!whole(l, &need) && need && (rv = receive(l, need, frame)))
			return rv;
	}
}
