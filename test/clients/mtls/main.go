// Mtls is a TLS server whose key is in a PKCS#11 token, and which demands
// certificates of its callers. Arguments: the module, the token's label, the
// key's label, the file with the callers' authority, the address. The PIN, if
// the token needs one, is in the environment as PIN.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/ThalesGroup/crypto11"
)

func main() {
	module, token, label, callers, address := os.Args[1], os.Args[2], []byte(os.Args[3]), os.Args[4], os.Args[5]
	hsm, err := crypto11.Configure(&crypto11.Config{
		Path: module, TokenLabel: token, Pin: os.Getenv("PIN"), LoginNotSupported: os.Getenv("PIN") == "",
	})
	if err != nil {
		log.Fatal(err)
	}
	key, err := hsm.FindKeyPair(nil, label)
	if err != nil {
		log.Fatal(err)
	}
	if key == nil {
		log.Fatalf("the token has no key %q", label)
	}
	certificate, err := hsm.FindCertificate(nil, label, nil)
	if err != nil {
		log.Fatal(err)
	}
	if certificate == nil {
		log.Fatalf("the token has no certificate %q", label)
	}
	authority, err := os.ReadFile(callers)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		log.Fatalf("%s holds no certificate", callers)
	}
	listener, err := tls.Listen("tcp", address, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	log.Fatal(http.Serve(listener, nil))
}
