/* Objects that the other side told of, with their attributes. A bounded table:
 * the object that was told longest ago goes first. All with the lock held, but
 * for cache_get, cache_add and cache_drop, which take it. */
#include <stdlib.h>

#include "module.h"

enum { BUCKETS = 4096, MOST = 8192 };
static struct object *buckets[BUCKETS];
static struct object *oldest, **newest = &oldest;
static size_t count;

static struct object **bucket(CK_OBJECT_HANDLE h)
{
	return &buckets[(h ^ h >> 17 ^ h >> 43) % BUCKETS];
}

static struct object **find(CK_SLOT_ID slot, CK_OBJECT_HANDLE h)
{
	struct object **at = bucket(h);
	while (*at && ((*at)->handle != h || (*at)->slot != slot))
		at = &(*at)->chain;
	return at;
}

/* Takes what *at points to out of its bucket; it stays in the queue of ages until
 * its turn comes, marked by slot and handle no more. */
static void unchain(struct object **at)
{
	struct object *o = *at;
	*at = o->chain;
	o->chain = o; /* marks: in no bucket */
}

static void drop_oldest(void)
{
	struct object *o = oldest;
	oldest = o->older;
	if (!oldest)
		newest = &oldest;
	count--;
	if (o->chain != o)
		unchain(find(o->slot, o->handle));
	o->chain = o->older = NULL;
	object_put(o);
}

/* cache_get: the object, with a reference, if it was told after not_before. */
struct object *cache_get(CK_SLOT_ID slot, CK_OBJECT_HANDLE h, int64_t not_before)
{
	lock();
	struct object *o = *find(slot, h);
	if (o && o->seen < not_before)
		o = NULL;
	object_ref(o);
	unlock();
	return o;
}

/* cache_add takes a reference of its own, in place of an older object of the handle. */
void cache_add(struct object *o)
{
	lock();
	struct object **at = find(o->slot, o->handle);
	if (*at)
		unchain(at);
	at = bucket(o->handle);
	o->chain = *at;
	*at = object_ref(o);
	*newest = o;
	newest = &o->older;
	if (++count > MOST)
		drop_oldest();
	unlock();
}

void cache_drop(CK_SLOT_ID slot, CK_OBJECT_HANDLE h)
{
	lock();
	struct object **at = find(slot, h);
	if (*at)
		unchain(at);
	unlock();
}

void cache_clear(void)
{
	while (oldest)
		drop_oldest();
}
