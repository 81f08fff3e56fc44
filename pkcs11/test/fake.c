#include "fake.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct fake *fake;
CK_FUNCTION_LIST *f;

void check_(const char *file, int line, const char *what, unsigned long is, unsigned long want)
{
	if (is == want)
		return;
	fprintf(stderr, "%s:%d: %s is 0x%lx, must be 0x%lx\n", file, line, what, is, want);
	fflush(stderr);
	if (fake && fake->pid > 0)
		kill(fake->pid, SIGKILL);
	_exit(1);
}

static bool take(int fd, void *to, size_t n)
{
	uint8_t *p = to;
	while (n) {
		ssize_t got = recv(fd, p, n, 0);
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static bool give(int fd, const void *from, size_t n)
{
	const uint8_t *p = from;
	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t)sent;
	}
	return true;
}

static const uint8_t p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};

/* Attributes of one object; false: there is none. */
static bool object_attrs(CK_OBJECT_HANDLE h, struct wbuf *w)
{
	CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
	CK_ULONG class, type = CKK_EC, mechanisms[2] = {CKM_ECDSA, CKM_ECDSA_SHA256};
	uint8_t modulus[256];
	char label[32];
	CK_ATTRIBUTE inner[1] = {{CKA_SIGN, &yes, 1}}, v[12] = {{CKA_TOKEN, &yes, 1}};
	CK_ULONG n = 1;
	struct attrs a;
	memset(modulus, 0xC3, sizeof modulus);
	snprintf(label, sizeof label, "object-%lu", h);
	v[n++] = (CK_ATTRIBUTE){CKA_LABEL, label, strlen(label)};
	class = h == EC_PUBLIC ? CKO_PUBLIC_KEY : h <= RSA_PRIVATE ? CKO_PRIVATE_KEY : h < DATA ? CKO_SECRET_KEY : CKO_DATA;
	v[n++] = (CK_ATTRIBUTE){CKA_CLASS, &class, sizeof class};
	switch (h) {
	case EC_PRIVATE: case EC_PUBLIC:
		v[n++] = (CK_ATTRIBUTE){CKA_EC_PARAMS, (void *)(uintptr_t)p256, sizeof p256};
		v[n++] = (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, mechanisms, sizeof mechanisms};
		v[n++] = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, inner, sizeof inner};
		break;
	case RSA_PRIVATE:
		type = CKK_RSA;
		v[n++] = (CK_ATTRIBUTE){CKA_MODULUS, modulus, sizeof modulus};
		v[n++] = (CK_ATTRIBUTE){CKA_DECRYPT, &yes, 1};
		break;
	case AES_KEY: case HMAC_KEY: case ODD_KEY:
		type = h == AES_KEY ? CKK_AES : CKK_GENERIC_SECRET;
		v[n++] = (CK_ATTRIBUTE){CKA_ENCRYPT, h == AES_KEY ? &yes : &no, 1};
		break;
	default:
		if (h < DATA || h >= (CK_OBJECT_HANDLE)DATA + (unsigned)atomic_load(&fake->objects))
			return false;
	}
	if (h < DATA)
		v[n++] = (CK_ATTRIBUTE){CKA_KEY_TYPE, &type, sizeof type};
	if (attrs_from(&a, v, n) != CKR_OK)
		abort();
	size_t at = w->n;
	w_attrs(w, &a);
	if (h < DATA && class == CKO_SECRET_KEY) {
		w_patch32(w, at, (uint32_t)n + 1);
		w_u64(w, CKA_VALUE);
		w_u8(w, FORM_WITHHELD);
	}
	attrs_free(&a);
	return true;
}

static bool matches(CK_OBJECT_HANDLE h, const struct attrs *pattern)
{
	struct wbuf w = {0};
	struct attrs a;
	if (!object_attrs(h, &w))
		return false;
	struct rbuf r = {.p = w.p, .n = w.n};
	bool is = r_attrs(&r, &a) && attrs_match(&a, pattern);
	attrs_free(&a);
	w_free(&w);
	return is;
}

