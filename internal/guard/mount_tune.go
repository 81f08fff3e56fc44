package guard

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

func (g *Guard) mountTuneOperations() []*op.Operation {
	meta := func(name, path string, verb op.Verb, help string) op.Meta {
		return op.Meta{Name: "sys.mount." + name, Mount: kindSys, Path: "mounts/{path...}" + path, Verb: verb, Help: help}
	}
	read := meta("tuning", "/tune", op.Read, "Show the tuning of a mount.")
	read.TopLevel = true
	return []*op.Operation{
		op.Define(meta("delete", "", op.Delete, "Unmount an engine; all its keys are deleted for ever, those too whose rules forbid deletion."), g.deleteMount),
		op.Define(read, g.readTuning),
		op.Define(meta("tune", "/tune", op.Write, "Change the description, the lease times and other settings of a mount."), g.tuneMount),
	}
}

// enter keeps the mount from being removed while the call is under way. It
// returns false if it is being removed.
func (c *call) enter(m *mountRecord) bool {
	switch {
	case m.Removing:
		return false
	case m.calls == nil:
		return true
	case !m.calls.TryRLock():
		return false
	}
	c.inMount = m.calls
	return true
}

func (c *call) leave() {
	if c.inMount != nil {
		c.inMount.RUnlock()
		c.inMount = nil
	}
}

func (g *Guard) deleteMount(ctx context.Context, _ *op.Call, req *api.MountPath) (*api.Empty, error) {
	path := strings.TrimSuffix(req.Path, "/") + "/"
	if isBuiltin(path) {
		return nil, fault.New(fault.Invalid, "cannot unmount %q", path)
	}
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	return nil, l.mounts.remove(ctx, path, g.unmount)
}

func isBuiltin(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first == "sys" || first == "auth"
}

// remove unmounts an engine. The mount answers no more from its first durable
// step on; its path is free after the last. A mount that does not exist is
// removed already.
func (ms *mounts) remove(ctx context.Context, path string, empty func(ctx context.Context, kind, mount string) error) error {
	ms.removing.Lock()
	defer ms.removing.Unlock()
	m := (*ms.table.Load())[path]
	if m == nil {
		return nil
	}
	if !m.Removing {
		m.calls.Lock() // waits for calls under way; they have deadlines
		err := ms.replace(ctx, path, func(m *mountRecord) { m.Removing = true })
		if err != nil {
			m.calls.Unlock()
			return storeFault(err, "unmounting %s", path)
		}
	}
	if err := empty(ctx, m.Kind, m.name()); err != nil {
		return unfinished(err, path)
	}
	ms.write.Lock()
	defer ms.write.Unlock()
	next := maps.Clone(*ms.table.Load())
	if err := ms.store.Apply(ctx, ms.store.Remove(tableMounts, path, next[path].version)); err != nil {
		return unfinished(err, path)
	}
	delete(next, path)
	ms.table.Store(&next)
	return nil
}

// unfinished says that the mount is closed, but not gone.
func unfinished(err error, path string) error {
	return (&fault.Error{Kind: fault.Unavailable, Err: err,
		Msg: "the mount " + path + " answers no more, but not everything of it is deleted yet"}).
		WithHint("unmount it again, which goes on where this ended")
}

// replace changes the record of a mount, and the mount.
func (ms *mounts) replace(ctx context.Context, path string, change func(*mountRecord)) error {
	ms.write.Lock()
	defer ms.write.Unlock()
	next := maps.Clone(*ms.table.Load())
	m := *next[path]
	change(&m)
	put, err := ms.store.Put(tableMounts, path, m.version, &m)
	if err != nil {
		return err
	}
	if err := ms.store.Apply(ctx, put); err != nil {
		return err
	}
	m.version++
	next[path] = &m
	ms.table.Store(&next)
	return nil
}

func (g *Guard) readTuning(_ context.Context, _ *op.Call, req *api.MountPath) (*api.MountTuning, error) {
	return g.tuningOf(strings.TrimSuffix(req.Path, "/") + "/")
}

