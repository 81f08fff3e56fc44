#ifndef CLAVIGER_LANE_H
#define CLAVIGER_LANE_H

#include <stddef.h>

#include "pkcs11.h"

/* A lane is a stream socket on which operations are asked for. It answers them
 * itself, without a way through Go: a thread that changes between Go and a module
 * for every operation is watched, woken and moved by Go's scheduler, which costs
 * more than many an operation. The frames are described in frame.go. */

enum { CL_FRAME_HEADER = 9, CL_FRAME_MAX = 80 << 20, CL_FRAME_DO = 6, CL_FRAME_ANSWER = 0x80, CL_RESULT_HEADER = 12 };

/* What cl_lane_next returns with. */
enum {
	CL_LANE_FRAME = 0,     /* another frame than an operation */
	CL_LANE_MALFORMED = 1, /* an operation that is none */
	CL_LANE_EMPTY = 2,     /* an operation with a slot that holds no key */
	CL_LANE_STOPPED = 3,   /* an operation whose failure is not its own alone */
	CL_LANE_END = 4,       /* the other side has closed the socket */
	CL_LANE_ERROR = 5,     /* the socket failed: code is errno */
	CL_LANE_LENGTH = 6,    /* a frame of an impossible length, code */
	CL_LANE_MEMORY = 7,    /* there is no memory */
};

typedef struct cl_lane cl_lane;

/* A frame. Its payload is valid until the next call. */
typedef struct {
	uint8_t *payload;
	uint64_t len;
	uint32_t kind, seq;
	uint32_t slot, fn, at, code; /* of an operation, as far as it was read */
} cl_frame;

cl_lane *cl_lane_new(int fd);
void cl_lane_free(cl_lane *l); /* the socket stays open */
/* Makes slot hold key, or nothing. Returns 0, or -1 without memory. */
int cl_lane_set(cl_lane *l, uint32_t slot, int holds, CK_ULONG key);
/* Answers operations in session s until something else comes, which it returns.
 * again: the frame that it returned last is to be performed once more. */
int cl_lane_next(cl_lane *l, CK_FUNCTION_LIST *f, CK_ULONG s, int again, cl_frame *out);
/* Writes whole frames, beside a thread in cl_lane_next. Returns 0, or errno. */
int cl_lane_write(cl_lane *l, const uint8_t *b, size_t n);

#endif