static CK_RV find(struct rbuf *body, struct wbuf *w)
{
	struct attrs pattern;
	if (!r_attrs(body, &pattern))
		return CKR_DATA_INVALID;
	struct rbuf from = r_bytes(body);
	uint32_t most = r_u32(body), n = 0;
	uint64_t next = 1, end = DATA + (unsigned)atomic_load(&fake->objects), last = 0;
	if (from.n)
		next = r_u64(&from);
	size_t at = w->n;
	w_u32(w, 0);
	for (; next < end && n < most; next++)
		if (matches(next, &pattern)) {
			w_u64(w, last = next);
			object_attrs(next, w);
			n++;
		}
	w_patch32(w, at, n);
	if (next < end) {
		w_u32(w, 8);
		w_u64(w, next);
	} else {
		w_u32(w, 0);
	}
	attrs_free(&pattern);
	return CKR_OK;
}

static CK_RV key(struct rbuf *body, uint64_t *h)
{
	struct attrs a;
	*h = r_u64(body);
	if (*h)
		return *h <= ODD_KEY ? CKR_OK : CKR_KEY_HANDLE_INVALID;
	if (!r_attrs(body, &a))
		return CKR_DATA_INVALID;
	attrs_free(&a);
	return CKR_OK;
}

/* "Signs": the flag of the digest, the data's beginning, and filling. */
static size_t signature(uint64_t h, unsigned digest, struct rbuf data, uint8_t *out)
{
	size_t n = h == EC_PRIVATE || h == EC_PUBLIC ? 64 : h == RSA_PRIVATE ? 256 : h == ODD_KEY ? 100 : 32;
	memset(out, 'S', n);
	out[0] = (uint8_t)digest;
	size_t some = data.n < n - 1 ? data.n : n - 1;
	if (some)
		memcpy(out + 1, data.p, some);
	return n;
}

static CK_RV sign(enum op op, struct rbuf *body, struct wbuf *w)
{
	uint64_t h;
	uint8_t s[256];
	CK_RV rv = key(body, &h);
	if (rv != CKR_OK)
		return rv;
	r_u64(body);
	switch (r_u8(body)) {
	case 0: break;
	case 1: r_bytes(body); break;
	case 2: r_u64(body); break;
	case 3: r_u64(body), r_u64(body), r_u64(body); break;
	default: return CKR_MECHANISM_PARAM_INVALID;
	}
	unsigned digest = r_u8(body);
	size_t n = signature(h, digest, r_bytes(body), s);
	if (op == OP_SIGN) {
		w_bytes(w, s, n);
		return CKR_OK;
	}
	struct rbuf given = r_bytes(body);
	return given.n == n && memcmp(given.p, s, n) == 0 ? CKR_OK : CKR_SIGNATURE_INVALID;
}

/* A toy: CBC over a cipher that inverts bits; RSA: 256 bytes, or the first 20. */
static CK_RV encipher(enum op op, struct rbuf *body, struct wbuf *w)
{
	uint64_t h;
	uint8_t iv[16] = {0};
	CK_RV rv = key(body, &h);
	if (rv != CKR_OK)
		return rv;
	uint64_t mech = r_u64(body);
	if (r_u8(body) == 1) {
		struct rbuf given = r_bytes(body);
		memcpy(iv, given.p, given.n < 16 ? given.n : 16);
	}
	struct rbuf in = r_bytes(body);
	if (h == RSA_PRIVATE) {
		uint8_t block[256] = "twenty bytes of plain";
		w_bytes(w, block, op == OP_DECRYPT ? 20 : 256);
		return CKR_OK;
	}
	bool pad = mech == CKM_AES_CBC_PAD, seal = op == OP_ENCRYPT;
	if (in.n % 16 && !(pad && seal))
		return CKR_DATA_LEN_RANGE;
	size_t n = pad && seal ? in.n / 16 * 16 + 16 : in.n;
	uint8_t *out = malloc(n ? n : 1);
	for (size_t i = 0; i < n; i++) {
		uint8_t b = i < in.n ? in.p[i] : (uint8_t)(n - in.n);
		uint8_t chain = i < 16 ? iv[i] : seal ? out[i - 16] : in.p[i - 16];
		out[i] = seal ? (uint8_t)~(b ^ chain) : (uint8_t)(~b ^ chain);
	}
	if (pad && !seal && n)
		n -= out[n - 1] <= 16 ? out[n - 1] : 0;
	w_bytes(w, out, n);
	free(out);
	return CKR_OK;
}

/* Objects that are made: of the token under a handle, or kept for a session; a
 * derived secret is the module's. */
