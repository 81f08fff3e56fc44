package hmacpool

import (
	"encoding/binary"
	"math/bits"
)

// hashSeed is the seed that cryptoserver's pools are built on.
const hashSeed = 0xC13F64AF

// messageID is MurmurHash3_x86_32 of a message with hashSeed (Austin Appleby,
// MurmurHash3.cpp). It spreads messages over secrets and protects nothing.
func messageID(message []byte) uint32 {
	h := uint32(hashSeed)
	rest := message
	for ; len(rest) >= 4; rest = rest[4:] {
		h ^= scramble(binary.LittleEndian.Uint32(rest))
		h = bits.RotateLeft32(h, 13)*5 + 0xe6546b64
	}
	var tail uint32
	for i, b := range rest {
		tail |= uint32(b) << (8 * i)
	}
	h ^= scramble(tail)
	// The length counts modulo 2^32, as in the original.
	h ^= uint32(len(message))
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

func scramble(k uint32) uint32 {
	return bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593
}
