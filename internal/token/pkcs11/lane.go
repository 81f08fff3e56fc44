//go:build cgo

package pkcs11

/*
#cgo CFLAGS: -pthread
#cgo LDFLAGS: -pthread
#cgo noescape cl_lane_next
#cgo nocallback cl_lane_next
#cgo noescape cl_lane_write
#cgo nocallback cl_lane_write
#include "lane.h"
*/
import "C"

import (
	"fmt"
	"io"
	"syscall"
	"unsafe"
)

// Lane is a stream socket on which a process is asked for operations; see frame.go.
type Lane struct{ l *C.cl_lane }

// NewLane makes a lane of a stream socket in blocking mode.
func NewLane(fd int) (*Lane, error) {
	l := C.cl_lane_new(C.int(fd))
	if l == nil {
		return nil, syscall.ENOMEM
	}
	return &Lane{l}, nil
}

// Close wipes and frees the lane, which is not used any more. The socket stays open.
func (l *Lane) Close() { C.cl_lane_free(l.l) }

// Hold makes a slot hold a key for the operations to come. It must not run beside Next.
func (l *Lane) Hold(slot uint32, key Handle) error {
	if C.cl_lane_set(l.l, C.uint32_t(slot), 1, C.CK_ULONG(key)) != 0 {
		return fmt.Errorf("slot %d: %w", slot, syscall.ENOMEM)
	}
	return nil
}

// Drop makes a slot hold nothing. It must not run beside Next.
func (l *Lane) Drop(slot uint32) { C.cl_lane_set(l.l, C.uint32_t(slot), 0, 0) }

// Next answers operations in a session, which may be nil while no slot holds a key,
// and returns the first frame that it does not answer. With again, the frame that
// it returned last comes once more. The error is io.EOF where the socket was closed.
func (l *Lane) Next(s *Session, again bool) (Frame, error) {
	if s == nil {
		s = &Session{}
	}
	var f C.cl_frame
	repeat := C.int(0)
	if again {
		repeat = 1
	}
	switch rv := C.cl_lane_next(l.l, s.f, s.h, repeat, &f); rv {
	case C.CL_LANE_END:
		return Frame{}, io.EOF
	case C.CL_LANE_ERROR:
		return Frame{}, syscall.Errno(f.code)
	case C.CL_LANE_MEMORY:
		return Frame{}, syscall.ENOMEM
	case C.CL_LANE_LENGTH:
		return Frame{}, fmt.Errorf("%w: length %d", ErrFrame, f.code)
	default:
		out := Frame{Kind: byte(f.kind), Seq: uint32(f.seq), Reason: Reason(rv), Slot: uint32(f.slot),
			Payload: unsafe.Slice((*byte)(f.payload), int(f.len))}
		if out.Reason == Stopped {
			out.Err = &Error{FuncName(Func(f.fn), uint32(f.at)), CKR(f.code)}
		}
		return out, nil
	}
}

// Write writes whole frames. It may run beside Next.
func (l *Lane) Write(b []byte) error {
	if errno := C.cl_lane_write(l.l, (*C.uint8_t)(ptr(b)), C.size_t(len(b))); errno != 0 {
		return syscall.Errno(errno)
	}
	return nil
}