static CK_RV make(enum op op, struct rbuf *body, struct wbuf *w)
{
	struct attrs a, b;
	uint64_t h;
	if (op == OP_DERIVE && key(body, &h) != CKR_OK)
		return CKR_KEY_HANDLE_INVALID;
	if (op == OP_COPY)
		r_u64(body);
	if (op == OP_GENERATE || op == OP_GENERATEPAIR || op == OP_DERIVE) {
		r_u64(body);
		if (r_u8(body) == 6)
			r_u64(body), r_bytes(body), r_bytes(body);
	}
	if (!r_attrs(body, &a))
		return CKR_DATA_INVALID;
	w_u64(w, op == OP_DERIVE ? 0 : 500);
	w_attrs(w, &a);
	attrs_free(&a);
	if (op == OP_GENERATEPAIR) {
		if (!r_attrs(body, &b))
			return CKR_DATA_INVALID;
		w_u64(w, 501);
		w_attrs(w, &b);
		attrs_free(&b);
	}
	return CKR_OK;
}

static void info(struct wbuf *w)
{
	static const struct { CK_ULONG type, flags; } m[] = {
		{CKM_ECDSA, CKF_SIGN | CKF_VERIFY}, {CKM_ECDSA_SHA256, CKF_SIGN | CKF_VERIFY},
		{CKM_RSA_PKCS, CKF_SIGN | CKF_VERIFY | CKF_DECRYPT | CKF_ENCRYPT},
		{CKM_SHA256_RSA_PKCS_PSS, CKF_SIGN}, {CKM_SHA256_HMAC, CKF_SIGN | CKF_VERIFY},
		{CKM_AES_CBC, CKF_ENCRYPT | CKF_DECRYPT}, {CKM_AES_CBC_PAD, CKF_ENCRYPT | CKF_DECRYPT},
		{CKM_ECDH1_DERIVE, CKF_DERIVE}, {0x80000001, CKF_SIGN}, {0x1040, 1UL << 16}, {CKM_SHA256, 0},
	};
	w_bytes(w, "claviger", 8);
	w_bytes(w, "0123456789abcdef", 16);
	w_bytes(w, "Claviger", 8);
	w_bytes(w, "agent", 5);
	w_u8(w, 0);
	w_u8(w, 1);
	w_u8(w, (unsigned)atomic_load(&fake->flags));
	w_u32(w, sizeof m / sizeof m[0]);
	for (size_t i = 0; i < sizeof m / sizeof m[0]; i++) {
		w_u64(w, m[i].type);
		w_u32(w, 128);
		w_u32(w, 4096);
		w_u64(w, m[i].flags);
	}
}

static CK_RV login(struct rbuf token)
{
	if (token.n == 4 && memcmp(token.p, "good", 4) == 0)
		return CKR_OK;
	return token.n == 3 && memcmp(token.p, "old", 3) == 0 ? CKR_PIN_EXPIRED : CKR_PIN_INCORRECT;
}

static CK_RV answer(enum op op, struct rbuf token, struct rbuf *body, struct wbuf *w)
{
	uint64_t h;
	uint32_t n;
	switch (op) {
	case OP_SLOTS:
		w_u32(w, 2);
		w_u32(w, 7);
		w_bytes(w, "claviger", 8);
		w_u32(w, 8);
		w_bytes(w, "other", 5);
		return CKR_OK;
	case OP_INFO:
		info(w);
		return CKR_OK;
	case OP_LOGIN:
		return login(token);
	case OP_FIND:
		return find(body, w);
	case OP_GET:
		w_u64(w, h = r_u64(body));
		return object_attrs(h, w) ? CKR_OK : CKR_OBJECT_HANDLE_INVALID;
	case OP_SIGN: case OP_VERIFY:
		return sign(op, body, w);
	case OP_ENCRYPT: case OP_DECRYPT:
		return encipher(op, body, w);
	case OP_RANDOM:
		n = r_u32(body);
		w_u32(w, n);
		if (n)
			memset(w_room(w, n), 'R', n);
		return CKR_OK;
	case OP_GENERATE: case OP_GENERATEPAIR: case OP_CREATE: case OP_DERIVE: case OP_COPY: case OP_SET:
		return make(op, body, w);
	case OP_DESTROY:
		h = r_u64(body);
		atomic_fetch_add(&fake->destroyed, 1);
		return CKR_OK;
	default:
		return CKR_FUNCTION_NOT_SUPPORTED;
	}
}

