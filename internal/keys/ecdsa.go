package keys

import (
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/internal/token"
)

// Signatures of ECDSA keys leave the token as r ‖ s, each as long as the order
// of the curve. On the wire they are that ("jws", RFC 7518 section 3.4) or DER
// ("asn1", RFC 3279 section 2.2.3).

func scalarSize(t token.Type) int { return (t.Bits() + 7) / 8 }

// ecdsaDER converts r ‖ s to DER.
func ecdsaDER(rs []byte) ([]byte, error) {
	n := len(rs) / 2
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(rs[:n]))
		b.AddASN1BigInt(new(big.Int).SetBytes(rs[n:]))
	})
	return b.Bytes()
}

// wellFormedDER tells whether der is an ECDSA signature value in DER: two
// positive integers and nothing behind them.
func wellFormedDER(der []byte) bool {
	var seq cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	in := cryptobyte.String(der)
	return in.ReadASN1(&seq, asn1.SEQUENCE) && in.Empty() &&
		seq.ReadASN1Integer(r) && seq.ReadASN1Integer(s) && seq.Empty() &&
		r.Sign() > 0 && s.Sign() > 0
}
