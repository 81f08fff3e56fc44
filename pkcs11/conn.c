/* Connections to the agent or server: a pool from which a thread takes an idle
 * one or opens another. Sockets are non-blocking and every wait has a deadline. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "module.h"

enum { MOST_IDLE = 256, IDLE_FOR = 60000, TRIM_EACH = 10000, HELLO = 8, CHUNK = 4096 };
static const uint8_t hello[HELLO] = {'C', 'L', 'V', 'P', 0, 1, 0, 0};

int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Programs close descriptors that are not theirs and open others under the same
 * numbers; what is not our socket any more must be left alone. */
static bool is_ours(const struct conn *c)
{
	struct stat s;
	return c->fd >= 0 && fstat(c->fd, &s) == 0 && S_ISSOCK(s.st_mode) && s.st_dev == c->dev && s.st_ino == c->ino;
}

/* With the lock held, so that no fork finds a descriptor that is in no list. */
static void conn_free(struct conn *c)
{
	*c->before = c->next;
	if (c->next)
		c->next->before = c->before;
	if (is_ours(c))
		close(c->fd);
	free(c);
}

/* With the lock held: an idle connection, the one that was used last, or NULL. */
static struct conn *idle_pop(void)
{
	struct conn *c = state.idle;
	if (c) {
		state.idle = c->idle;
		state.nidle--;
	}
	return c;
}

static void conn_drop(struct conn *c)
{
	lock();
	conn_free(c);
	unlock();
}

/* conns_forked: the connections are the parent's. */
void conns_forked(void)
{
	while (state.conns)
		conn_free(state.conns);
	state.idle = NULL;
	state.nidle = 0;
}

void conn_close_idle(void)
{
	struct conn *c;
	lock();
	while ((c = idle_pop()) != NULL)
		conn_free(c);
	unlock();
}

/* With the lock held: closes what was needed for a while and is not any more. The
 * stack has what was used last on top. */
static void trim(int64_t now)
{
	struct conn **at = &state.idle;
	if (now - state.trimmed < TRIM_EACH)
		return;
	state.trimmed = now;
	while (*at && now - (*at)->used < IDLE_FOR)
		at = &(*at)->idle;
	for (struct conn *c = *at, *below; c; c = below) {
		below = c->idle;
		conn_free(c);
		state.nidle--;
	}
	*at = NULL;
}

static void conn_back(struct conn *c)
{
	c->used = now_ms();
	lock();
	trim(c->used);
	if (!state.up || state.nidle >= MOST_IDLE) {
		conn_free(c);
	} else {
		c->idle = state.idle;
		state.idle = c;
		state.nidle++;
	}
	unlock();
}

/* An idle connection that the other side has not closed, or NULL. */
static struct conn *conn_idle(void)
{
	for (;;) {
		uint8_t byte;
		lock();
		struct conn *c = idle_pop();
		unlock();
		if (!c)
			return NULL;
		if (is_ours(c) && c->pid == getpid() && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
		    (errno == EAGAIN || errno == EWOULDBLOCK))
			return c;
		conn_drop(c);
	}
}

static struct conn *conn_new(void)
{
	struct stat s;
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	lock();
	c->pid = getpid();
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd >= 0 && fstat(c->fd, &s) == 0) {
		c->dev = s.st_dev;
		c->ino = s.st_ino;
	}
	c->next = state.conns;
	c->before = &state.conns;
	if (c->next)
		c->next->before = &c->next;
	state.conns = c;
	unlock();
	return c;
}

/* The nth place where the agent or the server may listen; false behind the last. */
static bool place(int n, char path[108])
{
	if (n == PLACES)
		return false;
	lock();
	memcpy(path, state.config.places[n], 108);
	unlock();
	return true;
}

/* conn_open connects to the first place that accepts. NOT_WRITTEN: nobody listens
 * now, or too many wait; REFUSED: waiting would not help. */
