/* What the files of the module share.
 *
 * Locking: state.lock guards everything in struct state and what hangs on it. It
 * is held for moments only, never while a byte travels, so that fork() can take
 * it (fork.c) and no thread waits for the network of another. What a call works
 * on while it waits is its own: operations are taken out of their session,
 * objects are counted, and the configuration is copied. */
#ifndef CLAVIGER_MODULE_H
#define CLAVIGER_MODULE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ck.h"

/* --- wire.c: big-endian fields ------------------------------------------- */

enum { MAX_FRAME = 4259840, MAX_DATA = 4 << 20, MAX_TOKEN = 4096, MAX_ATTRS = 256 };

/* A buffer that grows and is wiped when it is let go; bad: memory ran out or a
 * limit was passed, and what was written since is lost. */
struct wbuf { uint8_t *p; size_t n, cap; bool bad; };
void w_raw(struct wbuf *, const void *, size_t);
void w_u8(struct wbuf *, unsigned);
void w_u32(struct wbuf *, uint32_t);
void w_u64(struct wbuf *, uint64_t);
void w_bytes(struct wbuf *, const void *, size_t);
void w_patch32(struct wbuf *, size_t at, uint32_t);
uint8_t *w_room(struct wbuf *, size_t);
void w_free(struct wbuf *);

/* A view of bytes to be read; bad: it ended too early. */
struct rbuf { const uint8_t *p; size_t n; bool bad; };
unsigned r_u8(struct rbuf *);
uint32_t r_u32(struct rbuf *);
uint64_t r_u64(struct rbuf *);
struct rbuf r_bytes(struct rbuf *);

/* --- attr.c: attributes --------------------------------------------------- */

enum form { FORM_BYTES, FORM_BOOL, FORM_NUMBER, FORM_NUMBERS, FORM_WITHHELD, FORM_TEMPLATE };

/* Values lie as PKCS#11 has them in memory; a template as the protocol has it. */
struct attr { CK_ATTRIBUTE_TYPE type; enum form form; size_t n; uint8_t *v; };
struct attrs { size_t n; struct attr *v; };
CK_RV attrs_from(struct attrs *, const CK_ATTRIBUTE *, CK_ULONG);
CK_RV attrs_merge(struct attrs *to, const struct attrs *base, const struct attrs *over);
const struct attr *attrs_get(const struct attrs *, CK_ATTRIBUTE_TYPE);
bool attrs_bool(const struct attrs *, CK_ATTRIBUTE_TYPE, bool absent);
CK_ULONG attrs_number(const struct attrs *, CK_ATTRIBUTE_TYPE, CK_ULONG absent);
bool attrs_match(const struct attrs *, const struct attrs *pattern);
CK_RV attrs_answer(const struct attrs *, CK_ATTRIBUTE *, CK_ULONG);
void attrs_free(struct attrs *);
void w_attrs(struct wbuf *, const struct attrs *);
bool r_attrs(struct rbuf *, struct attrs *);

/* --- mech.c: mechanisms --------------------------------------------------- */

CK_RV w_mechanism(struct wbuf *, const CK_MECHANISM *);

/* --- sha.c, digest.c ------------------------------------------------------- */

enum hash { HASH_NONE, SHA1, SHA224, SHA256, SHA384, SHA512 };
struct sha {
	enum hash hash;
	uint64_t h[8], total;
	uint8_t block[128];
	size_t used;
};
void sha_begin(struct sha *, enum hash);
void sha_add(struct sha *, const void *, size_t);
size_t sha_end(struct sha *, uint8_t out[64]);
size_t sha_size(enum hash);
enum hash hash_of_digest(CK_MECHANISM_TYPE);
enum hash hash_of_signature(CK_MECHANISM_TYPE);
enum hash hash_of_hmac(CK_MECHANISM_TYPE);

/* --- config.c, uri.c ------------------------------------------------------- */

