/* SHA-1 and SHA-2 (FIPS 180-4), so that only digests travel. */
#include <string.h>

#include "module.h"

static uint32_t rotl32(uint32_t x, int n) { return x << n | x >> (32 - n); }
static uint32_t rotr32(uint32_t x, int n) { return x >> n | x << (32 - n); }
static uint64_t rotr64(uint64_t x, int n) { return x >> n | x << (64 - n); }

static const uint64_t k512[80] = {
	0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc, 0x3956c25bf348b538,
	0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242, 0x12835b0145706fbe,
	0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2, 0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
	0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
	0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5, 0x983e5152ee66dfab,
	0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
	0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed,
	0x53380d139d95b3df, 0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
	0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
	0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8, 0x19a4c116b8d2d0c8, 0x1e376c085141ab53,
	0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373,
	0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
	0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b, 0xca273eceea26619c,
	0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba, 0x0a637dc5a2c898a6,
	0x113f9804bef90dae, 0x1b710b35131c471b, 0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
	0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

static const uint64_t first[][8] = {
	[SHA1] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0},
	[SHA224] = {0xc1059ed8, 0x367cd507, 0x3070dd17, 0xf70e5939, 0xffc00b31, 0x68581511, 0x64f98fa7, 0xbefa4fa4},
	[SHA256] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
	[SHA384] = {0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17, 0x152fecd8f70e5939, 0x67332667ffc00b31,
		0x8eb44a8768581511, 0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4},
	[SHA512] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1, 0x510e527fade682d1,
		0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179},
};

static uint64_t be(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* Section 6.1.2. */
static void block1(struct sha *s, const uint8_t *p)
{
	uint32_t w[80], a = (uint32_t)s->h[0], b = (uint32_t)s->h[1], c = (uint32_t)s->h[2], d = (uint32_t)s->h[3],
		e = (uint32_t)s->h[4];
	for (int t = 0; t < 80; t++)
		w[t] = t < 16 ? (uint32_t)be(p + 4 * t, 4) : rotl32(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
	for (int t = 0; t < 80; t++) {
		uint32_t f, k;
		if (t < 20) {
			f = (b & c) | (~b & d);
			k = 0x5a827999;
		} else if (t < 40) {
			f = b ^ c ^ d;
			k = 0x6ed9eba1;
		} else if (t < 60) {
			f = (b & c) | (b & d) | (c & d);
			k = 0x8f1bbcdc;
		} else {
			f = b ^ c ^ d;
			k = 0xca62c1d6;
		}
		uint32_t next = rotl32(a, 5) + f + e + k + w[t];
		e = d;
		d = c;
		c = rotl32(b, 30);
		b = a;
		a = next;
	}
	const uint32_t add[5] = {a, b, c, d, e};
	for (int i = 0; i < 5; i++)
		s->h[i] = (uint32_t)(s->h[i] + add[i]);
}

/* Section 6.2.2; the constants are the high halves of SHA-512's. */
static void block256(struct sha *s, const uint8_t *p)
{
	uint32_t w[64], v[8];
	for (int t = 0; t < 16; t++)
		w[t] = (uint32_t)be(p + 4 * t, 4);
	for (int t = 16; t < 64; t++) {
		uint32_t x = w[t - 15], y = w[t - 2];
		w[t] = w[t - 16] + (rotr32(x, 7) ^ rotr32(x, 18) ^ x >> 3) + w[t - 7] + (rotr32(y, 17) ^ rotr32(y, 19) ^ y >> 10);
	}
	for (int i = 0; i < 8; i++)
		v[i] = (uint32_t)s->h[i];
	for (int t = 0; t < 64; t++) {
		uint32_t e = v[4], a = v[0];
		uint32_t t1 = v[7] + (rotr32(e, 6) ^ rotr32(e, 11) ^ rotr32(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
			(uint32_t)(k512[t] >> 32) + w[t];
		uint32_t t2 = (rotr32(a, 2) ^ rotr32(a, 13) ^ rotr32(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof v[0]);
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		s->h[i] = (uint32_t)(s->h[i] + v[i]);
}

/* Section 6.4.2. */
static void block512(struct sha *s, const uint8_t *p)
{
	uint64_t w[80], v[8];
	for (int t = 0; t < 16; t++)
		w[t] = be(p + 8 * t, 8);
	for (int t = 16; t < 80; t++) {
		uint64_t x = w[t - 15], y = w[t - 2];
		w[t] = w[t - 16] + (rotr64(x, 1) ^ rotr64(x, 8) ^ x >> 7) + w[t - 7] + (rotr64(y, 19) ^ rotr64(y, 61) ^ y >> 6);
	}
	memcpy(v, s->h, sizeof v);
	for (int t = 0; t < 80; t++) {
		uint64_t e = v[4], a = v[0];
		uint64_t t1 = v[7] + (rotr64(e, 14) ^ rotr64(e, 18) ^ rotr64(e, 41)) + ((e & v[5]) ^ (~e & v[6])) + k512[t] + w[t];
		uint64_t t2 = (rotr64(a, 28) ^ rotr64(a, 34) ^ rotr64(a, 39)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof v[0]);
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		s->h[i] += v[i];
}

static size_t block_size(const struct sha *s) { return s->hash >= SHA384 ? 128 : 64; }

static void block(struct sha *s, const uint8_t *p)
{
	if (s->hash == SHA1)
		block1(s, p);
	else if (s->hash <= SHA256)
		block256(s, p);
	else
		block512(s, p);
}

void sha_begin(struct sha *s, enum hash hash)
{
	*s = (struct sha){.hash = hash};
	memcpy(s->h, first[hash], sizeof s->h);
}

void sha_add(struct sha *s, const void *data, size_t n)
{
	const uint8_t *p = data;
	size_t size = block_size(s);
	s->total += n;
	while (n) {
		if (!s->used && n >= size) {
			block(s, p);
			p += size;
			n -= size;
			continue;
		}
		size_t some = n < size - s->used ? n : size - s->used;
		memcpy(s->block + s->used, p, some);
		s->used += some;
		p += some;
		n -= some;
		if (s->used == size) {
			block(s, s->block);
			s->used = 0;
		}
	}
}

size_t sha_size(enum hash hash)
{
	static const uint8_t sizes[] = {[SHA1] = 20, [SHA224] = 28, [SHA256] = 32, [SHA384] = 48, [SHA512] = 64};
	return sizes[hash];
}

/* sha_end writes the digest, returns its size and wipes s. */
size_t sha_end(struct sha *s, uint8_t out[64])
{
	static const uint8_t pad[128] = {0x80};
	size_t size = block_size(s), word = size == 128 ? 8 : 4, field = 2 * word, n = sha_size(s->hash);
	uint64_t bits = s->total * 8, high = s->total >> 61;
	uint8_t length[16];
	for (int i = 0; i < 8; i++) {
		length[i] = (uint8_t)(high >> (56 - 8 * i));
		length[8 + i] = (uint8_t)(bits >> (56 - 8 * i));
	}
	sha_add(s, pad, 1 + (2 * size - 1 - field - s->used) % size);
	sha_add(s, length + 16 - field, field);
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(s->h[i / word] >> (8 * (word - 1 - i % word)));
	explicit_bzero(s, sizeof *s);
	return n;
}
