/* Servers that are killed, stopped, wrong or slow; forks in every state; threads. */
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake.h"

/* The deadline in milliseconds; longer where programs run slowly, as in valgrind. */
static long deadline = 2000;
static CK_SESSION_HANDLE s;
static CK_MECHANISM ecdsa = {CKM_ECDSA, NULL, 0};
static atomic_bool stop;
static atomic_long done;

static CK_RV sign_with(CK_SESSION_HANDLE h, unsigned long what)
{
	CK_BYTE data[8], sig[64];
	CK_ULONG n = sizeof sig;
	memcpy(data, &what, sizeof data);
	CK_RV rv = f->C_SignInit(h, &ecdsa, EC_PRIVATE);
	if (rv == CKR_OK)
		rv = f->C_Sign(h, data, sizeof data, sig, &n);
	if (rv == CKR_OK && (n != 64 || memcmp(sig + 1, data, sizeof data) != 0))
		rv = CKR_SIGNATURE_INVALID; /* the answer of another question */
	return rv;
}

static CK_RV sign(void)
{
	static unsigned long count;
	return sign_with(s, ++count);
}

static CK_SESSION_HANDLE session(void)
{
	CK_SESSION_HANDLE h;
	ok(f->C_OpenSession(7, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &h));
	return h;
}

/* within checks that a call that fails does so at its deadline. */
static void within(CK_RV want, long least, long most)
{
	int64_t start = now_ms();
	check(sign(), want);
	long took = (long)(now_ms() - start);
	if (took < least || took > most)
		check_(__FILE__, __LINE__, "milliseconds", (unsigned long)took, (unsigned long)most);
}

static void *later(void *mode)
{
	usleep(400000);
	if (mode)
		kill(fake->pid, SIGCONT);
	else
		fake_start();
	return NULL;
}

/* A server that was restarted, is away for a while, or for good. */
static void restarts(void)
{
	pthread_t t;
	ok(sign());
	for (int i = 0; i < 5; i++) {
		fake_stop();
		fake_start();
		ok(sign());
	}
	fake_stop();
	pthread_create(&t, NULL, later, NULL);
	within(CKR_OK, 300, deadline);
	pthread_join(t, NULL);
	fake_stop();
	within(CKR_DEVICE_ERROR, deadline - 100, 2 * deadline);
	CK_MECHANISM pair = {0x1040, NULL, 0};
	CK_OBJECT_HANDLE h;
	int64_t start = now_ms();
	check(f->C_GenerateKey(s, &pair, NULL, 0, &h), CKR_DEVICE_ERROR);
	check(now_ms() - start < 2 * deadline, true); /* keys may take a minute, but not to reach nobody */
	unlink(fake->path);
	within(CKR_DEVICE_ERROR, deadline - 100, 2 * deadline);
	fake_start();
	ok(sign());
}

static void stopped(void)
{
	pthread_t t;
	kill(fake->pid, SIGSTOP);
	waitpid(fake->pid, NULL, WUNTRACED); /* it may be running still when kill returns */
	within(CKR_DEVICE_ERROR, deadline - 100, 2 * deadline);
	pthread_create(&t, NULL, later, (void *)1);
	within(CKR_OK, 0, deadline);
	pthread_join(t, NULL);
	ok(sign());
}

/* What can be asked again is; what cannot is reported. */
static void cuts(void)
{
	CK_MECHANISM pair = {0x1040, NULL, 0};
	CK_BBOOL no = 0;
	CK_ATTRIBUTE v = {CKA_TOKEN, &no, 1};
	CK_OBJECT_HANDLE h;
	ok(sign());
	atomic_store(&fake->cut_once, 3);
	fake_count(OP_SIGN);
	ok(sign());
	check(fake_count(OP_SIGN), 4);
	atomic_store(&fake->cut_once, 1);
	fake_count(OP_GENERATE);
	check(f->C_GenerateKey(s, &pair, &v, 1, &h), CKR_DEVICE_ERROR);
	check(fake_count(OP_GENERATE), 1);
	ok(f->C_GenerateKey(s, &pair, &v, 1, &h));
	ok(f->C_DestroyObject(s, h));
	fake_stop(); /* a connection that broke before anything was written is no reason */
	fake_start();
	ok(f->C_GenerateKey(s, &pair, &v, 1, &h));
	ok(f->C_DestroyObject(s, h));
}