enum { PLACES = 3 };
struct config {
	char places[PLACES][108]; /* sockets, tried in this order; empty: none */
	char pin_file[4096];  /* empty: none */
	char debug[4096];     /* empty: none; "stderr" or a file */
	char label[33];       /* only the slot of this label */
	bool one_slot;        /* only the slot of this number */
	CK_SLOT_ID slot;
	unsigned timeout;     /* milliseconds */
};
/* Why a configuration is refused, for the log. */
struct why { char text[256]; };
void config_defaults(struct config *);
bool config_load(struct config *, struct why *);
bool config_text(struct config *, const char *text, size_t n, struct why *);
bool config_set(struct config *, const char *key, const char *value, struct why *);
bool uri_apply(struct config *, const char *uri, struct why *);
bool refuse(struct why *, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t token_source(char out[MAX_TOKEN + 1]);

/* --- debug.c --------------------------------------------------------------- */

void debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void debug_to(const char *where);

/* --- conn.c, call.c -------------------------------------------------------- */

struct conn {
	struct conn *next, **before, *idle; /* all; the next of those that are idle */
	int fd;
	pid_t pid;
	dev_t dev;
	ino_t ino;
	bool greeted;
	int64_t used; /* when it became idle */
};
/* How an exchange ended. */
enum sent { ANSWERED, NOT_WRITTEN, LOST, LATE, REFUSED };
int64_t now_ms(void);
enum sent conn_exchange(const struct wbuf *request, struct wbuf *answer, int64_t deadline);
void conn_close_idle(void);
void conns_forked(void);

enum op {
	OP_SLOTS = 1, OP_INFO, OP_LOGIN, OP_FIND, OP_GET, OP_SIGN, OP_VERIFY, OP_ENCRYPT, OP_DECRYPT, OP_RANDOM,
	OP_GENERATE, OP_GENERATEPAIR, OP_CREATE, OP_COPY, OP_SET, OP_DESTROY, OP_WRAP, OP_UNWRAP, OP_DERIVE, OP_KEEP
};
/* One question: begin, append the body to req, run, read body, end. */
struct call {
	enum op op;
	unsigned most; /* milliseconds, 0: as configured */
	struct wbuf req, ans;
	struct rbuf body;
};
void call_begin(struct call *, enum op, CK_SLOT_ID);
void call_begin_as(struct call *, enum op, CK_SLOT_ID, const void *token, size_t n);
CK_RV call_run(struct call *);
CK_RV call_ended(struct call *, CK_RV);

/* --- slot.c ---------------------------------------------------------------- */

struct mechanism { CK_MECHANISM_TYPE type; CK_MECHANISM_INFO info; };
struct info {
	uint8_t label[32], maker[32], model[16], serial[16], flags;
	CK_VERSION version;
	size_t n;
	struct mechanism *v;
};
struct slot {
	CK_SLOT_ID id;
	char label[65];
	bool known;           /* info was asked once */
	int64_t asked;        /* when info was asked last */
	struct info info;
	char *token;          /* client token of C_Login, NULL: not logged in */
	size_t token_n;
	int64_t kept;         /* when KEEP was sent last */
};
struct slot *slot_get(CK_SLOT_ID);
CK_RV slot_check(CK_SLOT_ID);
CK_RV slot_may(CK_SLOT_ID);
CK_RV slot_mechanism(CK_SLOT_ID, CK_MECHANISM_TYPE, CK_FLAGS);
void slots_clear(void);
void token_wipe(struct slot *);
bool slot_logout(CK_SLOT_ID);

/* --- object.c, cache.c, own.c ---------------------------------------------- */

/* LOCAL marks the handles of objects that only this process knows. */
#define LOCAL (1UL << 63)

struct object {
	atomic_int refs;
	CK_OBJECT_HANDLE handle;
	CK_SLOT_ID slot;
	struct attrs a;
	int64_t seen;
	struct object *chain, *older; /* cache.c */
};
struct object *object_new(CK_SLOT_ID, CK_OBJECT_HANDLE, struct attrs *);
struct object *object_ref(struct object *);
void object_put(struct object *);
bool r_object(struct rbuf *, CK_SLOT_ID, struct object **);
CK_RV object_get(CK_SLOT_ID, CK_OBJECT_HANDLE, int64_t most_age, struct object **);
void w_key(struct wbuf *, const struct object *);
CK_RV object_adopt(CK_SESSION_HANDLE, struct object *, CK_OBJECT_HANDLE *);
CK_RV template_check(CK_SESSION_HANDLE, const struct attrs *, CK_SLOT_ID *);

struct object *cache_get(CK_SLOT_ID, CK_OBJECT_HANDLE, int64_t not_before);
void cache_add(struct object *);
void cache_drop(CK_SLOT_ID, CK_OBJECT_HANDLE);
void cache_clear(void);

/* An object of a session: local, or kept by the server and destroyed by us. */
struct own {
	struct own *next;
	CK_SESSION_HANDLE session;
	struct object *object;
	bool inherited; /* of the process that forked: it destroys it */
};
bool own_add(CK_SESSION_HANDLE, struct object *);
struct object *own_get(CK_SLOT_ID, CK_OBJECT_HANDLE);
void own_replace(struct object *);
bool own_drop(CK_SLOT_ID, CK_OBJECT_HANDLE);
void own_match(CK_SLOT_ID, const struct attrs *, struct wbuf *handles);
void own_close(CK_SLOT_ID, CK_SESSION_HANDLE);
void own_logout(CK_SLOT_ID);
void own_keep(CK_SLOT_ID);
void own_clear(void);

/* --- session.c ------------------------------------------------------------- */

enum kind { FIND, SIGN, VERIFY, ENCRYPT, DECRYPT, DIGEST, KINDS };

/* An operation that C_…Init began. */
struct opn {
	CK_SLOT_ID slot;
	CK_MECHANISM_TYPE mech;
	struct wbuf mechanism;  /* as the protocol has it */
	struct object *key;
	bool parts;             /* an Update was called */
	bool hashed;            /* data holds the digest of all parts */
	enum hash hash;         /* hashed here */
	struct sha sha;
	struct wbuf data;       /* what Updates gathered */
	size_t size;            /* bytes of the answer, 0: not known */
	bool has_kept;
	struct wbuf kept, asked; /* an answer that did not fit, and its question */
	uint8_t iv[16];         /* chain of streamed AES */
	size_t at, own_end;     /* FIND: next of the handles in data; end of those of this process */
	bool more;              /* FIND: ask again with kept as where to go on */
};
struct session {
	struct session *next;
	CK_SESSION_HANDLE handle;
	CK_SLOT_ID slot;
	CK_FLAGS flags;
	struct opn *ops[KINDS];
};
CK_RV session_slot(CK_SESSION_HANDLE, CK_SLOT_ID *);
CK_RV session_flags(CK_SESSION_HANDLE, CK_SLOT_ID *, CK_FLAGS *);
CK_RV opn_begin(CK_SESSION_HANDLE, enum kind, struct opn **);
CK_RV opn_take(CK_SESSION_HANDLE, enum kind, struct opn **);
void opn_put(CK_SESSION_HANDLE, enum kind, struct opn *);
void opn_drop(CK_SESSION_HANDLE, enum kind, struct opn *);
CK_RV opn_cancel(CK_SESSION_HANDLE, enum kind);
void opn_free(struct opn *);
CK_RV opn_key(struct opn *, const CK_MECHANISM *, CK_OBJECT_HANDLE, CK_FLAGS, CK_ATTRIBUTE_TYPE);
/* A question of an operation: its data, and how long the answer will be: size
 * bytes, exactly or at most; 0 if that is not known. */
struct question {
	enum op op;
	const uint8_t *in;
	size_t n;
	bool digest, exact;
	size_t size;
};
CK_RV opn_ask(struct opn *, const struct question *, const void *signature, size_t n, struct wbuf *answer);
CK_RV opn_answer(struct opn *, const struct question *, CK_BYTE *, CK_ULONG *, bool *over);
size_t key_bytes(const struct object *);
bool session_exists(CK_SESSION_HANDLE);
void sessions_forked(void);
void sessions_clear(void);

/* --- readers of answers, here for the fuzzer too --------------------------- */

CK_RV slots_read(struct rbuf *);
CK_RV info_read(struct rbuf *, struct info *);
CK_RV page_read(struct opn *, struct rbuf *);

/* --- module.c, fork.c ------------------------------------------------------ */

enum { SESSION_BUCKETS = 1024 };
struct state {
	pthread_mutex_t lock;
	bool up, forked, watched;
	struct config config;
	struct conn *conns, *idle;
	int nidle;
	int64_t trimmed;
	struct slot **slots;
	size_t nslots;
	bool asked_slots;
	int64_t slots_asked;
	struct session *sessions[SESSION_BUCKETS];
	CK_SESSION_HANDLE last_session;
	struct own *owns;
};
extern struct state state;
void lock(void);
void unlock(void);
CK_RV up(void);
bool fork_watch(void);

#endif
