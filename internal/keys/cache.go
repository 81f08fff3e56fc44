package keys

import (
	"sync"
	"sync/atomic"
)

// maxCached is how many keys are kept loaded. A loaded key is some kilobytes.
const maxCached = 32768

// cache holds loaded keys. Reading takes no lock of a key; loading and
// changing one take the lock of its entry, so that what the cache shows never
// falls behind the store.
//
// Order of locks: entry, then cache.
type cache struct {
	mu      sync.RWMutex
	entries map[keyName]*entry
	max     int
}

// entry is the place of one key in the cache. Whoever locks it and finds it
// dead must look it up again.
type entry struct {
	mu   sync.Mutex
	dead bool // guarded by mu: it is no longer in the cache
	key  atomic.Pointer[key]
}

func newCache(limit int) *cache {
	return &cache{entries: make(map[keyName]*entry), max: limit}
}

// get returns a loaded key, or nil.
func (c *cache) get(n keyName) *key {
	c.mu.RLock()
	e := c.entries[n]
	c.mu.RUnlock()
	if e == nil {
		return nil
	}
	return e.key.Load()
}

// lock returns the locked entry of a key, which may be empty.
func (c *cache) lock(n keyName) *entry {
	for {
		e := c.entry(n)
		e.mu.Lock()
		if !e.dead {
			return e
		}
		e.mu.Unlock()
	}
}

// unlock releases an entry, and forgets it if it is empty: names that do not
// exist must not fill the memory.
func (c *cache) unlock(n keyName, e *entry) {
	if e.key.Load() == nil {
		c.mu.Lock()
		delete(c.entries, n)
		c.mu.Unlock()
		e.dead = true
	}
	e.mu.Unlock()
}

func (c *cache) entry(n keyName) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[n]; e != nil {
		return e
	}
	if len(c.entries) >= c.max {
		c.evict()
	}
	e := new(entry)
	c.entries[n] = e
	return e
}

// evict drops a random entry that nobody works on. Go walks a map in random
// order, which costs less than an exact order of use on each request.
func (c *cache) evict() {
	for n, e := range c.entries {
		if !e.mu.TryLock() {
			continue
		}
		e.dead = true
		e.key.Store(nil)
		delete(c.entries, n)
		e.mu.Unlock()
		return
	}
}

func (c *cache) reset() {
	c.mu.RLock()
	old := make(map[keyName]*entry, len(c.entries))
	for n, e := range c.entries {
		old[n] = e
	}
	c.mu.RUnlock()
	for n, e := range old {
		e.mu.Lock()
		if e.dead {
			e.mu.Unlock()
			continue
		}
		e.key.Store(nil)
		c.unlock(n, e)
	}
}
