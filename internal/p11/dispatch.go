package p11

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Operations of the protocol.
const (
	OpSlots        = 1
	OpInfo         = 2
	OpLogin        = 3
	OpFind         = 4
	OpGet          = 5
	OpSign         = 6
	OpVerify       = 7
	OpEncrypt      = 8
	OpDecrypt      = 9
	OpRandom       = 10
	OpGenerate     = 11
	OpGeneratePair = 12
	OpCreate       = 13
	OpCopy         = 14
	OpSet          = 15
	OpDestroy      = 16
	OpWrap         = 17
	OpUnwrap       = 18
	OpDerive       = 19
	OpKeep         = 20
)

const (
	// defaultWait is the deadline of a request that names none, maxWait the
	// longest.
	defaultWait = 30 * time.Second
	maxWait     = 10 * time.Minute
)

// operation decodes the body of a request, performs it and appends the answer's.
type operation func(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error

var operations = [...]operation{
	OpSlots: doSlots, OpInfo: doInfo, OpLogin: doLogin, OpFind: doFind, OpGet: doGet, OpSign: doSign, OpVerify: doVerify,
	OpEncrypt: doEncrypt, OpDecrypt: doDecrypt, OpRandom: doRandom, OpGenerate: doGenerate, OpGeneratePair: doGeneratePair,
	OpCreate: doCreate, OpCopy: doCopy, OpSet: doSet, OpDestroy: doDestroy, OpWrap: doWrap, OpUnwrap: doUnwrap, OpDerive: doDerive,
	OpKeep: doKeep,
}

// Handle answers a request: what follows the length of its frame. The answer is
// appended to out in the same form. remote is the caller for the audit log.
func (s *Service) Handle(ctx context.Context, remote string, request, out []byte) []byte {
	began := s.now()
	out, code := s.answer(ctx, remote, request, out)
	if s.observe != nil {
		name := "unknown"
		if len(request) > 0 && known(request[0]) {
			name = operationNames[request[0]]
		}
		s.observe(name, code, s.now().Sub(began))
	}
	return out
}

// Operations are the names of all operations.
func Operations() []string { return operationNames[OpSlots:] }

var operationNames = [...]string{
	OpSlots: "slots", OpInfo: "info", OpLogin: "login", OpFind: "find", OpGet: "get", OpSign: "sign", OpVerify: "verify",
	OpEncrypt: "encrypt", OpDecrypt: "decrypt", OpRandom: "random", OpGenerate: "generate", OpGeneratePair: "generate_pair",
	OpCreate: "create", OpCopy: "copy", OpSet: "set", OpDestroy: "destroy", OpWrap: "wrap", OpUnwrap: "unwrap", OpDerive: "derive",
	OpKeep: "keep",
}

func known(number uint8) bool { return int(number) < len(operations) && operations[number] != nil }

func (s *Service) answer(ctx context.Context, remote string, request, out []byte) ([]byte, Code) {
	began := len(out)
	w := &Writer{B: out}
	w.U32(uint32(CKR_OK))
	err := s.handle(ctx, remote, request, w)
	if err == nil && len(w.B)-began > MaxFrame {
		err = fail(CKR_FUNCTION_FAILED, "the answer has %d bytes, more than %d", len(w.B)-began, MaxFrame)
	}
	if err == nil {
		return w.B, CKR_OK
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{CKR_GENERAL_ERROR, "internal error"}
		s.log.Error("PKCS#11 request failed", "error", err)
	}
	clear(w.B[began:])
	w.B = w.B[:began]
	w.U32(uint32(e.Code))
	w.Text(e.Msg[:min(len(e.Msg), 4096)])
	return w.B, e.Code
}

func (s *Service) handle(ctx context.Context, remote string, request []byte, w *Writer) (err error) {
	r := NewReader(request)
	number, wait := r.U8(), r.U32()
	c := &Caller{Remote: remote, Slot: r.U32()}
	token := r.Bytes()
	if len(token) > MaxToken {
		r.Fail("the client token has %d bytes, more than %d", len(token), MaxToken)
	}
	if r.Err != nil {
		return r.Err
	}
	c.Token = string(token)
	if !known(number) {
		return fail(CKR_FUNCTION_NOT_SUPPORTED, "operation %d is none of version %d of the protocol", number, Version)
	}
	ctx, cancel := context.WithTimeout(ctx, deadline(wait))
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("panic in a PKCS#11 request", "operation", number, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = &Error{CKR_GENERAL_ERROR, "internal error"}
		}
	}()
	return operations[number](ctx, s, c, r, w)
}

func deadline(milliseconds uint32) time.Duration {
	if milliseconds == 0 {
		return defaultWait
	}
	return min(time.Duration(milliseconds)*time.Millisecond, maxWait)
}
