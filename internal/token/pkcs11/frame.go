package pkcs11

import "errors"

// On the stream socket of a Lane travel frames, numbers little-endian:
//
//	u32 length of the rest ‖ u8 kind ‖ u32 sequence number ‖ payload
//
// Those of the kind FrameDo are answered in C:
//
//	u32 slot ‖ u8 Func ‖ u8 Param ‖ u32 Mech, Hash, MGF, Salt ‖ u32 n ‖
//	n × (u32 length of the nonce, of the AAD, of the input, room for the output ‖ nonce ‖ AAD ‖ input)
//
// by a frame of the same number and of the kind FrameDo|FrameAnswer:
//
//	u8 0 ‖ u32 n ‖ n × (u32 CKR ‖ u32 AtInit or AtCall ‖ u32 length ‖ output)
//
// All others, and operations that cannot be answered so, are left to the caller.

// Numbers of the frames; they are those of lane.h.
const (
	FrameHeader = 9        // bytes before the payload
	MaxFrame    = 80 << 20 // bytes of a frame, without its length
	FrameDo     = 6
	FrameAnswer = 0x80
)

// Reason says why a Lane returned a frame.
type Reason uint8

const (
	Other     Reason = 0 // it is no operation
	Malformed Reason = 1 // its kind is FrameDo, and the rest is no operation
	Empty     Reason = 2 // its slot holds no key
	// Stopped: the operation failed for what is not an item's own fault: its Init
	// call, the session, the device. It may be performed again.
	Stopped Reason = 3
)

// Frame is a frame that a Lane leaves to its caller.
type Frame struct {
	Kind    byte
	Seq     uint32
	Payload []byte // valid until the next call; may be wiped
	Reason  Reason
	Slot    uint32 // of Empty and Stopped
	Err     *Error // of Stopped
}

// ErrFrame is a stream that does not consist of frames.
var ErrFrame = errors.New("malformed frame")
