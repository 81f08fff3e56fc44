package worker

import (
	"encoding/binary"

	"github.com/claviger/claviger/internal/token/pkcs11"
)

// unit is an item on its way: what goes in and how much may come out.
type unit struct {
	nonce, aad, in []byte
	room           int // bytes of output that the module may need
	index          int // of the caller's item
}

// appendDo appends a request to perform op with the key of a slot on units.
//
//	u32 slot ‖ op ‖ u32 n ‖ n × (u32 nonce, aad, in, room ‖ nonce ‖ aad ‖ in)
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

// doRequest is a parsed operation; offsets of items are into the payload, those
// of their output follow one another with a result header in front of each.
type doRequest struct {
	slot  uint32
	op    pkcs11.Op
	items []pkcs11.Item
	room  int // bytes of all results with their headers
}

const resultHeader = 4 + 4 + 4 // CKR, which call, length

// parse fills d from p; d.items is used again from call to call.
func (d *doRequest) parse(p []byte) error {
	r := reader{b: p}
	d.slot = r.u32()
	d.op = pkcs11.Op{Func: pkcs11.Func(r.u8()), Param: pkcs11.Param(r.u8())}
	d.op.Mech, d.op.Hash, d.op.MGF, d.op.Salt = pkcs11.CKM(r.u32()), pkcs11.CKM(r.u32()), r.u32(), r.u32()
	n := int(r.u32())
	d.items, d.room = d.items[:0], 0
	if d.op.Func < pkcs11.Encrypt || d.op.Func > pkcs11.Derive || d.op.Param > pkcs11.IV || n > len(r.b)/16 {
		return errFrame
	}
	for range n {
		it := pkcs11.Item{NonceLen: r.u32(), AADLen: r.u32(), InLen: r.u32(), OutCap: r.u32()}
		off := uint32(len(p) - len(r.b))
		it.Nonce, it.AAD = off, off+it.NonceLen
		it.In = it.AAD + it.AADLen
		r.take(int(it.NonceLen))
		r.take(int(it.AADLen))
		r.take(int(it.InLen))
		d.room += resultHeader + int(it.OutCap)
		if r.bad || d.room > maxFrame/2 {
			return errFrame
		}
		d.items = append(d.items, it)
	}
	return r.end()
}

// appendResults completes an answer. The module wrote each item's output at its
// Out of mem, which begins in b's own spare room at base, so most bytes are in
// their place already and others move towards the front.
func appendResults(b []byte, base int, items []pkcs11.Item) []byte {
	mem := b[:cap(b)]
	for i := range items {
		it := &items[i]
		at := len(b)
		b = b[:at+resultHeader+int(it.OutLen)]
		copy(b[at+resultHeader:], mem[base+int(it.Out):base+int(it.Out)+int(it.OutLen)])
		binary.LittleEndian.PutUint32(b[at:], uint32(it.RV))
		binary.LittleEndian.PutUint32(b[at+4:], it.At)
		binary.LittleEndian.PutUint32(b[at+8:], it.OutLen)
	}
	return b
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
