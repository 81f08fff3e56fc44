package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
)

// Signer is a version of a named key as a crypto.Signer. It is safe for
// concurrent use.
type Signer struct{ keyVersion }

var _ crypto.Signer = (*Signer)(nil)

// Signer returns a version of a key of type ecdsa-…, rsa-… or ed25519 to sign
// with; version 0 is the one that is the newest now. It reads the key, and stays
// with the version: after a rotation ask for a new one.
func (c *Client) Signer(ctx context.Context, name string, version int) (*Signer, error) {
	v, err := c.keyVersion(ctx, name, version)
	if err != nil {
		return nil, err
	}
	return &Signer{*v}, nil
}

// WithContext returns a signer whose calls end with ctx. Without one a call ends
// after the client's timeout.
func (s *Signer) WithContext(ctx context.Context) *Signer {
	d := *s
	d.ctx = ctx
	return &d
}

// hashNames are the server's names of hash algorithms.
var hashNames = map[crypto.Hash]string{
	crypto.SHA1:   "sha1",
	crypto.SHA224: "sha2-224", crypto.SHA256: "sha2-256", crypto.SHA384: "sha2-384", crypto.SHA512: "sha2-512",
	crypto.SHA3_224: "sha3-224", crypto.SHA3_256: "sha3-256", crypto.SHA3_384: "sha3-384", crypto.SHA3_512: "sha3-512",
}

// Sign signs a digest that was made with opts.HashFunc(); random numbers are the
// HSM's, so the reader is not used. By type of the key:
//
//   - ECDSA: the signature is in ASN.1, as ecdsa.VerifyASN1 wants it.
//   - RSA: PSS if opts is an *rsa.PSSOptions, else PKCS #1 v1.5. With v1.5 and
//     hash 0 digest is signed as it is.
//   - Ed25519: digest is the message itself and the hash 0, as in crypto/ed25519.
//     Ed25519ph and Ed25519ctx are refused.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	req, err := s.request(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", s.name, err)
	}
	answer, err := s.client.Sign(s.context(), *req)
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(answer.Signature, s.prefix())
	if !ok {
		return nil, fmt.Errorf("the server's signature begins with %.12q, not with %q", answer.Signature, s.prefix())
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("the server's signature: %w", err)
	}
	return signature, nil
}

func (s *Signer) request(digest []byte, opts crypto.SignerOpts) (*api.Sign, error) {
	if opts == nil {
		return nil, errors.New("opts must say which hash made the digest, such as crypto.SHA256")
	}
	if digest == nil {
		digest = []byte{} // nil would not be sent
	}
	hash := opts.HashFunc()
	req := &api.Sign{Name: s.name, KeyVersion: s.version, Input: digest, Prehashed: true, HashAlgorithm: hashNames[hash]}
	switch s.public.(type) {
	case ed25519.PublicKey:
		o, _ := opts.(*ed25519.Options)
		if hash != 0 || o != nil && o.Context != "" {
			return nil, errors.New("only plain Ed25519 is offered: opts must be crypto.Hash(0)")
		}
		req.Prehashed = false
		return req, nil
	case *ecdsa.PublicKey:
		req.MarshalingAlgorithm = "asn1"
	case *rsa.PublicKey:
		if err := padding(req, hash, opts); err != nil {
			return nil, err
		}
	}
	if hash == 0 && req.HashAlgorithm == "none" {
		return req, nil
	}
	if req.HashAlgorithm == "" {
		return nil, fmt.Errorf("hash %v is not offered: use SHA-1, SHA-2 or SHA-3", hash)
	}
	if len(digest) != hash.Size() {
		return nil, fmt.Errorf("a digest of %v has %d bytes, not %d", hash, hash.Size(), len(digest))
	}
	return req, nil
}

// padding chooses how an RSA key signs.
func padding(req *api.Sign, hash crypto.Hash, opts crypto.SignerOpts) error {
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok {
		req.SignatureAlgorithm = "pkcs1v15"
		if hash == 0 {
			req.HashAlgorithm = "none"
		}
		return nil
	}
	req.SignatureAlgorithm = "pss"
	switch {
	case pss.SaltLength == rsa.PSSSaltLengthAuto:
		req.SaltLength = "auto"
	case pss.SaltLength == rsa.PSSSaltLengthEqualsHash:
		req.SaltLength = "hash"
	case pss.SaltLength > 0:
		req.SaltLength = strconv.Itoa(pss.SaltLength)
	default:
		return fmt.Errorf("salt length %d is none: use rsa.PSSSaltLengthAuto, rsa.PSSSaltLengthEqualsHash or a number of bytes", pss.SaltLength)
	}
	return nil
}
