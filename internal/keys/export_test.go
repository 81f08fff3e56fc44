package keys

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestExportFormats(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for _, typ := range []string{"ecdsa-p256", "rsa-2048", "ed25519"} {
		e.make(typ, typ)
		shown := shownKey(t, e.rotateNow(typ), "2").PublicKey
		get := func(format string) string {
			t.Helper()
			r, err := e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: typ, Version: "v2", Format: format})
			must(t, err)
			return r.Keys["2"]
		}
		der, err := base64.StdEncoding.DecodeString(get("der"))
		must(t, err)
		if _, err := x509.ParsePKIXPublicKey(der); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
		block, _ := pem.Decode([]byte(get("pem")))
		if block == nil || block.Type != "PUBLIC KEY" || string(block.Bytes) != string(der) {
			t.Errorf("%s: %q", typ, get("pem"))
		}
		if get("") != shown {
			t.Errorf("%s: %q, want %q", typ, get(""), shown)
		}
		if typ == "ed25519" {
			if get("raw") != shown {
				t.Errorf("raw %q, want %q", get("raw"), shown)
			}
			continue
		}
		_, err = e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: typ, Format: "raw"})
		wantFault(t, err, fault.Invalid, "format raw is for public keys of type ed25519")
	}
	_, err := e.exportKey(bg, call(), &api.ExportKey{Kind: "public-key", Name: "ed25519", Format: "jwk"})
	wantFault(t, err, fault.Invalid, "invalid format: jwk")
}

func TestExportCertificates(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	k := e.make("k", "ecdsa-p256")
	for _, version := range []string{"", "1", "latest"} {
		_, err := e.exportKey(bg, call(), &api.ExportKey{Kind: "certificate-chain", Name: "k", Version: version})
		wantFault(t, err, fault.Invalid, "selected key version does not have a certificate chain imported")
	}
	chain := issue(t, publicOf(t, k, "1"), "k")
	_, err := e.setCertificate(bg, call(), &api.SetCertificate{Name: "k", CertificateChain: chain})
	must(t, err)
	e.rotateNow("k")
	for _, version := range []string{"", "1"} {
		r, err := e.exportKey(bg, call(), &api.ExportKey{Kind: "certificate-chain", Name: "k", Version: version})
		must(t, err)
		if len(r.Keys) != 1 || r.Keys["1"] != chain {
			t.Errorf("%+v", r)
		}
	}
}
