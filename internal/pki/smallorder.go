package pki

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
)

// smallOrder are the points of the Ed25519 curve whose order divides 8, in every
// encoding that Go's verification takes, without the sign bit. A signature of
// such a "key" can be made by anybody.
var smallOrder = func() [][]byte {
	var list [][]byte
	for _, text := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1: y = 1
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // the same, y = p+1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2: y = -1
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4: y = 0
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // the same, y = p
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			panic(err) // the table is wrong
		}
		list = append(list, b)
	}
	return list
}()

func checkEd25519(public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize {
		return invalid("the Ed25519 key has %d bytes, not %d", len(public), ed25519.PublicKeySize)
	}
	plain := bytes.Clone(public)
	plain[len(plain)-1] &= 0x7f
	for _, p := range smallOrder {
		if bytes.Equal(p, plain) {
			return invalid("the Ed25519 key is a point of small order: anybody can sign with it; make a new one")
		}
	}
	return nil
}
