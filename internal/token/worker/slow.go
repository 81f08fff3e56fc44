package worker

import (
	"bytes"
	"sync"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// slowLane is the goroutine and session for what may take seconds, so that an
// RSA key generation holds up no signature.
type slowLane struct {
	p        *process
	session  *pkcs11.Session
	verified map[token.Type]bool // wrapped once and unwrapped again

	mu    sync.Mutex
	cond  *sync.Cond
	queue []frame
	begun bool
}

func (s *slowLane) init(p *process) {
	s.p, s.verified = p, map[token.Type]bool{}
	s.cond = sync.NewCond(&s.mu)
}

// push queues a copy of f; the first starts the lane.
func (s *slowLane) push(f frame) {
	f.payload = bytes.Clone(f.payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, f)
	s.cond.Signal()
	if !s.begun {
		s.begun = true
		go s.run()
	}
}

func (s *slowLane) pop() frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 {
		s.cond.Wait()
	}
	f := s.queue[0]
	s.queue = s.queue[1:]
	return f
}

func (s *slowLane) run() {
	for {
		f := s.pop()
		body, err := s.perform(f)
		if err != nil && sessionBroken(asFailure(err).code) {
			if err := s.p.renew(&s.session); err != nil {
				s.p.fatal(err)
			}
			body, err = s.perform(f)
			if err != nil && sessionBroken(asFailure(err).code) {
				s.p.fatal(err)
			}
		}
		if err != nil && deviceGone(err) {
			s.p.fatal(err)
		}
		clear(f.payload)
		if err := s.p.lane.Write(appendAnswer(nil, f, err, body)); err != nil {
			s.p.fatal(err)
		}
	}
}

// perform does one request; body appends the answer.
func (s *slowLane) perform(f frame) (body func([]byte) []byte, err error) {
	p := s.p
	if s.session == nil {
		return nil, &failure{reason: reasonFrame, msg: "the worker is not logged in"}
	}
	switch f.kind {
	case frameGenerate:
		spec, err := parseSpec(f.payload)
		if err != nil {
			return nil, &failure{reason: reasonFrame, msg: "generate: malformed"}
		}
		st, err := p.generate(spec)
		return func(b []byte) []byte { return appendStored(b, st) }, err
	case frameDestroy:
		var id token.ID
		if copy(id[:], f.payload) != len(id) {
			return nil, &failure{reason: reasonFrame, msg: "destroy: malformed"}
		}
		return nil, p.destroy(id)
	case frameProvision:
		r := reader{b: f.payload}
		transferable, provisioned := r.u8() == 1, r.u8() == 1
		if r.end() != nil {
			return nil, &failure{reason: reasonFrame, msg: "provision: malformed"}
		}
		facts, err := p.provision(transferable, provisioned)
		return facts.append, err
	case frameSystem:
		st, err := p.auditKey(s.session)
		if err != nil && asFailure(err).reason == reasonFind {
			err = orGone(s.session, err)
		}
		return func(b []byte) []byte { return appendStored(b, st) }, err
	case frameImport:
		r, err := parseImport(f.payload)
		if err != nil {
			return nil, &failure{reason: reasonFrame, msg: "import: malformed"}
		}
		st, err := p.importKey(&r)
		return func(b []byte) []byte { return appendStored(b, st) }, err
	case frameObjects:
		r := reader{b: f.payload}
		like, limit := r.name(), int(r.u32())
		if r.end() != nil {
			return nil, &failure{reason: reasonFrame, msg: "objects: malformed"}
		}
		list, err := p.objects(like, limit)
		return func(b []byte) []byte { return appendObjects(b, list) }, err
	case frameAdopt:
		r := reader{b: f.payload}
		like := r.name()
		if r.end() != nil {
			return nil, &failure{reason: reasonFrame, msg: "adopt: malformed"}
		}
		st, err := p.adopt(like)
		return func(b []byte) []byte { return appendStored(appendName(b, st.Name), st) }, err
	case frameErase:
		r := reader{b: f.payload}
		name := r.name()
		if r.end() != nil {
			return nil, &failure{reason: reasonFrame, msg: "erase: malformed"}
		}
		return nil, p.erase(name)
	case frameMove:
		return p.move(f.payload)
	case frameIntake:
		f := p.learnIntake()
		return f.append, nil
	default: // frameTry
		r := reader{b: f.payload}
		typ, size := token.Type(r.u8()), int(r.u32())
		if r.end() != nil {
			return nil, &failure{reason: reasonFrame, msg: "try: malformed"}
		}
		return nil, p.tryWrap(typ, size)
	}
}

// tryWrap finds out whether keys of a type can be wrapped and unwrapped, with a
// KEK of the moment.
func (p *process) tryWrap(typ token.Type, size int) error {
	if !p.wraps {
		return &failure{reason: reasonHold, msg: "the module has no mechanism that wraps keys"}
	}
	s := p.slow.session
	kek, err := s.GenerateKey(pkcs11.AESKeyGen, kekTemplate(birth{}, false))
	if err != nil {
		return holdFailure(err, token.AES256, "generating")
	}
	delete(p.slow.verified, typ)
	_, _, err = p.wrapNew(s, kek, typ, size, birth{extractable: true})
	// A session object of this process; it is gone with it at the latest.
	_ = s.Destroy(kek)
	return err
}
