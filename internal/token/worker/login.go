package worker

import (
	"fmt"
	"os"
	"time"

	"github.com/claviger/claviger/internal/token/pkcs11"
)

// startAttempts and startPause bound the attempts at a module that another
// process is just starting or logging in to: SoftHSM2's C_Login writes a file
// that every C_Initialize reads.
const (
	startAttempts = 6
	startPause    = 25 * time.Millisecond
)

// start confines the process further, loads the module and looks at its slots.
func (p *process) start(payload []byte) (view, error) {
	s, err := parseSetup(payload)
	if err != nil {
		return view{}, &failure{reason: reasonFrame, msg: "setup: " + err.Error()}
	}
	p.setup = s
	report := parseHardening(os.Getenv(stageEnv))
	report.confineProcess()
	if p.mod, err = pkcs11.Open(s.module); err != nil {
		return view{}, failf(reasonModule, err, "")
	}
	for try := 1; ; try++ {
		v, err := p.look()
		if err == nil && (p.find(v) != nil || !s.patient) || try == startAttempts {
			v.hardened, v.missing = report.done, report.missing
			if err == nil && s.patient && p.find(v) == nil {
				err = p.absent(v)
			}
			return v, err
		}
		time.Sleep(startPause)
		p.restart()
	}
}

// restart makes the module read its tokens anew.
func (p *process) restart() {
	// A module that was never initialised says so here; look initialises it.
	_ = p.mod.Finalize()
}

// look initialises the module and reads every slot.
func (p *process) look() (view, error) {
	if err := p.mod.Initialize(); err != nil && pkcs11.CodeOf(err) != pkcs11.AlreadyInitialized {
		return view{}, failf(reasonCall, err, "initialising the module")
	}
	var v view
	var err error
	if v.library, err = p.mod.Info(); err != nil {
		return view{}, failf(reasonCall, err, "asking the module for its name")
	}
	slots, err := p.mod.Slots()
	if err != nil {
		return view{}, failf(reasonCall, err, "listing slots")
	}
	for _, id := range slots {
		s := slotView{id: id}
		if s.slot, err = p.mod.SlotInfo(id); err != nil {
			return view{}, failf(reasonCall, err, "reading slot %d", id)
		}
		if s.token, err = p.mod.TokenInfo(id); err != nil {
			if pkcs11.CodeOf(err) == pkcs11.TokenNotRecognized || pkcs11.CodeOf(err) == pkcs11.TokenNotPresent {
				continue // somebody's empty reader
			}
			return view{}, failf(reasonCall, err, "reading the token of slot %d", id)
		}
		if p.setup.all || p.matches(&s) {
			if s.mechs, err = p.mod.Mechanisms(id); err != nil {
				return view{}, failf(reasonCall, err, "listing mechanisms")
			}
		}
		v.slots = append(v.slots, s)
	}
	return v, nil
}

func (p *process) matches(s *slotView) bool { return matches(s, p.setup.label, p.setup.serial) }

// matches tells whether a slot holds the initialised token of a label and, if
// one is given, serial number.
func matches(s *slotView, label, serial string) bool {
	return s.token.Flags&pkcs11.FlagInitialized != 0 && s.token.Label == label && (serial == "" || s.token.Serial == serial)
}

func (p *process) find(v view) *slotView {
	for i := range v.slots {
		if p.matches(&v.slots[i]) {
			return &v.slots[i]
		}
	}
	return nil
}

func (p *process) absent(v view) error {
	var labels []string
	for _, s := range v.slots {
		if s.token.Flags&pkcs11.FlagInitialized != 0 {
			labels = append(labels, fmt.Sprintf("%q (serial %s)", s.token.Label, s.token.Serial))
		}
	}
	msg := fmt.Sprintf("the module shows no token with the label %q", p.setup.label)
	if p.setup.serial != "" {
		msg += fmt.Sprintf(" and the serial number %q", p.setup.serial)
	}
	return &failure{reason: reasonAbsent, msg: fmt.Sprintf("%s; it shows %d initialised: %v", msg, len(labels), labels)}
}

