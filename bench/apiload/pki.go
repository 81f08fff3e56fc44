package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
)

// Operations of a certificate authority; -type is that of its key.
const (
	opCertify        = "certify"          // sign a request, with a record
	opCertifyNoStore = "certify-no-store" // without
	opOCSP           = "ocsp"             // the state of a certificate, by POST
)

func isPKI(op string) bool { return op == opCertify || op == opCertifyNoStore || op == opOCSP }

// preparePKI makes an authority of its own and the request to repeat.
func preparePKI(u *url.URL, o options) ([]byte, error) {
	o.mount = "sys/mounts"
	mount := strings.NewReplacer("/", "-", ".", "-").Replace(o.key)
	if _, err := call(o, mount, map[string]any{"type": "pki"}); err != nil {
		return nil, fmt.Errorf("mounting an authority: %w", err)
	}
	o.mount = mount
	kind, bits := "ec", 256
	if strings.HasPrefix(o.keyType, "rsa-") {
		kind = "rsa"
		fmt.Sscanf(o.keyType, "rsa-%d", &bits)
	}
	root, err := call(o, "root/generate/internal", map[string]any{"common_name": "Load", "key_type": kind, "key_bits": bits, "protection": o.protection})
	if err != nil {
		return nil, fmt.Errorf("making the authority: %w", err)
	}
	role := map[string]any{"allow_any_name": true, "key_type": "ec", "no_store": o.op == opCertifyNoStore}
	if _, err := call(o, "roles/load", role); err != nil {
		return nil, fmt.Errorf("making the role: %w", err)
	}
	csr, err := makeRequest()
	if err != nil {
		return nil, err
	}
	request := map[string]any{"csr": csr, "ttl": "24h"}
	if o.op != opOCSP {
		body, err := json.Marshal(request)
		return rawRequest(u, o, mount+"/sign/load", body), err
	}
	leaf, err := call(o, "sign/load", request)
	if err != nil {
		return nil, fmt.Errorf("certifying: %w", err)
	}
	der, err := ocspRequest(fmt.Sprint(root["certificate"]), fmt.Sprint(leaf["certificate"]))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /v1/%s/ocsp HTTP/1.1\r\nHost: %s\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n%s",
		mount, u.Host, len(der), der)
	return b.Bytes(), nil
}

func makeRequest() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "www.example.com"}}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

// ocspRequest is an OCSPRequest (RFC 6960 section 4.1.1) for one certificate.
func ocspRequest(issuerPEM, leafPEM string) ([]byte, error) {
	var certs [2]*x509.Certificate
	for i, text := range []string{issuerPEM, leafPEM} {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, errors.New("the certificate is no PEM")
		}
		var err error
		if certs[i], err = x509.ParseCertificate(block.Bytes); err != nil {
			return nil, err
		}
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Public    asn1.BitString
	}
	if _, err := asn1.Unmarshal(certs[0].RawSubjectPublicKeyInfo, &key); err != nil {
		return nil, err
	}
	type certID struct {
		Hash      pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
	type single struct{ ID certID }
	type tbs struct{ List []single }
	name, public := sha256.Sum256(certs[0].RawSubject), sha256.Sum256(key.Public.RightAlign())
	id := certID{pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}, name[:], public[:], certs[1].SerialNumber}
	return asn1.Marshal(struct{ TBS tbs }{tbs{[]single{{id}}}})
}

var oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
