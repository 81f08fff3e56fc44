package sss

// mul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, without tables or branches that
// depend on the values.
func mul(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return product
}

// inverse returns a^254, which is 1/a for a other than 0.
func inverse(a byte) byte {
	result := byte(1)
	for range 7 { // 254 = 2+4+…+128
		a = mul(a, a)
		result = mul(result, a)
	}
	return result
}

// evaluate returns the polynomial's value at x; coefficients[0] is the constant term.
func evaluate(coefficients []byte, x byte) byte {
	var y byte
	for i := len(coefficients) - 1; i >= 0; i-- {
		y = mul(y, x) ^ coefficients[i]
	}
	return y
}

// weights returns Lagrange's factors of the values at xs for the value at 0. The xs
// differ from each other and from 0.
func weights(xs []byte) []byte {
	ws := make([]byte, len(xs))
	for i, x := range xs {
		numerator, denominator := byte(1), byte(1)
		for j, other := range xs {
			if j != i {
				numerator = mul(numerator, other)
				denominator = mul(denominator, other^x)
			}
		}
		ws[i] = mul(numerator, inverse(denominator))
	}
	return ws
}
