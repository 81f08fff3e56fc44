package guard

import (
	"cmp"
	"context"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

const (
	nameWrap         = "sys.wrapping.wrap"
	nameUnwrap       = "sys.wrapping.unwrap"
	nameRewrap       = "sys.wrapping.rewrap"
	nameLookupWrap   = "sys.wrapping.lookup"
	hintWrapTTL      = "set the header X-Vault-Wrap-TTL to a time such as 5m"
	hintLeaveWrapTTL = "leave the header X-Vault-Wrap-TTL out"
)

func (g *Guard) wrapOperations() []*op.Operation {
	meta := func(name, path, help string) op.Meta {
		return op.Meta{Name: name, Mount: kindSys, Path: "wrapping/" + path, Verb: op.Write, Help: help}
	}
	// Who holds a wrapping token needs no client token; see admitWrapping.
	held := func(name, path, help string) op.Meta {
		m := meta(name, path, help)
		m.Public = true
		return m
	}
	wrap := meta(nameWrap, "wrap", "Keep the body for a time, under a token that opens it once. The call must ask for a wrapped answer.")
	wrap.TopLevel = true
	return []*op.Operation{
		op.Define(wrap, g.wrapData),
		op.Define(held(nameUnwrap, "unwrap", "Return a wrapped answer, once. The wrapping token is the client token of the call, or stands in the body."), g.unwrap),
		op.Define(held(nameRewrap, "rewrap", "Keep a wrapped answer under a new wrapping token, for its whole time again."), g.rewrap),
		op.Define(held(nameLookupWrap, "lookup", "Describe a wrapped answer without opening it."), g.lookupWrapping),
	}
}

// opensWrapped tells whether an operation acts on a wrapping token.
func opensWrapped(o *op.Operation) bool {
	if o == nil || !o.Public || o.Mount != kindSys {
		return false
	}
	return o.Name == nameUnwrap || o.Name == nameRewrap || o.Name == nameLookupWrap
}

// admitWrapping is admit for operations on a wrapping token. It may be used by
// whoever holds it: as the client token of the call nothing else is needed. Who
// sends it in the body must be allowed to, as who asks for anything else; only
// its description is for everybody.
func (c *call) admitWrapping(ctx context.Context, o *op.Operation) (request any, err error) {
	if c.loaded == nil {
		return nil, fault.New(fault.Sealed, msgSealed)
	}
	if err := c.mayWrap(o); err != nil {
		return nil, err
	}
	request = o.NewRequest()
	if err := c.decode(o, request); err != nil {
		return nil, err
	}
	c.wrapping = cmp.Or(request.(*api.WrappingToken).Token, c.req.Token)
	if _, _, err := c.loaded.wraps.find(ctx, c.wrapping, c.op.Time); err != nil {
		return request, err
	}
	if o.Name == nameLookupWrap || c.wrapping == c.req.Token {
		return request, nil
	}
	if err := c.identify(ctx); err != nil {
		return request, err
	}
	rule := c.loaded.policies.of(c.entry).rule(c.path)
	if rule.caps&capUpdate == 0 {
		return request, errDenied
	}
	if l := rule.limits; l != nil && (!l.wraps(o, c.req.WrapTTL) || !l.permits(o.Verb, request, []string{"token"}, nil)) {
		return request, errDenied
	}
	return request, nil
}

// mayWrap refuses a wish for a wrapped answer that would be ignored at the
// caller's peril, and the lack of one where nothing else makes sense. What reads
// public state is answered as it is.
func (c *call) mayWrap(o *op.Operation) error {
	switch {
	case c.req.WrapTTL == 0 && o.Name != nameWrap:
		return nil
	case c.req.WrapTTL == 0:
		return fault.New(fault.Invalid, "endpoint requires response wrapping to be used").WithHint(hintWrapTTL)
	case c.req.WrapTTL < 0 || c.req.WrapTTL > maxWrapTTL:
		return fault.New(fault.Invalid, "an answer can be kept wrapped for 1 to %d seconds", maxWrapTTL)
	case o.Bare && o.Verb.HasBody():
		return fault.New(fault.Invalid, "the answer of this call can't be wrapped").WithHint(hintLeaveWrapTTL)
	}
	return nil
}

// wrap keeps an answer and returns what opens it. An answer that says nothing,
// an empty list, or text for another program (metrics) stays what it is.
func (c *call) wrap(ctx context.Context, o *op.Operation, data any) (any, error) {
	switch d := data.(type) {
	case nil, *api.WrapInfo, interface{ Raw() (string, []byte) }:
		return data, nil
	case interface{ IsEmpty() bool }:
		if d.IsEmpty() {
			return data, nil
		}
	}
	if o.Bare || c.loaded == nil {
		return data, nil
	}
	wrapped, err := wrappedOf(data, c.op.Warnings)
	if err != nil {
		return nil, err
	}
	r := &wrapRecord{Path: c.path, Created: c.guard.now().UnixNano(), TTL: int64(c.req.WrapTTL)}
	if wrapped.Auth != nil {
		r.Inside = wrapped.Auth.Accessor
	}
	w := c.loaded.wraps
	if _, err := w.sweep(ctx, c.op.Time); err != nil {
		c.guard.log.Warn("wrapped answers whose time is over could not be removed; they don't open all the same", "error", err)
	}
	info, err := w.put(ctx, r, wrapped)
	if err != nil {
		return nil, storeFault(err, "the operation was performed, but its answer is withheld since it can't be wrapped")
	}
	c.op.Warnings = nil
	return info, nil
}

// wrapData returns what it got; the guard wraps it like any other answer.
func (g *Guard) wrapData(_ context.Context, _ *op.Call, req *api.WrapData) (*api.WrapData, error) {
	return req, nil
}

// held finds the answer that the call's wrapping token opens.
func held(ctx context.Context, now time.Time) (c *call, id string, r *wrapRecord, err error) {
	c, ok := ctx.Value(callerKey{}).(*call)
	if !ok || c.wrapping == "" {
		return nil, "", nil, errWrapping
	}
	id, r, err = c.loaded.wraps.find(ctx, c.wrapping, now)
	return c, id, r, err
}

func (g *Guard) unwrap(ctx context.Context, call *op.Call, _ *api.WrappingToken) (*api.Unwrapped, error) {
	c, id, _, err := held(ctx, call.Time)
	if err != nil {
		return nil, err
	}
	w := c.loaded.wraps
	wrapped, removal, err := w.open(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := w.apply(ctx, removal...); err != nil {
		return nil, err
	}
	call.Warnings = append(call.Warnings, wrapped.Warnings...)
	return &api.Unwrapped{Data: wrapped.Data, Auth: wrapped.Auth}, nil
}

func (g *Guard) rewrap(ctx context.Context, call *op.Call, _ *api.WrappingToken) (*api.WrapInfo, error) {
	c, id, r, err := held(ctx, call.Time)
	if err != nil {
		return nil, err
	}
	w := c.loaded.wraps
	wrapped, removal, err := w.open(ctx, id)
	if err != nil {
		return nil, err
	}
	again := *r
	again.Created = g.now().UnixNano()
	info, insertion, err := w.insertion(&again, wrapped)
	if err != nil {
		return nil, storeFault(err, "wrapping an answer again")
	}
	if err := w.apply(ctx, append(removal, insertion...)...); err != nil {
		return nil, err
	}
	return info, nil
}

func (g *Guard) lookupWrapping(ctx context.Context, call *op.Call, _ *api.WrappingToken) (*api.WrappingInfo, error) {
	_, _, r, err := held(ctx, call.Time)
	if err != nil {
		return nil, err
	}
	return &api.WrappingInfo{CreationPath: r.Path, CreationTime: time.Unix(0, r.Created).UTC(), CreationTTL: api.Seconds(r.TTL)}, nil
}
