package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/claviger/claviger/internal/fault"
)

// TestCertsOnlyByOpenSSL: OpenSSL reads the message, and finds all certificates.
func TestCertsOnlyByOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	e := newEnv(t)
	first, second := parsePEM(t, e.root("ec", 256).Certificate), parsePEM(t, e.root("ec", 384).Certificate)
	cmd := exec.Command("openssl", "pkcs7", "-inform", "DER", "-print_certs")
	cmd.Stdin = bytes.NewReader(certsOnly(first.Raw, second.Raw))
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(pemText(first.Raw))) || !bytes.Contains(out, []byte(pemText(second.Raw))) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestCSRAttributesKnown: the example of RFC 7030 section 4.5.2.
func TestCSRAttributesKnown(t *testing.T) {
	t.Parallel()
	const want = "MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="
	der, err := csrAttributes([]string{"1.2.840.113549.1.9.7", "1.2.840.10045.2.1 = 1.3.132.0.34", "1.2.840.113549.1.9.14=1.3.6.1.1.1.1.22", "1.2.840.10045.4.3.3"})
	if got := base64.StdEncoding.EncodeToString(der); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "x", "1.2.3=", "1.2.3=x", "1.2.3=1.2.3;", "9.9.9", "1.2.3=" + strings.Repeat("9", 200)} {
		if der, err := csrAttributes([]string{bad}); err == nil {
			t.Errorf("%q became %x", bad, der)
		}
	}
}

// FuzzESTRequest: what is taken is a request with a signature of its own, and its
// attributes can be read.
func FuzzESTRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	d := &device{&env{t: f}, key, nil}
	f.Add(d.csr(nil))
	f.Add(d.withPassword("secret", cbasn1.UTF8String))
	f.Add("AAAA")
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		csr, err := estRequest(text)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if csr.CheckSignature() != nil {
			t.Errorf("%q is taken", text)
		}
		if _, _, err := challengePassword(csr); err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzChallengePassword: the attributes of a request are hostile.
func FuzzChallengePassword(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	csr, err := estRequest((&device{&env{t: f}, key, nil}).withPassword("secret", cbasn1.UTF8String))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr.RawTBSCertificateRequest)
	f.Fuzz(func(t *testing.T, tbs []byte) {
		text, ok, err := challengePassword(&request{CertificateRequest: &x509.CertificateRequest{RawTBSCertificateRequest: tbs}})
		if err != nil && (ok || text != "" || fault.KindOf(err) != fault.Invalid) || ok && !bytes.Contains(tbs, []byte(text)) {
			t.Errorf("%x: %q %v %v", tbs, text, ok, err)
		}
	})
}

// FuzzCSRAttribute: what is taken is one value in DER.
func FuzzCSRAttribute(f *testing.F) {
	f.Add("1.2.3")
	f.Add("1.2.840.10045.2.1=1.3.132.0.34;2048")
	f.Fuzz(func(t *testing.T, text string) {
		der, err := csrAttribute(text)
		if err != nil {
			return
		}
		var value asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &value); err != nil || len(rest) > 0 {
			t.Errorf("%q became %x", text, der)
		}
	})
}