static void modes(void)
{
	static const enum mode wrong[] = {CUT, HALF, GARBAGE, VERSION, TOO_LONG, SURPLUS};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		atomic_store(&fake->mode, wrong[i]);
		if (wrong[i] == VERSION) { /* counts for new connections only */
			fake_stop();
			fake_start();
		}
		check(sign(), CKR_DEVICE_ERROR);
		atomic_store(&fake->mode, NORMAL);
		ok(sign());
	}
	atomic_store(&fake->mode, SILENT);
	within(CKR_DEVICE_ERROR, deadline - 100, 2 * deadline);
	atomic_store(&fake->mode, NORMAL);
	ok(sign());
}

/* Our descriptors are closed behind our back, and other sockets take their numbers. */
static void closed(void)
{
	int files[40];
	struct stat before[40], after;
	ok(sign());
	for (int fd = 3; fd < 40; fd++)
		close(fd);
	for (int i = 0; i < 40; i++) {
		files[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		check(fstat(files[i], &before[i]), 0);
	}
	ok(sign());
	fake_stop();
	fake_start();
	ok(sign());
	for (int i = 0; i < 40; i++) { /* nobody else closed them */
		check(fstat(files[i], &after), 0);
		check(after.st_ino, before[i].st_ino);
		close(files[i]);
	}
}

static void *signer(void *arg)
{
	CK_SESSION_HANDLE h = session();
	unsigned long n = (unsigned long)(uintptr_t)arg << 32;
	for (int i = 0; i < 50 || (!arg && !atomic_load(&stop)); i++) {
		ok(sign_with(h, ++n));
		atomic_fetch_add(&done, 1);
	}
	ok(f->C_CloseSession(h));
	return NULL;
}

static void threads(void)
{
	pthread_t t[64];
	for (uintptr_t i = 0; i < 64; i++)
		check(pthread_create(&t[i], NULL, signer, (void *)(i + 1)), 0);
	for (int i = 0; i < 64; i++)
		pthread_join(t[i], NULL);
	check(atomic_load(&fake->connections) <= 65, true);

	/* What was needed then, and for a minute not again, is closed. */
	lock();
	for (struct conn *c = state.idle; c; c = c->idle)
		c->used -= 100000;
	state.trimmed -= 100000;
	unlock();
	ok(sign());
	check(state.nidle, 1);
}

static int sockets(void)
{
	int n = 0;
	struct stat st;
	for (int fd = 3; fd < 1024; fd++)
		n += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	return n;
}

static void ends_well(pid_t child)
{
	int status;
	waitpid(child, &status, 0);
	check(status, 0);
}

/* The child goes on: same sessions, login and handles, no C_Initialize. */
static void fork_simple(void)
{
	ok(f->C_Login(s, CKU_USER, (CK_BYTE *)(uintptr_t)"good", 4));
	CK_OBJECT_HANDLE own;
	CK_OBJECT_CLASS class = CKO_SECRET_KEY;
	CK_ATTRIBUTE v = {CKA_CLASS, &class, sizeof class};
	CK_BBOOL no = 0;
	CK_ATTRIBUTE kept[2] = {v, {CKA_TOKEN, &no, 1}};
	ok(f->C_CreateObject(s, kept, 2, &own));
	ok(f->C_SignInit(s, &ecdsa, EC_PRIVATE));
	fake_count(OP_DESTROY);
	pid_t child = fork();
	if (child == 0) {
		CK_BYTE sig[64];
		CK_ULONG n = sizeof sig;
		CK_SESSION_INFO info;
		ok(f->C_Sign(s, sig, 4, sig, &n)); /* begun by the parent */
		ok(sign());
		ok(f->C_GetSessionInfo(s, &info));
		check(info.state, CKS_RW_USER_FUNCTIONS);
		ok(f->C_Initialize(NULL));
		check(f->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
		ok(sign());
		pid_t grandchild = fork();
		if (grandchild == 0) {
			ok(sign());
			ok(f->C_Finalize(NULL));
			ok(f->C_Initialize(NULL));
			s = session();
			ok(sign());
			_exit(0);
		}
		ends_well(grandchild);
		ok(f->C_Finalize(NULL));
		_exit(0);
	}
	ends_well(child);
	check(fake_count(OP_DESTROY), 0); /* the parent's object is the parent's */
	ok(f->C_SignInit(s, NULL, 0));
	ok(sign());
	ok(f->C_DestroyObject(s, own));
	ok(f->C_Logout(s));
}

/* Forks while other threads are within calls; parent and child both sign. */
static void fork_busy(void)
{
	pthread_t t[4];
	atomic_store(&stop, false);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, signer, NULL);
	for (int i = 0; i < 60; i++) {
		pid_t child = fork();
		if (child == 0) {
			check(sockets(), 0); /* none of the parent's connections */
			for (int k = 0; k < 5; k++)
				ok(sign());
			/* What other threads had is lost in the child; valgrind shall not look for it. */
			execl("/bin/true", "true", (char *)NULL);
		}
		ok(sign());
		ends_well(child);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

static void *one_signature(void *arg)
{
	ok(sign_with(*(CK_SESSION_HANDLE *)arg, 1));
	return NULL;
}

/* The child uses the session that a thread of the parent is using just then. */
static void fork_within(void)
{
	pthread_t t;
	CK_SESSION_HANDLE h = session();
	atomic_store(&fake->mode, SLOW);
	pthread_create(&t, NULL, one_signature, &h);
	usleep(10000);
	pid_t child = fork();
	if (child == 0) {
		ok(sign_with(h, 2));
		execl("/bin/true", "true", (char *)NULL);
	}
	pthread_join(t, NULL);
	ends_well(child);
	atomic_store(&fake->mode, NORMAL);
	ok(f->C_CloseSession(h));
}

/* A program that is started has none of our connections; posix_spawn calls no
 * handlers of fork. */
static void spawn(void)
{
	static const char script[] = "for f in /proc/$$/fd/*; do case $f in */[012]) ;; *) "
		"case $(readlink $f) in socket:*) exit 1;; esac;; esac; done";
	char *const arguments[] = {(char *)(uintptr_t)"sh", (char *)(uintptr_t)"-c", (char *)(uintptr_t)script, NULL};
	pid_t child;
	ok(sign());
	check(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ), 0);
	ends_well(child);
}

static void *finalizer(void *arg)
{
	CK_SESSION_HANDLE h;
	(void)arg;
	for (int i = 0; i < 200; i++) {
		CK_RV rv = f->C_OpenSession(7, CKF_SERIAL_SESSION, NULL, NULL, &h);
		rv = rv == CKR_OK ? sign_with(h, (unsigned long)i) : rv;
		if (rv != CKR_OK && rv != CKR_CRYPTOKI_NOT_INITIALIZED && rv != CKR_SESSION_HANDLE_INVALID)
			check(rv, CKR_OK);
	}
	return NULL;
}

/* C_Finalize with calls under way. */
static void finalize(void)
{
	pthread_t t[8];
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, finalizer, NULL);
	for (int i = 0; i < 50; i++) {
		ok(f->C_Finalize(NULL));
		ok(f->C_Initialize(NULL));
		usleep(2000);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	s = session();
	ok(sign());
}

static void *closer(void *arg)
{
	(void)arg;
	usleep(5000);
	ok(f->C_CloseAllSessions(7));
	return NULL;
}

static void close_within(void)
{
	pthread_t t;
	atomic_store(&fake->mode, SLOW);
	ok(f->C_SignInit(s, &ecdsa, EC_PRIVATE));
	pthread_create(&t, NULL, closer, NULL);
	CK_BYTE sig[64];
	CK_ULONG n = sizeof sig;
	ok(f->C_Sign(s, sig, 4, sig, &n)); /* it was asked in time */
	pthread_join(t, NULL);
	atomic_store(&fake->mode, NORMAL);
	check(sign(), CKR_SESSION_HANDLE_INVALID);
	s = session();
	ok(sign());
}

int main(void)
{
	fake_begin();
	char timeout[24];
	const char *slow = getenv("CLAVIGER_TEST_SLOW");
	deadline *= slow ? 4 : 1;
	snprintf(timeout, sizeof timeout, "%ld", deadline);
	setenv("CLAVIGER_PKCS11_TIMEOUT", timeout, 1);
	fake_start();
	ok(f->C_Initialize(NULL));
	s = session();
	restarts();
	stopped();
	cuts();
	modes();
	closed();
	threads();
	fork_simple();
#ifndef __SANITIZE_ADDRESS__ /* its allocator's locks stay locked in the child of a process with threads */
	fork_busy();
	fork_within();
#else
	(void)fork_busy;
	(void)fork_within;
#endif
	spawn();
	finalize();
	close_within();
	ok(f->C_Finalize(NULL));
	fake_end();
	return 0;
}
