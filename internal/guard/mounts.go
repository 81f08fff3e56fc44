package guard

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

const (
	tableMounts = "mounts" // by path with its trailing slash

	defaultTTL api.Seconds = 32 * 24 * 3600
	maxTTL     api.Seconds = 32 * 24 * 3600
)

// mountRecord is a mounted engine.
type mountRecord struct {
	Path        string `json:"-"` // the record's key
	Kind        string `json:"type"`
	Description string `json:"description,omitempty"`
	Accessor    string `json:"accessor"`
	UUID        string `json:"uuid"`
	Created     int64  `json:"created"` // Unix seconds
	// Store is the name that the mount's engine knows it by, "" for Path. It
	// stays when the mount is moved.
	Store string     `json:"store,omitempty"`
	Moved *mountMove `json:"moved,omitempty"` // the last move
	// Settings, Options and what follows are shown as they were given; see
	// api.MountSettings for what has an effect.
	Settings      *api.MountSettings `json:"settings,omitempty"`
	Options       map[string]string  `json:"options,omitempty"`
	Local         bool               `json:"local,omitempty"`
	SealWrap      bool               `json:"seal_wrap,omitempty"`
	EntropyAccess bool               `json:"external_entropy_access,omitempty"`
	// DefaultTTL and MaxTTL are tuned, in seconds; 0 leaves them to the server.
	DefaultTTL int64 `json:"default_ttl,omitempty"`
	MaxTTL     int64 `json:"max_ttl,omitempty"`
	// Removing: it is being unmounted and answers no more, but not everything
	// of it is deleted yet.
	Removing bool `json:"removing,omitempty"`

	version int64 // of the record
	// calls is held by the calls under way, and for ever by whoever unmounts;
	// nil for what can't be unmounted. Later versions of the mount share it.
	calls *sync.RWMutex
}

func newMount(path, kind, description string, now time.Time) *mountRecord {
	return &mountRecord{Path: path, Kind: kind, Description: description,
		Accessor: kind + "_" + strings.ToLower(newText(""))[:8], UUID: uuid.NewString(), Created: now.Unix(),
		version: 1, calls: new(sync.RWMutex)}
}

// wire is the mount as answers show it.
func (m *mountRecord) wire() api.Mount {
	kind := m.Kind
	switch kind {
	case kindSys:
		kind = "system"
	case kindToken:
		kind = "token"
	}
	c := m.config()
	// Unlike its tuning, a mount shows times that were tuned, and 0 for the server's.
	c.DefaultLeaseTTL, c.MaxLeaseTTL = api.Seconds(m.DefaultTTL), api.Seconds(m.MaxTTL)
	return api.Mount{Type: kind, Description: m.Description, Accessor: m.Accessor, UUID: m.UUID,
		Local: m.Local, SealWrap: m.SealWrap, ExternalEntropyAccess: m.EntropyAccess,
		Config: c, Options: m.options(), DeprecationStatus: supported}
}

func (m *mountRecord) options() map[string]string {
	if m.Options == nil {
		return map[string]string{}
	}
	return m.Options
}

// name is what the mount's engine knows it by, with its trailing slash: a part of
// the keys of the engine's records.
func (m *mountRecord) name() string { return cmp.Or(m.Store, m.Path) }

// config is the tuning that counts.
func (m *mountRecord) config() api.MountConfig {
	c := api.MountConfig{DefaultLeaseTTL: api.Seconds(m.DefaultTTL), MaxLeaseTTL: api.Seconds(m.MaxTTL)}
	if m.MaxTTL == 0 {
		c.MaxLeaseTTL = max(maxTTL, c.DefaultLeaseTTL)
	}
	if m.DefaultTTL == 0 {
		c.DefaultLeaseTTL = min(defaultTTL, c.MaxLeaseTTL)
	}
	if m.Kind == kindToken {
		c.TokenType = tokenTypeOfMount
	}
	if m.Settings != nil {
		showSettings(m.Settings, &c)
	}
	return c
}