/* reply sends the answer in the way of the mode; false: close. */
static bool reply(int fd, struct wbuf *w)
{
	int mode = atomic_load(&fake->mode);
	int cuts = atomic_load(&fake->cut_once);
	while (cuts > 0 && !atomic_compare_exchange_weak(&fake->cut_once, &cuts, cuts - 1))
		;
	if (cuts > 0 || mode == CUT)
		return false;
	switch (mode) {
	case SILENT:
		pause();
		return false;
	case HALF:
		give(fd, w->p, w->n / 2);
		return false;
	case GARBAGE:
		w_u8(w, 1);
		break;
	case TOO_LONG:
		w_patch32(w, 0, MAX_FRAME + 1);
		return give(fd, w->p, w->n);
	case SURPLUS:
		w_patch32(w, 0, (uint32_t)(w->n - 4));
		w_u8(w, 1);
		return give(fd, w->p, w->n);
	case SLOW:
		usleep(50000);
		break;
	}
	w_patch32(w, 0, (uint32_t)(w->n - 4));
	return give(fd, w->p, w->n);
}

static bool serve_one(int fd)
{
	uint8_t head[4];
	struct wbuf in = {0}, out = {0};
	if (!take(fd, head, 4))
		return false;
	struct rbuf r = {.p = head, .n = 4};
	size_t n = r_u32(&r);
	if (n > MAX_FRAME || !take(fd, w_room(&in, n), n))
		return false;
	r = (struct rbuf){.p = in.p, .n = n};
	enum op op = (enum op)r_u8(&r);
	atomic_store(&fake->last_deadline, r_u32(&r));
	r_u32(&r);
	struct rbuf token = r_bytes(&r);
	if (op < 32)
		atomic_fetch_add(&fake->requests[op], 1);
	w_u32(&out, 0);
	w_u32(&out, 0);
	CK_RV rv = answer(op, token, &r, &out);
	if (rv == CKR_OK && (r.bad || r.n))
		rv = CKR_DATA_INVALID;
	if (rv != CKR_OK) {
		out.n = 8;
		w_patch32(&out, 4, (uint32_t)rv);
		w_bytes(&out, "refused by the test", 19);
	}
	bool on = reply(fd, &out);
	w_free(&in);
	w_free(&out);
	return on;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint8_t hello[8];
	atomic_fetch_add(&fake->connections, 1);
	bool on = take(fd, hello, 8);
	hello[5] = atomic_load(&fake->mode) == VERSION ? 2 : 1;
	if (atomic_load(&fake->mode) == SILENT)
		pause();
	on = on && give(fd, hello, 8) && hello[5] == 1;
	while (on && serve_one(fd))
		;
	close(fd);
	atomic_fetch_sub(&fake->connections, 1);
	return NULL;
}

static void run(int listener)
{
	alarm(600); /* whatever becomes of the test */
	for (;;) {
		pthread_t t;
		int fd = accept(listener, NULL, NULL);
		if (fd < 0)
			_exit(0);
		if (pthread_create(&t, NULL, serve, (void *)(intptr_t)fd) == 0)
			pthread_detach(t);
		else
			close(fd);
	}
}

void fake_start(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	strcpy(a.sun_path, fake->path);
	unlink(fake->path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 512))
		abort();
	atomic_store(&fake->connections, 0);
	pid_t pid = fork();
	if (pid == 0)
		run(fd);
	fake->pid = pid; /* by the parent only: the memory is shared */
	close(fd);
}

void fake_stop(void)
{
	kill(fake->pid, SIGKILL);
	waitpid(fake->pid, NULL, 0);
}

void fake_begin(void)
{
	fake = mmap(NULL, sizeof *fake, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fake == MAP_FAILED)
		abort();
	strcpy(fake->dir, "/tmp/claviger-module.XXXXXX");
	if (!mkdtemp(fake->dir))
		abort();
	snprintf(fake->path, sizeof fake->path, "%s/socket", fake->dir);
	atomic_store(&fake->flags, 1);
	atomic_store(&fake->objects, 3);
	setenv("CLAVIGER_PKCS11_SOCKET", fake->path, 1);
	setenv("CLAVIGER_PKCS11_CONF", "/dev/null", 1);
	ok(C_GetFunctionList(&f));
}

void fake_end(void)
{
	fake_stop();
	unlink(fake->path);
	rmdir(fake->dir);
	munmap(fake, sizeof *fake);
}

int fake_count(enum op op)
{
	return atomic_exchange(&fake->requests[op], 0);
}
