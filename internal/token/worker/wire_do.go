package worker

import "github.com/claviger/claviger/internal/token/pkcs11"

// unit is an item on its way: what goes in and how much may come out.
type unit struct {
	nonce, aad, in []byte
	room           int // bytes of output that the module may need
	index          int // of the caller's item
}

// appendDo appends a request to perform op with the key of a slot on units, which
// a pkcs11.Lane reads.
func appendDo(b []byte, seq, slot uint32, op pkcs11.Op, units []unit) []byte {
	start := len(b)
	b = beginFrame(b, frameDo, seq)
	b = appendU32(b, slot)
	b = append(b, byte(op.Func), byte(op.Param))
	b = appendU32(b, uint32(op.Mech))
	b = appendU32(b, uint32(op.Hash))
	b = appendU32(b, op.MGF)
	b = appendU32(b, op.Salt)
	b = appendU32(b, uint32(len(units)))
	for i := range units {
		u := &units[i]
		b = appendU32(b, uint32(len(u.nonce)))
		b = appendU32(b, uint32(len(u.aad)))
		b = appendU32(b, uint32(len(u.in)))
		b = appendU32(b, uint32(u.room))
		b = append(b, u.nonce...)
		b = append(b, u.aad...)
		b = append(b, u.in...)
	}
	return endFrame(b, start)
}

// result is what became of a unit.
type result struct {
	rv  pkcs11.CKR
	at  uint32
	out []byte // aliases the answer
}

// nextResult takes one result off an answer.
func nextResult(r *reader) result {
	return result{pkcs11.CKR(r.u32()), r.u32(), r.bytes()}
}
