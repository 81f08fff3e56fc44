package worker

import (
	"encoding/binary"
	"fmt"

	"github.com/claviger/claviger/internal/token/pkcs11"
)

// loaded is a slot of the worker's table: a handle, or why there is none.
type loaded struct {
	handle  pkcs11.Handle
	session bool // a session object, to be destroyed when it is unloaded
	why     *failure
}

// loadFrame puts a key into the table.
func (p *process) loadFrame(f frame) {
	l, err := parseLoad(f.payload)
	if err != nil {
		return // the operation behind it finds an empty slot and says so
	}
	p.unload(l.slot)
	h, err := p.load(&l)
	if err != nil && asFailure(err).reason == reasonFind {
		err = orGone(p.keeper, err)
	}
	e := loaded{handle: h, session: l.from == fromBlob || l.from == fromEphemeral}
	if err != nil {
		// Without the keeper the login and every loaded key are lost.
		code := pkcs11.CodeOf(err)
		if deviceGone(err) || code == pkcs11.SessionHandleInvalid || code == pkcs11.SessionClosed || code == pkcs11.DeviceError {
			p.fatal(err)
		}
		e = loaded{why: asFailure(err)}
	} else if err := p.lane.Hold(l.slot, h); err != nil {
		p.fatal(err)
	}
	p.table[l.slot] = e
}

func (p *process) unload(slot uint32) {
	if e, ok := p.table[slot]; ok && e.session {
		// A handle that is invalid by now needs no destroying.
		_ = p.keeper.Destroy(e.handle)
	}
	delete(p.table, slot)
	p.lane.Drop(slot)
}

func (p *process) load(l *loadRequest) (pkcs11.Handle, error) {
	switch l.from {
	case fromObject:
		class, _ := classOf(l.typ)
		t := (&pkcs11.Template{}).Bool(true, pkcs11.AttrToken).Ulong(pkcs11.AttrClass, class).Bytes(pkcs11.AttrID, l.id[:])
		return findOne(p.keeper, t, fmt.Sprintf("no object of the ID %x", l.id))
	case fromLabel:
		class, _ := classOf(l.typ)
		return findLabel(p.keeper, class, l.label)
	case fromBlob:
		return p.unwrapBlob(l)
	case fromName:
		class, _ := classOf(l.typ)
		return findName(p.keeper, class, l.label, l.blob)
	case fromEphemeral:
		k, err := p.bear(p.keeper, l.typ, int(l.size), birth{})
		if err != nil {
			return 0, holdFailure(err, l.typ, "generating")
		}
		return k.secret, nil
	}
	return 0, &failure{reason: reasonFrame, msg: "unknown source of a key"}
}

func findOne(s *pkcs11.Session, t *pkcs11.Template, absent string) (pkcs11.Handle, error) {
	hs, err := s.Find(t, 1)
	if err != nil {
		return 0, failf(reasonCall, err, "looking for a key")
	}
	if len(hs) == 0 {
		return 0, &failure{reason: reasonFind, msg: absent}
	}
	return hs[0], nil
}

func findLabel(s *pkcs11.Session, class uint64, label string) (pkcs11.Handle, error) {
	t := (&pkcs11.Template{}).Bool(true, pkcs11.AttrToken).Ulong(pkcs11.AttrClass, class).String(pkcs11.AttrLabel, label)
	return findOne(s, t, "no object with the label "+label)
}

// unwrapBlob opens a wrapped key as a session object. If the KEK's handle has
// become invalid, it is looked for once more.
func (p *process) unwrapBlob(l *loadRequest) (pkcs11.Handle, error) {
	if !p.wraps {
		return 0, &failure{reason: reasonHold, msg: "the module has no mechanism that unwraps keys"}
	}
	for again := false; ; again = true {
		kek, err := p.findKEK(p.keeper)
		if err != nil {
			return 0, err
		}
		h, err := p.keeper.Unwrap(p.wrap, kek, l.blob, unwrapTemplate(l.typ, l.agree))
		if err == nil {
			return h, nil
		}
		if staleHandle(pkcs11.CodeOf(err)) {
			p.kek.Store(0)
			if !again {
				continue
			}
		}
		return 0, failf(reasonUnwrap, err, "unwrapping the key")
	}
}

