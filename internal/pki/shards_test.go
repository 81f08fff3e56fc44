package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// divide sets the number of shards.
func (e *env) divide(count int) error {
	_, err := e.setCRLConfig(bg, call(), &api.SetPKICRLConfig{Shards: &count})
	return err
}

func (e *env) cluster(path string) {
	e.t.Helper()
	_, err := e.setCluster(bg, call(), &api.SetPKICluster{Path: &path})
	must(e.t, err)
}

// shard is the CRL that a certificate names, checked against its issuer and the
// certificate.
func (e *env) shard(cert, issuer *x509.Certificate) *x509.RevocationList {
	e.t.Helper()
	if len(cert.CRLDistributionPoints) != 1 {
		e.t.Fatalf("distribution points %q", cert.CRLDistributionPoints)
	}
	point := cert.CRLDistributionPoints[0]
	r := new(api.PKICRLShard)
	_, rest, _ := strings.Cut(point, "/issuer/")
	r.Issuer, rest, _ = strings.Cut(rest, "/crl/shard/")
	if _, err := fmt.Sscanf(rest, "%d/%d", &r.Count, &r.Index); err != nil {
		e.t.Fatalf("distribution point %q", point)
	}
	f, err := e.shardCRL(bg, call(), r)
	must(e.t, err)
	l, err := x509.ParseRevocationList(f.body)
	must(e.t, err)
	must(e.t, l.CheckSignatureFrom(issuer))
	i := slices.IndexFunc(l.Extensions, func(x pkix.Extension) bool { return x.Id.Equal(oidCRLScope) })
	if i < 0 || !l.Extensions[i].Critical || !bytes.Contains(l.Extensions[i].Value, []byte(point)) {
		e.t.Fatalf("the CRL does not say that it is %s", point)
	}
	return l
}

func lists(l *x509.RevocationList, cert *x509.Certificate) bool {
	return slices.ContainsFunc(l.RevokedCertificateEntries, func(r x509.RevocationListEntry) bool { return r.SerialNumber.Cmp(cert.SerialNumber) == 0 })
}

func TestShards(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := parsePEM(t, e.root("ec", 256).Certificate)
	e.makeRole("web", nil)
	before := e.signed("web")
	wantFault(t, e.divide(4), fault.Invalid, "set aia_path or path in config/cluster")
	e.cluster("https://ca.example.com/v1/pki")
	for _, count := range []int{-1, 1, 3, 512} {
		wantFault(t, e.divide(count), fault.Invalid, "power of two from 2 to 256")
	}
	must(t, e.divide(4))

	var certs []*x509.Certificate
	seen := map[string]bool{}
	for range 24 {
		c := e.signed("web")
		certs, seen[c.CRLDistributionPoints[0]] = append(certs, c), true
	}
	if len(seen) < 2 {
		t.Errorf("all certificates name %v", seen)
	}
	for i, c := range certs {
		if lists(e.shard(c, root), c) {
			t.Error("a good certificate is listed")
		}
		if i%2 == 0 {
			_, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(c.SerialNumber), Reason: 1})
			must(t, err)
			if !lists(e.shard(c, root), c) {
				t.Error("a revoked certificate is not in its shard")
			}
		}
	}
	_, err := e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(before.SerialNumber)})
	must(t, err)
	whole, parts := e.crl(), 0
	for index := range 4 {
		f, err := e.shardCRL(bg, call(), &api.PKICRLShard{Issuer: "default", Count: 4, Index: index})
		must(t, err)
		l, err := x509.ParseRevocationList(f.body)
		must(t, err)
		parts += len(l.RevokedCertificateEntries)
		for _, r := range l.RevokedCertificateEntries {
			if shardOf("", r.SerialNumber.Bytes(), 4).index != index {
				t.Errorf("%x is in shard %d", r.SerialNumber, index)
			}
		}
	}
	if len(whole.RevokedCertificateEntries) != 13 || parts != 13 || !lists(whole, before) {
		t.Errorf("%d revoked, %d in shards", len(whole.RevokedCertificateEntries), parts)
	}

	// What certificates name goes on when the mount has another number of shards
	// and another address.
	e.cluster("https://pki.example.com/v1/pki")
	must(t, e.divide(8))
	e.restart()
	if !lists(e.shard(certs[0], root), certs[0]) || lists(e.shard(certs[1], root), certs[1]) {
		t.Error("the old shards are not as before")
	}
	now := e.signed("web")
	if p := now.CRLDistributionPoints[0]; !strings.HasPrefix(p, "https://pki.example.com/v1/pki/issuer/") || !strings.Contains(p, "/crl/shard/8/") {
		t.Errorf("distribution point %s", p)
	}
	e.shard(now, root)
	must(t, e.divide(0))
	if p := e.signed("web").CRLDistributionPoints; len(p) != 0 {
		t.Errorf("distribution points %q", p)
	}
	e.shard(now, root)
	for _, r := range []api.PKICRLShard{{Count: 4, Index: 4}, {Count: 4, Index: -1}, {Count: 16}, {}} {
		r.Issuer = "default"
		_, err := e.shardCRL(bg, call(), &r)
		wantFault(t, err, fault.NotFound, "no such shard")
	}
	_, err = e.rotateCRLs(bg, call(), nil)
	must(t, err)
}