func (g *Guard) tuningOf(path string) (*api.MountTuning, error) {
	l, err := g.open()
	if err != nil {
		return nil, err
	}
	m := (*l.mounts.table.Load())[path]
	if m == nil {
		return nil, fault.New(fault.Invalid, "cannot fetch sysview for path %q", path).
			WithHint("there is no mount at this path; sys/mounts and sys/auth list those that there are")
	}
	return &api.MountTuning{Description: m.Description, Options: m.Options, MountConfig: m.config()}, nil
}

func (g *Guard) tuneMount(ctx context.Context, c *op.Call, req *api.TuneMount) (*api.Empty, error) {
	return nil, g.tune(ctx, c, strings.TrimSuffix(req.Path, "/")+"/", req)
}

// tune changes what the request says of the mount at path.
func (g *Guard) tune(ctx context.Context, c *op.Call, path string, req *api.TuneMount) error {
	if path == "sys/" {
		return fault.New(fault.Invalid, "cannot tune %q", path)
	}
	byDefault, err := leaseTTL("default_lease_ttl", req.DefaultLeaseTTL)
	if err != nil {
		return err
	}
	longest, err := leaseTTL("max_lease_ttl", req.MaxLeaseTTL)
	if err != nil {
		return err
	}
	if err := checkSettings(&req.MountSettings); err != nil {
		return err
	}
	l, err := g.open()
	if err != nil {
		return err
	}
	err = l.mounts.tune(ctx, path, func(m *mountRecord) error {
		if req.Description != nil {
			m.Description = *req.Description
		}
		if err := m.addOptions(req.Options); err != nil {
			return err
		}
		m.set(&req.MountSettings)
		return m.setTTL(byDefault, longest)
	})
	if err == nil {
		warnWithoutEffect(c, settingsWithoutEffect(&req.MountSettings, len(req.Options) > 0))
	}
	return err
}

// setTTL sets the lease times that are not nil.
func (m *mountRecord) setTTL(byDefault, longest *int64) error {
	if byDefault != nil {
		m.DefaultTTL = *byDefault
	}
	if longest != nil {
		m.MaxTTL = *longest
	}
	if m.MaxTTL != 0 && m.MaxTTL < m.DefaultTTL {
		return fault.New(fault.Invalid, "backend max lease TTL of %d would be less than backend default lease TTL of %d",
			m.MaxTTL, m.DefaultTTL)
	}
	return nil
}

// tune makes a change that may be refused.
func (ms *mounts) tune(ctx context.Context, path string, change func(*mountRecord) error) error {
	ms.removing.Lock()
	defer ms.removing.Unlock()
	m := (*ms.table.Load())[path]
	if m == nil || m.Removing {
		return fault.New(fault.Invalid, "tune of path %q failed: no mount entry found", path)
	}
	tuned := *m
	if err := change(&tuned); err != nil {
		return err
	}
	err := ms.replace(ctx, path, func(m *mountRecord) { *m = tuned })
	return storeFault(err, "tuning %s", path)
}

// leaseTTL reads a time as tuning has it: nil if it is to stay as it is, 0 for
// the server's.
func leaseTTL(field, text string) (*int64, error) {
	switch text {
	case "":
		return nil, nil
	case "system":
		return new(int64), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		var d time.Duration
		if days, ok := strings.CutSuffix(text, "d"); ok {
			n, err = strconv.ParseInt(days, 10, 32)
			n *= 24 * 60 * 60
		} else if d, err = time.ParseDuration(text); d%time.Second != 0 {
			err = strconv.ErrSyntax
		} else {
			n = int64(d / time.Second)
		}
	}
	if err != nil || n < 0 || n > int64(maxDuration) {
		return nil, fault.New(fault.Invalid, "%s: %.40q is neither \"system\" nor a time from 0 to %d seconds, such as 3600 or \"1h\"",
			field, text, maxDuration)
	}
	return &n, nil
}
