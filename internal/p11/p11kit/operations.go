package p11kit

import (
	"crypto/sha256"
	"crypto/subtle"
	"hash"

	"github.com/claviger/claviger/internal/p11"
)

// maxData bounds what an operation of several parts collects, in bytes.
const maxData = 4 << 20

// operation is an operation of a session under way.
type operation struct {
	*search
	mechanism *p11.Mechanism
	key       p11.Key
	size      int       // of the result, 0 if that is not known before
	hash      hash.Hash // of data that is hashed here
	data      []byte    // of several parts that is not
	parts     bool      // there was a part

	has   bool // the result is there, and waits for a buffer that is large enough
	told  bool // the program knows that it is empty
	asked [sha256.Size]byte
	kept  []byte
}

var errNoOperation = refusal(ckrOperationNotInitialized, "there was no Init for this")

// begin makes an operation, which the caller puts into the session when nothing went
// wrong.
func (c *call) begin(s *session, kind int) (*operation, error) {
	if o := s.ops[kind]; o != nil && !o.told {
		return nil, refusal(ckrOperationActive, "an operation of this kind is under way in the session")
	}
	c.drop(s, kind)
	return &operation{}, nil
}

// beginKey makes an operation with a key: the mechanism is offered for use, and the
// key's attribute permits it. Without a mechanism it ends the one under way, and
// returns nil.
func (c *call) beginKey(s *session, kind int, m *p11.Mechanism, handle, use, permits uint64) (*operation, error) {
	if m == nil {
		c.drop(s, kind)
		return nil, nil
	}
	o, err := c.begin(s, kind)
	if err != nil {
		return nil, err
	}
	if info, ok := p11.MechanismOf(m.Number); !ok || info.Flags&use == 0 {
		return nil, refusal(p11.CKR_MECHANISM_INVALID, "the mechanism is not offered for this")
	}
	key, as, err := c.key(s, handle)
	if err != nil {
		return nil, err
	}
	if !as.Flag(permits, true) {
		return nil, refusal(p11.CKR_KEY_FUNCTION_NOT_PERMITTED, "the key is not for this, or no policy of the client token allows it")
	}
	o.mechanism, o.key = m, key
	if kind == signing {
		o.size = signatureSize(as)
	}
	s.ops[kind] = o
	return o, nil
}

// signatureSize is the length of signatures of a key, 0 if its attributes do not tell.
func signatureSize(as p11.Attributes) int {
	ckk, ok := as.Number(p11.CKA_KEY_TYPE)
	switch point := as.Bytes(p11.CKA_EC_POINT); {
	case ok && ckk == p11.CKK_RSA:
		return len(as.Bytes(p11.CKA_MODULUS))
	case ckk == p11.CKK_EC && len(point) > 3: // the DER of an OCTET STRING: 4, x, y
		if point[1] < 0x80 {
			return len(point) - 3
		}
		return len(point) - 4
	case ckk == p11.CKK_EC_EDWARDS:
		return 64
	}
	return 0
}

// drop ends an operation.
func (p *program) drop(s *session, kind int) {
	o := s.ops[kind]
	if o == nil {
		return
	}
	p.held -= len(o.data)
	clear(o.data)
	clear(o.kept)
	s.ops[kind] = nil
}

// active returns the operation under way: parts tells whether the call is one of an
// operation of several parts, which a call for all at once may not follow.
func (c *call) active(s *session, kind int, parts bool) (*operation, error) {
	o := s.ops[kind]
	if o == nil {
		return nil, errNoOperation
	}
	if o.parts && !parts {
		return nil, refusal(ckrOperationActive, "the operation goes on in parts: end it with …Final")
	}
	return o, nil
}

// add takes a part. A failure ends the operation.
func (c *call) add(s *session, kind int, part []byte) error {
	o, err := c.active(s, kind, true)
	if err != nil {
		return err
	}
	o.parts = true
	if o.hash != nil {
		o.hash.Write(part)
		return nil
	}
	if len(o.data)+len(part) > maxData || c.held+len(part) > maxHeld {
		c.drop(s, kind)
		return refusal(p11.CKR_DATA_LEN_RANGE, "data of one operation has 4 MiB at most, that of a program 16 MiB together")
	}
	c.held += len(part)
	o.data = append(o.data, part...)
	return nil
}

// input is what the operation works with: the digest, with true, or the data.
func (o *operation) input(last []byte) (in []byte, digested bool) {
	if o.hash == nil {
		if o.parts {
			return o.data, false
		}
		return last, false
	}
	if !o.parts {
		o.hash.Reset()
		o.hash.Write(last)
	}
	return o.hash.Sum(nil), true
}

// deliver answers with the result of an operation, as PKCS#11 (v2.40 Base, section
// 5.2) wants buffers filled: a result that does not fit waits for the next call, so
// that nothing is signed or decrypted twice. question is what the result depends on.
func (c *call) deliver(s *session, kind int, room uint32, question []byte, result func() ([]byte, error)) error {
	o := s.ops[kind]
	asked := sha256.Sum256(question)
	if !o.has && o.size > 0 && int(room) < o.size {
		c.writer.size(o.size)
		return nil
	}
	if !o.has || subtle.ConstantTimeCompare(o.asked[:], asked[:]) != 1 {
		out, err := result()
		if err != nil {
			c.drop(s, kind)
			return err
		}
		clear(o.kept)
		o.kept, o.asked, o.has = out, asked, true
	}
	if len(o.kept) > int(room) {
		c.writer.size(len(o.kept))
		return nil
	}
	c.writer.bytes(o.kept)
	if len(o.kept) == 0 && room == 0 && !o.told {
		o.told = true // asked for its length, perhaps
		return nil
	}
	c.drop(s, kind)
	return nil
}
