/* The child of a fork goes on with its parent's sessions, logins and handles,
 * over connections of its own. The handlers take the only lock, which nobody
 * holds for longer than moments, so fork is safe while other threads are within
 * calls. The module is linked with -z nodelete: handlers cannot be taken back. */
#include <unistd.h>

#include "module.h"

static void in_parent(void)
{
	unlock();
}

static void in_child(void)
{
	pthread_mutex_init(&state.lock, NULL);
	state.forked = state.up;
	conns_forked();
	sessions_forked();
	for (struct own *o = state.owns; o; o = o->next)
		o->inherited = true;
}

/* fork_watch registers the handlers once; false: memory ran out. */
bool fork_watch(void)
{
	lock();
	bool done = state.watched;
	state.watched = true;
	unlock();
	if (done || pthread_atfork(lock, in_parent, in_child) == 0)
		return true;
	lock();
	state.watched = false;
	unlock();
	return false;
}