// Shards that somebody asked for are made anew before they end.
func TestShardsAreTended(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root := parsePEM(t, e.root("ec", 256).Certificate)
	e.makeRole("web", nil)
	e.cluster("https://ca.example.com/v1/pki")
	_, err := e.setCRLConfig(bg, call(), &api.SetPKICRLConfig{Shards: new(2), AutoRebuild: new(true)})
	must(t, err)
	cert := e.signed("web")
	first := e.shard(cert, root)
	_, err = e.revoke(bg, call(), &api.PKIRevoke{SerialNumber: serialText(cert.SerialNumber)})
	must(t, err)
	if again := e.shard(cert, root); again.Number.Cmp(first.Number) != 0 {
		t.Error("the shard was made at once")
	}
	e.clock.Add(int64((61 * time.Hour).Seconds()))
	must(t, e.Tend(bg, map[string]string{"pki/": "pki/"}, runNow))
	if next := e.shard(cert, root); next.Number.Cmp(first.Number) <= 0 || !lists(next, cert) {
		t.Error("the shard was not made anew")
	}
	must(t, e.Unmount(bg, "pki/"))
	if n := e.count(tableCRLs); n != 0 {
		t.Errorf("%d CRLs after unmounting", n)
	}
}

// Serial numbers that are short, or were made elsewhere, are in a shard too, and
// each in the one that its certificate would name.
func TestShardOfEverySerial(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 256)
	st, err := e.state(bg, "pki/")
	must(t, err)
	id := st.config.DefaultIssuer
	numbers := []string{"05", "0500", "3fff", "40", "4000ff", "7fffffff", "80", "ff", "ffff", "00ff", "c0123456"}
	for _, n := range numbers {
		put, err := e.sealed.Put(tableRevoked, "pki/"+id+"/"+n, 0, revokedRecord{Time: e.time(), NotAfter: e.time().Add(time.Hour)})
		must(t, err)
		must(t, e.sealed.Apply(bg, put))
	}
	for _, count := range []int{2, 16, 256} {
		found := 0
		for index := range count {
			must(t, e.revokedIn(bg, "pki/", crlScope{id, count, index}, func(serial []byte, _ *revokedRecord) error {
				found++
				if got := shardOf(id, serial, count); got.index != index {
					t.Errorf("%x is found in shard %d of %d and named by %d", serial, index, count, got.index)
				}
				return nil
			}))
		}
		if found != len(numbers) {
			t.Errorf("%d of %d found in %d shards", found, len(numbers), count)
		}
	}
}