// builtin are the mounts that are always there, even while sealed.
func builtin() mountTable {
	return mountTable{
		"sys/": {Path: "sys/", Kind: kindSys, Description: "control, policies and mounts",
			Accessor: "system_builtin", UUID: uuid.NewSHA1(uuid.Nil, []byte("claviger sys/")).String()},
		"auth/token/": {Path: "auth/token/", Kind: kindToken, Description: "client tokens",
			Accessor: "auth_token_builtin", UUID: uuid.NewSHA1(uuid.Nil, []byte("claviger auth/token/")).String()},
	}
}

// mounts keeps the mounts: records in the store, and all of them in memory.
type mounts struct {
	store    *store.Sealed
	removing sync.Mutex // held while a mount is removed, taken before write
	write    sync.Mutex // held by changes
	table    atomic.Pointer[mountTable]
}

func loadMounts(ctx context.Context, s *store.Sealed) (*mounts, error) {
	table := builtin()
	items, err := s.List(ctx, tableMounts, "", "", 0)
	if err != nil {
		return nil, fmt.Errorf("reading the mounts: %w", err)
	}
	for _, item := range items {
		m := &mountRecord{Path: item.Key, version: item.Version, calls: new(sync.RWMutex)}
		if err := item.Decode(m); err != nil {
			return nil, fmt.Errorf("reading the mount %q: %w", item.Key, err)
		}
		if isBuiltin(m.Path) {
			m.calls = nil // it can't be unmounted
		}
		table[m.Path] = m
	}
	ms := &mounts{store: s}
	ms.table.Store(&table)
	return ms, nil
}

// create mounts an engine. No mount may lie inside another.
func (ms *mounts) create(ctx context.Context, m *mountRecord) error {
	ms.write.Lock()
	defer ms.write.Unlock()
	table := *ms.table.Load()
	for path := range table {
		if strings.HasPrefix(m.Path, path) || strings.HasPrefix(path, m.Path) {
			return fault.New(fault.Invalid, "path is already in use at %s", path)
		}
	}
	m.Store = table.freeName(m.Path)
	change, err := ms.store.Put(tableMounts, m.Path, 0, m)
	if err != nil {
		return storeFault(err, "mounting at %s", m.Path)
	}
	if err := ms.store.Apply(ctx, change); err != nil {
		return storeFault(err, "mounting at %s", m.Path)
	}
	next := maps.Clone(table)
	next[m.Path] = m
	ms.table.Store(&next)
	return nil
}

// freeName returns "" if a new mount can be named by its path, else a name that
// no mount can have: a mount that was moved away still has the name that is its
// old path.
func (t mountTable) freeName(path string) string {
	for _, m := range t {
		if name := m.name(); strings.HasPrefix(name, path) || strings.HasPrefix(path, name) {
			return "~" + uuid.NewString() + "/" // ~ is not in paths of mounts
		}
	}
	return ""
}

// mountPath checks the path of a new mount and returns it with its slash.
func mountPath(path string) (string, error) {
	path = strings.Trim(path, "/") + "/"
	if len(path) > maxMountPath {
		return "", fault.New(fault.Invalid, "the path of a mount has at most %d bytes", maxMountPath-1)
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		if segment == "" || segment[0] == '.' || strings.ContainsFunc(segment, notInMountPath) {
			return "", fault.New(fault.Invalid,
				"path %q: a mount's path is made of segments of a-z, A-Z, 0-9 and - _ . that do not begin with a dot", path)
		}
	}
	switch first, _, _ := strings.Cut(path, "/"); first {
	case "sys", "auth", "audit", "cubbyhole", "identity":
		return "", fault.New(fault.Invalid, "path %q: mounts below %s/ are reserved", path, first)
	}
	return path, nil
}

func notInMountPath(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
}