// login opens the sessions and logs in; the PIN is the payload. What a module
// that is being started by others answers is tried again, never a refused PIN.
func (p *process) login(pin []byte) (facts, error) {
	if p.mod == nil {
		return facts{}, &failure{reason: reasonFrame, msg: "login before setup"}
	}
	for try := 1; ; try++ {
		err := p.loginOnce(pin)
		if err == nil {
			return p.learn()
		}
		switch pkcs11.CodeOf(err) {
		case pkcs11.GeneralError, pkcs11.UserPINNotInitialized, pkcs11.TokenNotPresent, pkcs11.TokenNotRecognized:
		default:
			if asFailure(err).reason != reasonAbsent {
				return facts{}, err
			}
		}
		if try == startAttempts {
			return facts{}, err
		}
		p.restart()
		time.Sleep(startPause)
	}
}

func (p *process) loginOnce(pin []byte) error {
	v, err := p.look()
	if err != nil {
		return err
	}
	s := p.find(v)
	if s == nil {
		return p.absent(v)
	}
	p.slot = s.id
	p.setMechanisms(s.mechs)
	for _, to := range []**pkcs11.Session{&p.keeper, &p.hot, &p.slow.session} {
		if *to, err = p.mod.OpenSession(p.slot); err != nil {
			return failf(reasonCall, err, "opening a session")
		}
	}
	err = p.keeper.Login(pkcs11.UserNormal, pin)
	if err != nil && pkcs11.CodeOf(err) != pkcs11.UserAlreadyLoggedIn {
		return failf(reasonCall, err, "logging in")
	}
	return nil
}

func (p *process) setMechanisms(list []pkcs11.MechanismInfo) {
	p.mechs = make(map[pkcs11.CKM]pkcs11.MechanismInfo, len(list))
	for _, m := range list {
		p.mechs[m.Type] = m
	}
	for _, m := range []pkcs11.CKM{pkcs11.AESWrapKWP, pkcs11.AESWrapPad, pkcs11.AESWrap} {
		if i, ok := p.mechs[m]; ok && i.Flags&pkcs11.FlagWrap != 0 && i.Flags&pkcs11.FlagUnwrap != 0 {
			p.wrap, p.wraps = m, true
			return
		}
	}
}

// create initialises a free slot: SO PIN, user PIN and label are in the payload.
func (p *process) create(payload []byte) error {
	r := reader{b: payload}
	so, user, label := r.bytes(), r.bytes(), r.str()
	if err := r.end(); err != nil || p.mod == nil {
		return &failure{reason: reasonFrame, msg: "create: malformed or before setup"}
	}
	v, err := p.look()
	if err != nil {
		return err
	}
	if p.find(v) != nil {
		return &failure{reason: reasonExists, msg: fmt.Sprintf("there is a token with the label %q", label)}
	}
	free := p.free(v)
	if free == nil {
		return &failure{reason: reasonAbsent, msg: "no slot of the module has a token that is not initialised yet"}
	}
	// A PIN that C_InitPIN refuses would leave a token without one behind.
	for _, pin := range []struct {
		whose string
		n     int
	}{{"the security officer's", len(so)}, {"the user", len(user)}} {
		if err := checkPIN(pin.whose, pin.n, &free.token); err != nil {
			return err
		}
	}
	if err := p.mod.InitToken(free.id, so, label); err != nil {
		return failf(reasonCall, err, "initialising the token of slot %d", free.id)
	}
	s, err := p.mod.OpenSession(free.id)
	if err != nil {
		return failf(reasonCall, err, "opening a session for the security officer")
	}
	if err := s.Login(pkcs11.UserSO, so); err != nil {
		return failf(reasonCall, err, "logging in as security officer")
	}
	if err := s.InitPIN(user); err != nil {
		return failf(reasonCall, err, "setting the user PIN")
	}
	return nil
}

// checkPIN compares the length of a PIN with what the token takes.
func checkPIN(whose string, n int, t *pkcs11.TokenInfo) error {
	if n >= t.MinPIN && (t.MaxPIN == 0 || n <= t.MaxPIN) {
		return nil
	}
	return &failure{code: pkcs11.PINLenRange,
		msg: fmt.Sprintf("%s PIN has %d bytes, and the token takes %d to %d", whose, n, t.MinPIN, t.MaxPIN)}
}

// free returns a slot whose token is not initialised.
func (p *process) free(v view) *slotView {
	for i := range v.slots {
		s := &v.slots[i]
		if s.token.Flags&pkcs11.FlagInitialized == 0 && (p.setup.serial == "" || p.setup.serial == s.token.Serial) {
			return s
		}
	}
	return nil
}
