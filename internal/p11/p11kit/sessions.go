package p11kit

import (
	"bytes"
	"context"

	"github.com/claviger/claviger/internal/p11"
)

const (
	// maxSessions and maxOwned bound those of a connection, maxHeld the bytes that its
	// operations and objects hold.
	maxSessions = 4096
	maxOwned    = 4096
	maxHeld     = 16 << 20
)

// Kinds of operations, of which a session has one each.
const (
	finding = iota
	signing
	verifying
	encrypting
	decrypting
	digesting
	kinds
)

// session is a session of a program.
type session struct {
	handle uint64
	slot   uint32
	rw     bool
	ops    [kinds]*operation
}

// caller is who asks for a slot: with the client token of C_Login, if there was one.
func (p *program) caller(slot uint32) *p11.Caller {
	return &p11.Caller{Token: p.logins[slot], Remote: p.remote, Slot: slot}
}

// may tells whether the slot can be asked for anything.
func (p *program) may(slot uint32) bool { return p.Service.Own() || p.logins[slot] != "" }

var errLogin = refusal(p11.CKR_USER_NOT_LOGGED_IN, "no client token was shown: log in with it as the PIN")

// session takes a "u" that is a session.
func (c *call) session() *session {
	s := c.sessions[c.number()]
	if s == nil && c.reader.Err == nil {
		if !c.up {
			c.refuse(ckrNotInitialized, "C_Initialize comes first")
		}
		c.refuse(ckrSessionHandleInvalid, "there is no such session")
	}
	if s == nil {
		return &session{}
	}
	return s
}

func doOpenSession(c *call) error {
	slot, flags := c.slot(), c.number()
	switch err := c.end(); {
	case err != nil:
		return err
	case flags&ckfSerialSession == 0:
		return refusal(ckrSessionParallel, "CKF_SERIAL_SESSION must be set")
	case len(c.sessions) >= maxSessions:
		return refusal(ckrSessionCount, "a program has 4096 sessions at most: close some")
	}
	c.last++
	c.sessions[c.last] = &session{handle: c.last, slot: slot, rw: flags&ckfRWSession != 0}
	c.writer.U64(c.last)
	return nil
}

// count counts the sessions of a slot, and those that write.
func (p *program) count(slot uint32) (all, rw uint64) {
	for _, s := range p.sessions {
		if s.slot == slot {
			all++
			if s.rw {
				rw++
			}
		}
	}
	return all, rw
}

// close ends a session with its objects, and the login with a slot's last session
// (PKCS#11 v2.40 Base, section 5.6.2).
func (p *program) close(ctx context.Context, s *session) {
	for kind := range s.ops {
		p.drop(s, kind)
	}
	p.disown(ctx, func(o *own) bool { return o.session == s.handle })
	delete(p.sessions, s.handle)
	if all, _ := p.count(s.slot); all == 0 {
		delete(p.logins, s.slot)
	}
}

// closeAll ends everything, as C_Finalize does.
func (p *program) closeAll(ctx context.Context) {
	for _, s := range p.sessions {
		p.close(ctx, s)
	}
	p.clear()
}

func doCloseSession(c *call) error {
	s := c.session()
	if err := c.end(); err != nil {
		return err
	}
	c.close(c.ctx, s)
	return nil
}

func doCloseAllSessions(c *call) error {
	slot := c.slot()
	if err := c.end(); err != nil {
		return err
	}
	for _, s := range c.sessions {
		if s.slot == slot {
			c.close(c.ctx, s)
		}
	}
	return nil
}

func doGetSessionInfo(c *call) error {
	s := c.session()
	if err := c.end(); err != nil {
		return err
	}
	state, flags := uint64(0), uint64(ckfSerialSession) // CKS_RO_PUBLIC_SESSION
	if s.rw {
		state, flags = 2, flags|ckfRWSession // CKS_RW_PUBLIC_SESSION
	}
	if _, in := c.logins[s.slot]; in {
		state++ // CKS_…_USER_FUNCTIONS
	}
	for _, n := range []uint64{uint64(s.slot), state, flags, 0} {
		c.writer.U64(n)
	}
	return nil
}

func doLogin(c *call) error {
	s, user, pin := c.session(), c.number(), c.reader.bytes()
	if err := c.end(); err != nil {
		return err
	}
	return c.login(s, user, pin)
}

// doLoginUser: there are no names of users, an empty one is none.
func doLoginUser(c *call) error {
	s, user, pin, name := c.session(), c.number(), c.reader.bytes(), c.reader.bytes()
	if err := c.end(); err != nil {
		return err
	}
	if len(name) > 0 {
		return refusal(p11.CKR_ARGUMENTS_BAD, "users have no names here: the PIN alone says who it is")
	}
	return c.login(s, user, pin)
}

// login asks the server whether it knows the client token. Programs read PINs from
// files, with the end of the line.
func (c *call) login(s *session, user uint64, pin []byte) error {
	token := string(bytes.TrimRight(pin, "\r\n"))
	_, in := c.logins[s.slot]
	switch {
	case user == ckuContextSpecific: // no key asks for it
		return nil
	case user != ckuUser:
		return refusal(ckrUserTypeInvalid, "only CKU_USER logs in")
	case len(token) > p11.MaxToken:
		return refusal(ckrPINLenRange, "a client token has 4096 bytes at most")
	case in:
		return refusal(ckrUserAlreadyLoggedIn, "the program is logged in")
	}
	caller := &p11.Caller{Token: token, Remote: c.remote, Slot: s.slot}
	if err := c.Service.Login(c.ctx, caller); err != nil {
		return err
	}
	c.logins[s.slot] = token
	return nil
}

// doLogout ends the objects of sessions that are private, before their owner is
// forgotten.
func doLogout(c *call) error {
	s := c.session()
	if err := c.end(); err != nil {
		return err
	}
	if _, in := c.logins[s.slot]; !in {
		return refusal(p11.CKR_USER_NOT_LOGGED_IN, "the program is not logged in")
	}
	c.disown(c.ctx, func(o *own) bool { return o.slot == s.slot && o.Attributes.Flag(p11.CKA_PRIVATE, true) })
	for _, other := range c.sessions {
		for kind := range other.ops {
			if other.slot == s.slot && kind != digesting {
				c.drop(other, kind)
			}
		}
	}
	delete(c.logins, s.slot)
	return nil
}

// doSessionCancel ends the operations that flags name (PKCS#11 v3.0 Base, section
// 5.6.11).
func doSessionCancel(c *call) error {
	s, flags := c.session(), c.number()
	if err := c.end(); err != nil {
		return err
	}
	for kind, f := range [kinds]uint64{
		finding: ckfFindObjects, signing: p11.CKF_SIGN, verifying: p11.CKF_VERIFY, encrypting: p11.CKF_ENCRYPT,
		decrypting: p11.CKF_DECRYPT, digesting: ckfDigest,
	} {
		if flags&f != 0 {
			c.drop(s, kind)
		}
	}
	return nil
}
