package worker

import "github.com/claviger/claviger/internal/token"

// identity names a loaded key. Two blobs of one ID are two keys.
type identity struct {
	from source
	typ  token.Type
	size int
	id   token.ID
	sum  uint64 // of the blob or label
}

// cached is a key that a worker has loaded, in a list from the newest to the oldest.
type cached struct {
	key        identity
	slot       uint32
	prev, next *cached
}

// lru is the server's picture of a worker's table. Its owner locks it.
type lru struct {
	m    map[identity]*cached
	root cached // sentinel
	max  int
	free []uint32
	next uint32
}

func (l *lru) init(limit int) {
	l.m, l.max = map[identity]*cached{}, limit
	l.root.prev, l.root.next = &l.root, &l.root
}

// get returns the entry of a key and makes it the newest, or nil.
func (l *lru) get(k identity) *cached {
	e := l.m[k]
	if e != nil && l.root.next != e {
		e.unlink()
		l.push(e)
	}
	return e
}

// add makes an entry for a key that is not there; the oldest makes room for it
// and is returned.
func (l *lru) add(k identity) (e, dropped *cached) {
	if len(l.m) >= l.max {
		dropped = l.root.prev
		l.remove(dropped)
	}
	e = &cached{key: k}
	if n := len(l.free); n > 0 {
		e.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		e.slot = l.next
		l.next++
	}
	l.m[k] = e
	l.push(e)
	return e, dropped
}

// remove takes an entry out and returns false if it was out already.
func (l *lru) remove(e *cached) bool {
	if l.m[e.key] != e {
		return false
	}
	delete(l.m, e.key)
	e.unlink()
	l.free = append(l.free, e.slot)
	return true
}

func (l *lru) push(e *cached) {
	e.prev, e.next = &l.root, l.root.next
	e.prev.next, e.next.prev = e, e
}

func (e *cached) unlink() { e.prev.next, e.next.prev = e.next, e.prev }
