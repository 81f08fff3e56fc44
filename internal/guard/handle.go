package guard

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/google/uuid"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const (
	msgSealed = "Vault is sealed"
	msgDenied = "permission denied"
)

var errDenied = fault.New(fault.Denied, msgDenied)

// call is one pass through the door.
type call struct {
	guard    *Guard
	req      *Request
	id       string
	path     string // canonical
	loaded   *loaded
	match    match
	recorder Recorder
	entry    *entry // of the caller, nil for public operations
	op       op.Call
	limits   *limits // of the rule that allows the call, nil if there are none
	lastUse  bool
	event    Event
	inMount  *sync.RWMutex // held for reading while the call is under way
	wrapping string        // text of the wrapping token that the call opens
	task     *task         // of the server itself, nil for a caller's
}

// Handle finds the operation, checks the caller, records the intent, performs,
// records the outcome.
//
// Errors are *fault.Error with what the caller may know; any other error of a
// service is logged here and reaches the caller as an internal one. Whatever
// happens before the intent is recorded is a refusal: nothing was done.
func (g *Guard) Handle(ctx context.Context, req *Request) (*Answer, error) {
	return g.pass(ctx, req, nil)
}

func (g *Guard) pass(ctx context.Context, req *Request, t *task) (answer *Answer, err error) {
	c := &call{guard: g, req: req, path: canonical(req.Path), op: op.Call{Time: g.now()}, task: t}
	if req.Help {
		c.path = kindSys + "/" + HelpPath + "/" + c.path
	}
	defer func() {
		if r := recover(); r != nil {
			answer, err = nil, c.panicked(r)
		}
		c.leave()
		if c.lastUse {
			c.revokeUsed(ctx)
		}
		g.observe(c.name(), fault.KindOf(err), err == nil, g.now().Sub(c.op.Time))
	}()
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("making a request ID: %w", err)
	}
	c.id = id.String()
	return c.handle(ctx)
}

func (c *call) handle(ctx context.Context) (*Answer, error) {
	if err := c.route(ctx); err != nil {
		return nil, c.report(err)
	}
	o, request, err := c.admit(ctx)
	if err != nil {
		return nil, c.refuse(o, request, err)
	}
	if o.Audit != op.AuditNone {
		if err := c.record(EventRequest, request, nil); err != nil {
			return nil, c.report(unrecorded(err, "the audit record can't be written, so the operation was not performed"))
		}
	}
	data, err := c.invoke(ctx, o, request)
	if err == nil && c.req.WrapTTL > 0 {
		data, err = c.wrap(ctx, o, data)
	}
	if err = c.report(err); o.Audit == op.AuditFull || o.Audit == op.AuditIntent && err != nil {
		if rerr := c.record(EventResponse, data, err); rerr != nil {
			c.guard.log.Error("operation performed, but its outcome could not be recorded",
				"request_id", c.id, "operation", o.Name, "ok", err == nil, "error", rerr)
			return nil, unrecorded(rerr, "the operation was performed, but its audit record can't be written: its answer is withheld")
		}
	}
	if err != nil {
		return nil, err
	}
	return &Answer{RequestID: c.id, Op: &o.Meta, Data: data, Warnings: c.op.Warnings}, nil
}

// route finds the operation, as far as the state of the seal allows.
func (c *call) route(ctx context.Context) error {
	initialized, sealed := c.guard.state()
	sealed = sealed || !initialized
	if len(c.path) > maxPath {
		return fault.New(fault.Invalid, "the path is longer than %d bytes", maxPath)
	}
	table := c.guard.fixed
	if !sealed {
		var err error
		if c.loaded, err = c.guard.current(ctx); err != nil {
			return storeFault(err, "reading policies and mounts")
		}
		if c.loaded != nil {
			table = *c.loaded.mounts.table.Load()
		}
	}
	mount, below := table.locate(c.path)
	if mount != nil && c.enter(mount) {
		c.op.Mount, c.op.At = mount.name(), mount.Path
		c.guard.table.find(mount.Kind, below, c.req.Verb, &c.match)
	}
	o := c.match.op
	if (sealed || c.loaded == nil) && (o == nil || !o.Public || sealed && !o.Sealed) {
		return fault.New(fault.Sealed, msgSealed)
	}
	c.recorder = c.guard.recorder()
	if c.recorder == nil && (o == nil || o.Audit != op.AuditNone) {
		return fault.New(fault.Unavailable, "no audit log is open, so the operation was not performed")
	}
	return nil
}

