package keys

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// maxStale is how many changes an index remembers between two questions. With
// more it is made anew, which costs less than it seems: see p11_build.go.
const maxStale = 20_000

// indexes find the keys and objects of mounts by what PKCS#11 asks for. There is
// one for each mount that was asked about since the server was unsealed.
//
// Whoever changes a record says so with changed, which costs next to nothing;
// the next question reads what was changed.
type indexes struct {
	mu     sync.RWMutex
	mounts map[string]*index
}

// index is that of one mount. Order of locks: mu, then that of a cache entry, then
// staleMu.
type index struct {
	mu      sync.RWMutex
	built   bool
	at      string    // path of the mount at the last question
	keys    []*listed // by name
	objects []*listed // by identifier
	labels  map[string][]*listed
	ids     map[string][]*listed
	records map[string]*listed // by the identity of the key or object
	names   map[place]*listed
	passing int // keys of sessions

	change  atomic.Uint64
	staleMu sync.Mutex
	stale   map[place]struct{}
	flood   bool // more changes than stale holds
}

// place names a key, or an object by its identifier.
type place struct {
	object bool
	name   string
}

// listed is a key or object in an index. It never changes.
type listed struct {
	place
	record  string // key_id, or the identifier of the object
	label   string
	ids     []string // CKA_ID of every version
	class   p11Class // of an object
	certs   bool     // a version has certificates
	session bool
}

func (x *indexes) get(mount string) *index {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.mounts[mount]
}

func (x *indexes) make(mount string) *index {
	if ix := x.get(mount); ix != nil {
		return ix
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if ix := x.mounts[mount]; ix != nil {
		return ix
	}
	ix := &index{stale: map[place]struct{}{}}
	// Small enough for a JSON number, and no caller has seen it before a restart.
	ix.change.Store(1<<32 + rand.Uint64N(1<<51))
	if x.mounts == nil {
		x.mounts = map[string]*index{}
	}
	x.mounts[mount] = ix
	return ix
}

func (x *indexes) drop(mount string) {
	x.mu.Lock()
	delete(x.mounts, mount)
	x.mu.Unlock()
}

func (x *indexes) reset() {
	x.mu.Lock()
	x.mounts = nil
	x.mu.Unlock()
}

// changed says that a key was made, changed or removed. The caller may hold the
// lock of its cache entry.
func (s *Service) changed(n keyName) { s.indexes.note(n.mount, place{name: n.name}) }

func (x *indexes) note(mount string, p place) {
	ix := x.get(mount)
	if ix == nil {
		return
	}
	ix.staleMu.Lock()
	if len(ix.stale) >= maxStale {
		clear(ix.stale)
		ix.flood = true
	}
	ix.stale[p] = struct{}{}
	ix.staleMu.Unlock()
	ix.change.Add(1)
}

// takeStale returns what changed since the last call; all says that it is not
// known what.
func (ix *index) takeStale() (places []place, all bool) {
	ix.staleMu.Lock()
	defer ix.staleMu.Unlock()
	for p := range ix.stale {
		places = append(places, p)
	}
	all = ix.flood
	clear(ix.stale)
	ix.flood = false
	return places, all
}

func (ix *index) giveBack(places []place) {
	ix.staleMu.Lock()
	defer ix.staleMu.Unlock()
	for _, p := range places {
		ix.stale[p] = struct{}{}
	}
}

func (ix *index) fresh() bool {
	ix.staleMu.Lock()
	defer ix.staleMu.Unlock()
	return len(ix.stale) == 0 && !ix.flood
}

// ready returns the index of a mount, with every change that was made before the
// call.
func (s *Service) ready(ctx context.Context, mount, at string) (*index, error) {
	ix := s.indexes.make(mount)
	ix.mu.RLock()
	ok := ix.built && ix.at == at && ix.fresh()
	ix.mu.RUnlock()
	if ok {
		return ix, nil
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.at != at { // policies name the path of the mount: a move changes what they allow
		ix.at = at
		ix.change.Add(1)
	}
	return ix, s.refresh(ctx, mount, ix)
}

func (ix *index) clear() {
	ix.keys, ix.objects, ix.passing = nil, nil, 0
	ix.labels, ix.ids = map[string][]*listed{}, map[string][]*listed{}
	ix.records, ix.names = map[string]*listed{}, map[place]*listed{}
}

// list returns the sorted list that a place is in.
func (ix *index) list(p place) *[]*listed {
	if p.object {
		return &ix.objects
	}
	return &ix.keys
}

func byName(l *listed, name string) int { return cmp.Compare(l.name, name) }

// enter adds an entry to all maps, but not to the sorted lists.
func (ix *index) enter(l *listed) {
	ix.names[l.place], ix.records[l.record] = l, l
	ix.labels[l.label] = append(ix.labels[l.label], l)
	for _, id := range l.ids {
		ix.ids[id] = append(ix.ids[id], l)
	}
	if l.session {
		ix.passing++
	}
}

// set puts what is at a place now, nil for nothing, in the stead of what was.
func (ix *index) set(p place, now *listed) {
	list := ix.list(p)
	at, found := slices.BinarySearchFunc(*list, p.name, byName)
	if old := ix.names[p]; old != nil {
		ix.leave(old)
	}
	switch {
	case now == nil && found:
		*list = slices.Delete(*list, at, at+1)
	case now != nil && found:
		(*list)[at] = now
	case now != nil:
		*list = slices.Insert(*list, at, now)
	}
	if now != nil {
		ix.enter(now)
	}
}

func (ix *index) leave(l *listed) {
	delete(ix.names, l.place)
	if ix.records[l.record] == l {
		delete(ix.records, l.record)
	}
	without(ix.labels, l.label, l)
	for _, id := range l.ids {
		without(ix.ids, id, l)
	}
	if l.session {
		ix.passing--
	}
}

func without(m map[string][]*listed, key string, l *listed) {
	rest := slices.DeleteFunc(m[key], func(o *listed) bool { return o == l })
	if len(rest) == 0 {
		delete(m, key)
		return
	}
	m[key] = rest
}

// sort puts the lists in order after entries were appended.
func (ix *index) sort() {
	for _, list := range []*[]*listed{&ix.keys, &ix.objects} {
		slices.SortFunc(*list, func(a, b *listed) int { return strings.Compare(a.name, b.name) })
	}
}
