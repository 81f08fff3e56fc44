package p11

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// FuzzHandle: no request makes the service panic or answer what is no answer.
func FuzzHandle(f *testing.F) {
	fk, s := newFake(f, "a", "b")
	handle := privateOf(f, s, &Caller{Token: "good"}, "a").Handle
	head := func(op uint8) *Writer {
		w := &Writer{}
		w.U8(op)
		w.U32(1000)
		w.U32(0)
		w.Text("good")
		return w
	}
	for op := uint8(0); op <= OpKeep+1; op++ {
		w := head(op)
		f.Add(w.B)
		w.U64(handle)
		f.Add(bytes.Clone(w.B))
		w.U64(CKM_ECDSA)
		w.U8(ParamNone)
		w.U8(0)
		w.Bytes(make([]byte, 32))
		f.Add(bytes.Clone(w.B))
	}
	w := head(OpFind)
	var template Attributes
	template.addNumber(CKA_CLASS, CKO_PRIVATE_KEY)
	template.addBytes(CKA_LABEL, []byte("a"))
	w.Attributes(template)
	w.Bytes(nil)
	w.U32(10)
	f.Add(w.B)
	w = head(OpCreate)
	template.addBytes(CKA_VALUE, []byte("x"))
	template.addFlag(CKA_TOKEN, true)
	template.addNumber(CKA_KEY_TYPE, CKK_RSA)
	w.Attributes(template)
	f.Add(w.B)
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		answer := s.Handle(ctx, "fuzz", b, nil)
		r := NewReader(answer)
		if code := r.U32(); Code(code) == CKR_GENERAL_ERROR {
			t.Errorf("%x: %q", b, r.Bytes())
		} else if code != 0 {
			r.Bytes()
			if err := r.End(); err != nil {
				t.Errorf("%x: %x: %v", b, answer, err)
			}
		}
		fk.mu.Lock()
		fk.calls = nil
		fk.mu.Unlock()
	})
}

// FuzzAttributes: what is read is written again as it was.
func FuzzAttributes(f *testing.F) {
	w := &Writer{}
	var as Attributes
	as.addNumber(CKA_CLASS, 3)
	as.addFlag(CKA_TOKEN, true)
	as.addNumbers(CKA_ALLOWED_MECHANISMS, []uint64{1, 2})
	as.addBytes(CKA_LABEL, []byte("x"))
	w.Attributes(as)
	f.Add(w.B)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		as := r.Attributes()
		if r.End() != nil {
			return
		}
		w := &Writer{}
		w.Attributes(as)
		again := NewReader(w.B)
		if more := again.Attributes(); again.End() != nil || len(more) != len(as) {
			t.Errorf("%x became %x", b, w.B)
		}
	})
}

// FuzzPoint: DER or not, it is a part of what came.
func FuzzPoint(f *testing.F) {
	f.Add([]byte{4, 2, 1, 2})
	f.Add([]byte{4, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p := point(b); !bytes.Contains(b, p) {
			t.Errorf("%x in %x", p, b)
		}
	})
}