// admit does everything that comes before the intent: identity, policy, request.
// It returns what of the request is known even if it refuses.
func (c *call) admit(ctx context.Context) (o *op.Operation, request any, err error) {
	if c.task != nil {
		return c.admitTask()
	}
	o = c.match.op
	if opensWrapped(o) {
		request, err = c.admitWrapping(ctx, o)
		return o, request, err
	}
	allowed := ^capDeny
	if o == nil || !o.Public {
		acl, err := c.caller(ctx)
		if err != nil {
			return o, nil, err
		}
		c.op.Judge = acl
		rule := acl.rule(policyPath(c.path, c.req.Verb))
		allowed, c.limits = rule.caps, rule.limits
		if o != nil && o.AnyToken && allowed&capDeny == 0 {
			allowed = ^capDeny
		}
	}
	if allowed&needed(c.req.Verb, o == nil || o.HasExists()) == 0 || o != nil && o.Sudo && allowed&capSudo == 0 {
		return o, nil, errDenied
	}
	if o == nil {
		return nil, nil, c.nowhere()
	}
	if c.limits != nil && !c.limits.wraps(o, c.req.WrapTTL) {
		return o, nil, errDenied
	}
	if err := c.mayWrap(o); err != nil {
		return o, nil, err
	}
	c.op.MayCreate, c.op.MayUpdate = allowed&capCreate != 0, allowed&capUpdate != 0
	request = o.NewRequest()
	if err := c.decode(o, request); err != nil {
		return o, nil, err
	}
	return o, request, c.mayWrite(ctx, o, request)
}

// caller finds out who calls, and what its policies allow.
func (c *call) caller(ctx context.Context) (*acl, error) {
	if c.req.As != nil {
		return c.vouched()
	}
	if err := c.identify(ctx); err != nil {
		return nil, err
	}
	return c.loaded.policies.of(c.entry), nil
}

// identify finds the caller by its token. Why a token is not accepted is not told.
func (c *call) identify(ctx context.Context) error {
	t := c.loaded.tokens
	e, err := t.find(ctx, c.req.Token)
	if errors.Is(err, store.ErrNotFound) {
		return errDenied
	}
	if err != nil {
		return storeFault(err, "looking up the client token")
	}
	if ended := e.ended(c.op.Time); ended != nil {
		if ended.state.Load().Batch {
			return errDenied
		}
		if err := t.revoke(ctx, ended.id); err != nil {
			c.guard.log.Warn("an ended client token could not be removed; it is refused all the same", "error", err)
		}
		return errDenied
	}
	c.lastUse, err = t.use(ctx, e)
	if errors.Is(err, errEnded) || errors.Is(err, store.ErrNotFound) {
		return errDenied
	}
	if err != nil {
		return storeFault(err, "counting the use of the client token")
	}
	s := e.state.Load()
	c.entry = e
	c.op.TokenID = e.id
	c.op.Caller = op.Caller{Accessor: s.Accessor, DisplayName: s.DisplayName, Policies: s.Policies,
		Root: c.loaded.policies.of(e).root}
	return nil
}

// nowhere says why a path led to no operation.
func (c *call) nowhere() error {
	switch {
	case c.match.known:
		return fault.New(fault.Unsupported, "unsupported operation")
	case c.op.Mount != "":
		return fault.New(fault.NotFound, "unsupported path")
	}
	return fault.New(fault.NotFound, "no handler for route %q. route entry not found.", c.path)
}