static enum sent conn_open(struct conn **to)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	enum sent end = NOT_WRITTEN;
	for (int i = 0; place(i, a.sun_path); i++) {
		if (!a.sun_path[0])
			continue;
		struct conn *c = conn_new();
		if (!c)
			return REFUSED;
		if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&a, sizeof a) == 0) {
			*to = c;
			return ANSWERED;
		}
		int error = errno;
		conn_drop(c);
		debug("%s: %s", a.sun_path, strerror(error));
		if (error != ENOENT && error != ECONNREFUSED && error != EAGAIN && error != EINTR)
			end = REFUSED;
	}
	return end;
}

/* wait_for: false if the deadline passed. An error of the socket counts as ready,
 * the next call tells it. */
static bool wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = events};
	for (;;) {
		int64_t left = deadline - now_ms();
		if (left <= 0)
			return false;
		int n = poll(&p, 1, left > 1000000 ? 1000000 : (int)left);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return true;
	}
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK;
}

/* conn_send writes the hello, if that is due, and the request. */
static enum sent conn_send(struct conn *c, const struct wbuf *request, int64_t deadline)
{
	size_t first = c->greeted ? 0 : HELLO, done = 0, all = first + request->n;
	while (done < all) {
		struct iovec v[2];
		size_t from = done < first ? done : first, body = done < first ? 0 : done - first;
		v[0] = (struct iovec){(void *)(uintptr_t)(hello + HELLO - first + from), first - from};
		v[1] = (struct iovec){request->p + body, request->n - body};
		struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
		ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			done += (size_t)n;
		else if (would_block()) {
			if (!wait_for(c->fd, POLLOUT, deadline))
				return LATE;
		} else if (errno != EINTR)
			return done > first ? LOST : NOT_WRITTEN;
	}
	return ANSWERED;
}

/* conn_more reads until the answer has n bytes. */
static enum sent conn_more(struct conn *c, struct wbuf *answer, size_t n, int64_t deadline)
{
	while (answer->n < n) {
		size_t room = n - answer->n < CHUNK ? CHUNK : n - answer->n, had = answer->n;
		uint8_t *p = w_room(answer, room);
		if (!p)
			return REFUSED;
		ssize_t got = recv(c->fd, p, room, MSG_DONTWAIT);
		answer->n = had + (got > 0 ? (size_t)got : 0);
		if (got > 0)
			continue;
		if (got == 0)
			return LOST;
		if (would_block()) {
			if (!wait_for(c->fd, POLLIN, deadline))
				return LATE;
		} else if (errno != EINTR)
			return LOST;
	}
	return ANSWERED;
}

/* conn_receive reads one frame, after the other side's hello if that is due, and
 * leaves only what follows the length. */
static enum sent conn_receive(struct conn *c, struct wbuf *answer, int64_t deadline)
{
	size_t first = c->greeted ? 0 : HELLO;
	enum sent end;
	if (first) {
		if ((end = conn_more(c, answer, HELLO, deadline)) != ANSWERED)
			return end;
		if (memcmp(answer->p, hello, HELLO) != 0) {
			debug("the other side does not speak version 1 of the protocol");
			return REFUSED;
		}
		c->greeted = true;
	}
	if ((end = conn_more(c, answer, first + 4, deadline)) != ANSWERED)
		return end;
	struct rbuf r = {.p = answer->p + first, .n = 4};
	size_t length = r_u32(&r);
	if (length > MAX_FRAME)
		return REFUSED;
	if ((end = conn_more(c, answer, first + 4 + length, deadline)) != ANSWERED)
		return end;
	if (answer->n != first + 4 + length)
		return REFUSED;
	memmove(answer->p, answer->p + first + 4, length);
	answer->n = length;
	return ANSWERED;
}

/* conn_exchange sends a whole request and reads its answer, once. */
enum sent conn_exchange(const struct wbuf *request, struct wbuf *answer, int64_t deadline)
{
	struct conn *c = conn_idle();
	enum sent end = c ? ANSWERED : conn_open(&c);
	if (end != ANSWERED)
		return end;
	end = conn_send(c, request, deadline);
	if (end == ANSWERED)
		end = conn_receive(c, answer, deadline);
	if (end == ANSWERED)
		conn_back(c);
	else
		conn_drop(c);
	return end;
}
