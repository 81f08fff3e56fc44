/* One question to the agent or server: the head of the request, the deadline,
 * and when it may be asked again. */
#include <poll.h>
#include <string.h>

#include "module.h"

/* Places in the request's frame. */
enum { AT_LENGTH = 0, AT_DEADLINE = 5, HEAD = 4 };
enum { FIRST_PAUSE = 2, LONGEST_PAUSE = 50, LEAST_FOR_KEYS = 60000 };

/* An RSA key of 4096 bits takes a token longer than anything else. */
static bool makes_keys(enum op op)
{
	return op == OP_GENERATE || op == OP_GENERATEPAIR || op == OP_CREATE || op == OP_UNWRAP;
}

/* What may have been done once must not be done twice. */
static bool repeatable(enum op op)
{
	return !makes_keys(op) && op != OP_COPY && op != OP_SET;
}

void call_begin_as(struct call *c, enum op op, CK_SLOT_ID slot, const void *token, size_t n)
{
	*c = (struct call){.op = op};
	w_u32(&c->req, 0);
	w_u8(&c->req, op);
	w_u32(&c->req, 0);
	w_u32(&c->req, (uint32_t)slot);
	w_bytes(&c->req, token, n);
}

/* call_begin starts a request with the client token of C_Login, else that of the
 * configured file, else none. */
void call_begin(struct call *c, enum op op, CK_SLOT_ID slot)
{
	char token[MAX_TOKEN + 1];
	size_t n = 0;
	lock();
	struct slot *s = slot_get(slot);
	if (s && s->token && s->token_n) {
		n = s->token_n;
		memcpy(token, s->token, n);
	}
	unlock();
	if (!n)
		n = token_source(token);
	call_begin_as(c, op, slot, token, n);
	explicit_bzero(token, n);
	if (op != OP_KEEP && op != OP_DESTROY)
		own_keep(slot);
}

static int64_t patience(const struct call *c)
{
	lock();
	int64_t ms = state.config.timeout;
	unlock();
	return c->most && c->most < ms ? c->most : ms;
}

static CK_RV read_code(struct call *c)
{
	c->body = (struct rbuf){.p = c->ans.p, .n = c->ans.n};
	CK_RV rv = r_u32(&c->body);
	if (c->body.bad)
		return CKR_DEVICE_ERROR;
	if (rv != CKR_OK) {
		struct rbuf text = r_bytes(&c->body);
		debug("operation %d: answer 0x%lx: %.*s", c->op, rv, (int)text.n, text.n ? (const char *)text.p : "");
	}
	return rv;
}

/* call_run sends the request and waits for its answer, and sends it again over
 * other connections until the deadline: whatever the operation if nothing of it
 * was written, else if it is safe. CKR_DEVICE_ERROR if no answer came. */
CK_RV call_run(struct call *c)
{
	static const char *const ends[] = {"", "nobody listens", "the connection broke", "no answer in time", "refused"};
	int64_t ms = patience(c), reach = now_ms() + ms; /* by then somebody must listen */
	int64_t deadline = makes_keys(c->op) && ms < LEAST_FOR_KEYS ? reach - ms + LEAST_FOR_KEYS : reach;
	int pause = FIRST_PAUSE;
	enum sent end = LATE;
	if (c->req.bad)
		return CKR_HOST_MEMORY;
	if (c->req.n - HEAD > MAX_FRAME)
		return CKR_DATA_LEN_RANGE;
	w_patch32(&c->req, AT_LENGTH, (uint32_t)(c->req.n - HEAD));
	for (bool first = true;; first = false) {
		int64_t left = deadline - now_ms();
		if (left <= 0)
			break;
		w_patch32(&c->req, AT_DEADLINE, (uint32_t)left);
		c->ans.n = 0;
		end = conn_exchange(&c->req, &c->ans, deadline);
		if (end == ANSWERED)
			return read_code(c);
		if (end == LATE || end == REFUSED || (end == LOST && !repeatable(c->op)) || (end == NOT_WRITTEN && now_ms() >= reach))
			break;
		if (end == LOST && first)
			continue;
		poll(NULL, 0, pause < left ? pause : (int)left);
		pause = pause * 2 < LONGEST_PAUSE ? pause * 2 : LONGEST_PAUSE;
	}
	debug("operation %d: %s", c->op, ends[end]);
	return CKR_DEVICE_ERROR;
}

/* call_ended wipes the request and the answer. An answer that had too little or
 * something left over is none: CKR_DEVICE_ERROR. */
CK_RV call_ended(struct call *c, CK_RV rv)
{
	if (rv == CKR_OK && (c->body.bad || c->body.n)) {
		debug("operation %d: the answer is not as it must be", c->op);
		rv = CKR_DEVICE_ERROR;
	}
	w_free(&c->req);
	w_free(&c->ans);
	return rv;
}
