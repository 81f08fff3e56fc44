package keys

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

const pemCSR = "CERTIFICATE REQUEST"

// signCSR makes a certificate request (PKCS #10, RFC 2986) for a version's
// public key, signed by its private key where that is.
func (s *Service) signCSR(ctx context.Context, c *op.Call, r *api.SignCSR) (*api.SignedCSR, error) {
	k, err := s.find(ctx, c.Mount, r.Name, msgNoSigningKey)
	if err != nil {
		return nil, err
	}
	if !canSign(k.meta.Type) {
		return nil, invalid("key type %v does not support signing", k.meta.Type)
	}
	if err := k.refuseDerived(); err != nil {
		return nil, err
	}
	number, err := k.forNew(r.Version, "signing")
	if err != nil {
		return nil, err
	}
	template, err := parseTemplate(r.CSR)
	if err != nil {
		return nil, err
	}
	v, err := s.version(ctx, k, number)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, signer{ctx, k.meta.Type, v})
	if err != nil {
		if _, ok := errors.AsType[*fault.Error](err); ok {
			return nil, s.logged(err, k.name)
		}
		return nil, invalid("can't make a certificate request of this template: %v", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der})
	return &api.SignedCSR{Name: k.name.name, Type: k.meta.Type.String(), CSR: string(text)}, nil
}

// parseTemplate takes the subject and the extensions of a certificate request
// in PEM. Its public key, its signature and the algorithm of that belong to
// another key and are left behind; so are its other attributes, which crypto/x509
// does not write back.
func parseTemplate(text string) (*x509.CertificateRequest, error) {
	if text == "" {
		return &x509.CertificateRequest{}, nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != pemCSR && block.Type != "NEW "+pemCSR {
		return nil, invalid("csr is no certificate request in PEM: it begins with -----BEGIN %s-----", pemCSR)
	}
	from, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, invalid("csr can't be read: %v", err)
	}
	return &x509.CertificateRequest{RawSubject: from.RawSubject, ExtraExtensions: from.Extensions}, nil
}
