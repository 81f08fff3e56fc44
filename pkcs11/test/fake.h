/* A server for tests: it speaks the protocol over a Unix socket from a process of
 * its own, so that it can be stopped and killed, and misbehaves when told to. */
#ifndef CLAVIGER_FAKE_H
#define CLAVIGER_FAKE_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "module.h"

enum mode { NORMAL, SILENT, CUT, HALF, GARBAGE, VERSION, TOO_LONG, SURPLUS, SLOW };

/* Shared with the server's process. */
struct fake {
	atomic_int mode, flags, requests[32], connections, keep_count;
	atomic_int objects;       /* how many data objects there are */
	atomic_int cut_once;      /* cut the next so many requests */
	atomic_int destroyed;
	atomic_ulong last_deadline;
	char dir[64], path[108];
	pid_t pid;
};
extern struct fake *fake;

enum { EC_PRIVATE = 1, EC_PUBLIC, RSA_PRIVATE, AES_KEY, HMAC_KEY, ODD_KEY, DATA = 1000 };

void fake_begin(void);            /* makes the directory and sets the environment */
void fake_start(void);
void fake_stop(void);             /* kills it */
void fake_end(void);
int fake_count(enum op);
extern CK_FUNCTION_LIST *f;       /* the module's functions */

/* check ends the test with the place and the values if is is not want. */
void check_(const char *file, int line, const char *what, unsigned long is, unsigned long want);
#define check(is, want) check_(__FILE__, __LINE__, #is, (unsigned long)(is), (unsigned long)(want))
#define ok(is) check(is, CKR_OK)

#endif