func (c *call) decode(o *op.Operation, request any) error {
	var unknown []string
	if c.req.Decode != nil {
		var err error
		c.req.WantSent = c.limits != nil
		if unknown, err = c.req.Decode(request); err != nil {
			return err
		}
		if len(unknown) > 0 {
			c.op.Warnings = append(c.op.Warnings, unknownFields(unknown))
		}
	}
	// Before the path's parameters are set: those are the path rule's concern.
	if c.limits != nil && !c.limits.permits(o.Verb, request, c.req.Sent, unknown) {
		return errDenied
	}
	if err := o.SetParams(request, c.match.params[:c.match.n]); err != nil {
		return &fault.Error{Kind: fault.Invalid, Msg: err.Error()}
	}
	return nil
}

// mayWrite asks for create or update, according to whether the thing exists.
func (c *call) mayWrite(ctx context.Context, o *op.Operation, request any) error {
	if o.Verb != op.Write || !o.HasExists() || c.op.MayCreate && c.op.MayUpdate {
		return nil
	}
	exists, err := o.Exists(ctx, &c.op, request)
	if err != nil {
		return err
	}
	if exists && !c.op.MayUpdate || !exists && !c.op.MayCreate {
		return errDenied
	}
	return nil
}

// invoke performs the operation; a panic in it is an error of this call only.
func (c *call) invoke(ctx context.Context, o *op.Operation, request any) (data any, err error) {
	defer func() {
		if r := recover(); r != nil {
			data, err = nil, c.panicked(r)
		}
	}()
	if o.Mount == kindToken || o.Mount == kindSys && c.entry != nil || o.Public || c.wrapping != "" {
		ctx = context.WithValue(ctx, callerKey{}, c)
	}
	if c.task != nil {
		return c.task.do(ctx, &c.op)
	}
	return o.Invoke(ctx, &c.op, request)
}

// callerKey leads the guard's own operations to the call, for the text of the
// caller's token.
type callerKey struct{}

// refuse records a call that is not performed.
func (c *call) refuse(o *op.Operation, request any, err error) error {
	err = c.report(err)
	if o != nil && o.Audit == op.AuditNone {
		return err
	}
	if rerr := c.record(EventRequest, request, err); rerr != nil {
		c.guard.log.Error("a refused call could not be recorded",
			"request_id", c.id, "operation", c.name(), "remote", c.req.Remote, "error", rerr)
	}
	return err
}

// report puts an error into the caller's words, and logs it if the caller is not
// told its cause.
func (c *call) report(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		switch {
		case errors.Is(err, store.ErrSealed):
			err = &fault.Error{Kind: fault.Sealed, Msg: msgSealed, Err: err}
		case errors.Is(err, context.DeadlineExceeded):
			err = &fault.Error{Kind: fault.Unavailable, Msg: "the call took longer than it may", Err: err}
		}
	}
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable, fault.Uncertain:
		attrs := []any{"request_id", c.id, "operation", c.name(), "error", err}
		if hint := fault.HintOf(err); hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		c.guard.log.Error("call failed", attrs...)
	}
	return err
}

func (c *call) panicked(r any) error {
	c.guard.log.Error("panic", "request_id", c.id, "operation", c.name(), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	return &fault.Error{Kind: fault.Internal, Msg: "internal error", Err: errors.New("panic")}
}

// revokeUsed removes a token whose last use this call was.
func (c *call) revokeUsed(ctx context.Context) {
	if err := c.loaded.tokens.revoke(context.WithoutCancel(ctx), c.entry.id); err != nil {
		c.guard.log.Warn("a used-up client token could not be removed; it is refused all the same", "error", err)
	}
}

func (c *call) name() string {
	if c.match.op == nil {
		return ""
	}
	return c.match.op.Name
}

func unrecorded(err error, msg string) error {
	return &fault.Error{Kind: fault.Unavailable, Msg: msg, Err: err}
}
