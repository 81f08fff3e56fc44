package worker

import "sync"

// Answers lie in buffers of a few sizes, which are used again after being wiped.
const pooled = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// getBuffer returns an empty slice with room for n bytes.
func getBuffer(n int) []byte {
	b := *buffers.Get().(*[]byte)
	if cap(b) < n {
		return make([]byte, 0, n)
	}
	return b[:0]
}

func putBuffer(b []byte) {
	clear(b)
	if cap(b) == 0 || cap(b) > pooled {
		return
	}
	b = b[:0]
	buffers.Put(&b)
}
