package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

const (
	pemCertificate  = "CERTIFICATE"
	maxCertificates = 16 // of a chain; more is a mistake
)

// setCertificate keeps a certificate chain beside a version, for people and
// programs that read the key. Nothing is decided by it.
func (s *Service) setCertificate(ctx context.Context, c *op.Call, r *api.SetCertificate) (*api.Empty, error) {
	chain, err := parseChain(r.CertificateChain)
	if err != nil {
		return nil, err
	}
	_, err = s.update(ctx, keyName{c.Mount, r.Name}, func(k *key) (*key, []store.Change, error) {
		return s.withChain(ctx, k, r.Version, chain)
	})
	return nil, orMissing(err, "no existing key named "+r.Name+" could be found")
}

func (s *Service) withChain(ctx context.Context, k *key, asked int, chain []*x509.Certificate) (*key, []store.Change, error) {
	if err := k.usable(); err != nil {
		return nil, nil, err
	}
	if !canSign(k.meta.Type) {
		return nil, nil, invalid("key type %v has no public key that a certificate could be for", k.meta.Type)
	}
	if err := k.refuseDerived(); err != nil {
		return nil, nil, err
	}
	if asked == 0 {
		asked = k.meta.Latest
	}
	if asked < k.oldest() || asked > k.meta.Latest {
		return nil, nil, invalid("the key has no version %d that is in use: they are %d to %d", asked, k.oldest(), k.meta.Latest)
	}
	v, err := s.version(ctx, k, asked)
	if err != nil {
		return nil, nil, err
	}
	public, ok := v.public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, nil, invalid("the first certificate is not for the public key of version %d", asked).
			WithHint("begin the chain with the certificate that was issued for keys/%s/csr, or name another version", k.name.name)
	}
	put, err := s.putChain(ctx, k.name, asked, chain)
	if err != nil {
		return nil, nil, err
	}
	changed := *v
	changed.chain = chainText(rawChain(chain))
	next := k.with(k.meta)
	next.slots = slices.Clone(next.slots) // those of k stay as they are
	next.slots[asked-1] = new(slot)
	next.slots[asked-1].version.Store(&changed)
	return next, []store.Change{put}, nil
}

func (s *Service) putChain(ctx context.Context, n keyName, number int, chain []*x509.Certificate) (store.Change, error) {
	var r versionRecord
	rec, err := s.store.Get(ctx, tableVersions, n.version(number), &r)
	if err != nil {
		return store.Change{}, storeFault(err, "read the key version")
	}
	defer r.wipe()
	r.Certificates = rawChain(chain)
	put, err := s.store.Put(tableVersions, n.version(number), rec, r)
	return put, storeFault(err, "store the certificates")
}

// wipe clears the secrets that a record shows in clear.
func (r *versionRecord) wipe() {
	clear(r.Main.Secret)
	if r.MAC != nil {
		clear(r.MAC.Secret)
	}
}

// parseChain reads certificates in PEM, each of which is signed by the next.
func parseChain(text string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, invalid("certificate_chain has a PEM block %q: it may have certificates only", block.Type)
		}
		if len(chain) == maxCertificates {
			return nil, invalid("certificate_chain has more than %d certificates", maxCertificates)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid("certificate %d of certificate_chain can't be read: %v", len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("certificate_chain is no list of certificates in PEM: each begins with -----BEGIN %s-----", pemCertificate)
	}
	for i, cert := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(cert); err != nil {
			return nil, invalid("certificate %d of certificate_chain is not signed by certificate %d: %v", i+1, i+2, err).
				WithHint("put the key's certificate first, then its issuer, and so on")
		}
	}
	return chain, nil
}

func rawChain(chain []*x509.Certificate) [][]byte {
	raw := make([][]byte, len(chain))
	for i, cert := range chain {
		raw[i] = cert.Raw
	}
	return raw
}

// chainText is the PEM form of certificates, "" for none.
func chainText(raw [][]byte) string {
	var text strings.Builder
	for _, der := range raw {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
	}
	return text.String()
}