// left deals with an operation that the lane did not answer, and tells whether to
// perform it once more. A broken session is in an unknown state: it is replaced, once.
func (p *process) left(f pkcs11.Frame) (again bool) {
	fr := frame{f.Kind, f.Seq, f.Payload}
	switch f.Reason {
	case pkcs11.Malformed:
		p.answer(fr, &failure{reason: reasonFrame, msg: "the operation is malformed"}, nil)
		return false
	case pkcs11.Empty:
		if e := p.table[f.Slot]; e.why != nil {
			p.answer(fr, e.why, nil)
		} else {
			p.answer(fr, &failure{reason: reasonNotReady, msg: "the slot is empty"}, nil)
		}
		return false
	}
	broken, before := sessionBroken(f.Err.Code), p.renewed == f.Seq
	switch {
	case deviceGone(f.Err), broken && before && !outOfMemory(f.Err.Code):
		p.fatal(failf(reasonSession, f.Err, "using a key"))
	case !broken, before: // the key's fault, or the process's: the server decides
		p.answer(fr, failf(reasonCall, f.Err, ""), nil)
		return false
	}
	p.renewed = f.Seq
	if err := p.renew(&p.hot); err != nil {
		p.fatal(err)
	}
	return true
}

// sessionBroken tells whether a code leaves the session unusable.
func sessionBroken(rv pkcs11.CKR) bool {
	switch rv {
	case pkcs11.SessionHandleInvalid, pkcs11.SessionClosed, pkcs11.OperationActive, pkcs11.OperationNotInitialized,
		pkcs11.BufferTooSmall, pkcs11.DeviceError, pkcs11.DeviceMemory, pkcs11.HostMemory:
		return true
	}
	return false
}

// outOfMemory is also what modules answer to a key that they can't read.
func outOfMemory(rv pkcs11.CKR) bool { return rv == pkcs11.DeviceMemory || rv == pkcs11.HostMemory }

// deviceGone tells whether an error means that the login or the device is lost.
func deviceGone(err error) bool {
	switch pkcs11.CodeOf(err) {
	case pkcs11.DeviceRemoved, pkcs11.TokenNotPresent, pkcs11.NotInitialized, pkcs11.UserNotLoggedIn:
		return true
	}
	return false
}

// renew replaces a session. The login belongs to the process, so the new one
// must be logged in; otherwise the worker is of no more use.
func (p *process) renew(s **pkcs11.Session) error {
	// A session that is broken may refuse to close.
	_ = (*s).Close()
	fresh, err := p.mod.OpenSession(p.slot)
	if err != nil {
		return failf(reasonSession, err, "opening a new session")
	}
	*s = fresh
	state, err := fresh.State()
	if err != nil {
		return failf(reasonSession, err, "asking for the state of a new session")
	}
	if state != pkcs11.StateRWUser {
		return &failure{reason: reasonSession, msg: "the login is lost"}
	}
	return nil
}

const maxRandom = 64 << 10

// randomFrame answers with u32 bytes from the token.
func (p *process) randomFrame(f frame) {
	n := 0
	if len(f.payload) == 4 {
		n = int(binary.LittleEndian.Uint32(f.payload))
	}
	if n < 1 || n > maxRandom {
		p.answer(f, &failure{reason: reasonFrame, msg: "random: malformed"}, nil)
		return
	}
	buf := make([]byte, n)
	err := p.hot.Random(buf)
	if err != nil && sessionBroken(pkcs11.CodeOf(err)) {
		if err = p.renew(&p.hot); err == nil {
			err = p.hot.Random(buf)
		}
	}
	if err != nil && (deviceGone(err) || sessionBroken(pkcs11.CodeOf(err)) || asFailure(err).reason == reasonSession) {
		p.fatal(err)
	}
	if err == nil {
		p.answer(f, nil, func(b []byte) []byte { return append(b, buf...) })
	} else {
		p.answer(f, failf(reasonCall, err, "drawing random bytes"), nil)
	}
	clear(buf)
}
