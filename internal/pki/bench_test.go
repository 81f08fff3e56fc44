package pki

import (
	"testing"

	"github.com/claviger/claviger/api"
)

// BenchmarkSign is a request on its way to a certificate, without any network.
func BenchmarkSign(b *testing.B) {
	for _, noStore := range []bool{false, true} {
		name := map[bool]string{false: "stored", true: "no_store"}[noStore]
		b.Run(name, func(b *testing.B) {
			e := newEnv(b)
			e.root("ec", 256)
			e.makeRole("web", func(r *api.SetPKIRole) { r.NoStore = &noStore })
			csr, _ := newCSR(b, nil)
			b.ReportAllocs()
			for b.Loop() {
				_, err := e.signRole(bg, call(), &api.PKISign{Role: "web", CSR: csr})
				must(b, err)
			}
		})
	}
}
