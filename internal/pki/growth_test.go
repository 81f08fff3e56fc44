package pki

import (
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/store"
)

// BenchmarkGrowth measures issuing, OCSP answers and pages of lists with
// 10^3, 10^4 … certificates in a database on the disk, up to the number in
// CLAVIGER_BENCH_CERTIFICATES (10^4 otherwise), and with 1, 10 and 100 issuers.
// The last ones are CRLs with up to 10^5 entries. cpu-µs/op is the use of the CPU.
func BenchmarkGrowth(b *testing.B) {
	most := 10_000
	if text := os.Getenv("CLAVIGER_BENCH_CERTIFICATES"); text != "" {
		n, err := strconv.Atoi(text)
		must(b, err)
		most = n
	}
	e := newEnvAt(b, filepath.Join(b.TempDir(), "db"))
	root := e.root("ec", 256)
	e.makeRole("web", nil)
	csr, _ := newCSR(b, nil)
	leaf, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
	must(b, err)
	issuers, have, last := 1, 1, leaf.SerialNumber
	measure := func() {
		name := fmt.Sprintf("issuers=%d/certificates=%d/", issuers, have)
		bench(b, name+"sign", func() {
			_, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
			must(b, err)
		})
		bench(b, name+"ocsp", func() { e.askFresh(b, root.Certificate, last) })
		bench(b, name+"page", func() {
			l, err := e.listCerts(bg, call(), &api.PKICertsQuery{After: last, Limit: 100})
			must(b, err)
			if len(l.Keys) == 0 {
				b.Fatal("an empty page")
			}
		})
	}
	for issuers = 1; issuers <= 100; issuers *= 10 {
		for n := len(e.mountState(b).issuers); n < issuers; n++ {
			e.root("ec", 256)
		}
		measure()
	}
	issuers /= 10
	for size := 1000; size <= most; size *= 10 {
		last = e.fill(b, size-have, parsePEM(b, leaf.Certificate).Raw, time.Time{})
		have = size
		measure()
	}
	for _, size := range []int{1000, 10_000, 100_000} {
		e.benchCRL(b, size, parsePEM(b, leaf.Certificate).Raw)
	}
}

// bench measures f with the CPU time of the process.
func bench(b *testing.B, name string, f func()) {
	b.Run(name, func(b *testing.B) {
		before := cpuTime()
		for b.Loop() {
			f()
		}
		b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-µs/op")
	})
}

// cpuTime is the process's use of the CPU in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func (e *env) mountState(t testing.TB) *state {
	t.Helper()
	st, err := e.state(bg, call().Mount)
	must(t, err)
	return st
}

// fill stores n certificates, or with revoked n revoked ones, as records of the
// default issuer, and returns the serial number of one that is not near the end
// of the list.
func (e *env) fill(t testing.TB, n int, der []byte, revoked time.Time) string {
	t.Helper()
	mount, issuer := call().Mount, e.mountState(t).config.DefaultIssuer
	var one string
	var batch []store.Change
	for i := range n {
		var serial [serialSize]byte
		rand.Read(serial[:])
		serial[0] = 0x40 | serial[0]&0x1f
		digits := hex.EncodeToString(serial[:])
		put, err := e.store.Put(tableCerts, mount+digits, 0, certRecord{IssuerID: issuer, Certificate: der, NotAfter: time.Now().Add(time.Hour), Role: "web", Revoked: revoked})
		must(t, err)
		batch = append(batch, put)
		if !revoked.IsZero() {
			put, err := e.store.Put(tableRevoked, mount+issuer+"/"+digits, 0, revokedRecord{Time: revoked, Reason: 1, NotAfter: time.Now().Add(time.Hour)})
			must(t, err)
			batch = append(batch, put)
		}
		if one = colons(serial[:]); len(batch) >= 500 || i == n-1 {
			must(t, e.db.Apply(bg, batch...))
			batch = batch[:0]
		}
	}
	return one
}

// askFresh asks for the state of a certificate with a nonce, so that no answer
// is kept.
func (e *env) askFresh(t testing.TB, issuerPEM, serialNumber string) {
	t.Helper()
	issuer := parsePEM(t, issuerPEM)
	digits, err := serialRecord(serialNumber)
	must(t, err)
	number, err := hex.DecodeString(digits)
	must(t, err)
	nonce := make([]byte, 16)
	rand.Read(nonce)
	der := sequence(func(b *builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *builder) {
						b.AddASN1(cbasn1.SEQUENCE, func(b *builder) { b.AddASN1ObjectIdentifier(oidSHA1) })
						b.AddASN1OctetString(digest(crypto.SHA1, issuer.RawSubject))
						b.AddASN1OctetString(digest(crypto.SHA1, publicBits(issuer.RawSubjectPublicKeyInfo)))
						b.AddASN1(cbasn1.INTEGER, func(b *builder) { b.AddBytes(number) })
					})
				})
			})
			b.AddASN1(constructed(2), func(b *builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *builder) { extension{oidOCSPNonce, false, nonce}.add(b) })
			})
		})
	})
	req, err := parseOCSP(der)
	must(t, err)
	_, until, err := e.makeOCSP(bg, call().Mount, req)
	must(t, err)
	if until.IsZero() {
		t.Fatal("the answer is an error")
	}
}

// benchCRL makes a CRL of size entries and reads it as callers do.
func (e *env) benchCRL(b *testing.B, size int, der []byte) {
	b.Helper()
	mount, issuer := call().Mount, e.mountState(b).config.DefaultIssuer
	revoked, err := e.store.Names(bg, tableRevoked, mount+issuer+"/", "", 0)
	must(b, err)
	e.fill(b, size-len(revoked), der, time.Now().UTC())
	name := fmt.Sprintf("crl=%d/", size)
	b.Run(name+"make", func(b *testing.B) {
		before := cpuTime()
		var peak uint64
		for b.Loop() {
			must(b, e.makeCRL(bg, mount, issuer, false))
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
		}
		b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-µs/op")
		b.ReportMetric(float64(peak)/(1<<20), "heap-MiB")
	})
	b.Run(name+"read", func(b *testing.B) {
		var n int
		for b.Loop() {
			list, _, err := e.currentCRL(bg, mount, issuer, false)
			must(b, err)
			n = len(list.DER)
		}
		b.ReportMetric(float64(n), "bytes")
	})
}
