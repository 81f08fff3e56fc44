package client_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

// connect returns a client of the server that the environment names.
func connect() *client.Client {
	cfg, err := client.FromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// A client of several addresses goes on where one does not answer.
func ExampleNew() {
	cfg, err := client.FromEnvironment() // CLAVIGER_ADDR, CLAVIGER_TOKEN
	if err != nil {
		log.Fatal(err)
	}
	cfg.Addresses = []string{"http://127.0.0.1:1", cfg.Address}
	cfg.Address = ""
	c, err := client.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	status, err := c.SealStatus(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sealed:", status.Sealed)
	// Output: sealed: false
}

func ExampleClient_Signer() {
	ctx, c := context.Background(), connect()
	if _, err := c.CreateKey(ctx, api.CreateKey{Name: "release", Type: "ecdsa-p256"}); err != nil {
		log.Fatal(err)
	}
	signer, err := c.Signer(ctx, "release", 0)
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256([]byte("claviger-1.2.3.tar.gz"))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], signature))
	// Output: true
}

// A TLS server whose private key never leaves the HSM: crypto/tls asks the
// signer for a signature in each handshake.
func ExampleClient_Signer_tls() {
	ctx, c := context.Background(), connect()
	if _, err := c.CreateKey(ctx, api.CreateKey{Name: "www", Type: "ecdsa-p256"}); err != nil {
		log.Fatal(err)
	}
	key, err := c.Signer(ctx, "www", 0)
	if err != nil {
		log.Fatal(err)
	}
	// A certificate of its own; for one of an authority see
	// x509.CreateCertificateRequest, which takes the signer too.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www"}, DNSNames: []string{"www.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go greet(listener)

	cert, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "www.example"})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
	// Output: hello
}

func greet(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "hello")
		conn.Close()
	}
}

func ExampleClient_Decrypter() {
	ctx, c := context.Background(), connect()
	if _, err := c.CreateKey(ctx, api.CreateKey{Name: "letters", Type: "rsa-2048"}); err != nil {
		log.Fatal(err)
	}
	decrypter, err := c.Decrypter(ctx, "letters", 0)
	if err != nil {
		log.Fatal(err)
	}
	// Whoever has the public key encrypts, without the server.
	public := decrypter.Public().(*rsa.PublicKey)
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("for your eyes"), nil)
	if err != nil {
		log.Fatal(err)
	}
	plain, err := decrypter.Decrypt(rand.Reader, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(plain))
	// Output: for your eyes
}

func ExampleClient_Sealer() {
	ctx, c := context.Background(), connect()
	if _, err := c.CreateKey(ctx, api.CreateKey{Name: "cards"}); err != nil {
		log.Fatal(err)
	}
	cards := c.Sealer("cards")
	sealed, err := cards.Seal(ctx, []byte("4000 0000 0000 0002"), []byte("customer 17"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(sealed, "vault:v1:"))

	plain, err := cards.Open(ctx, sealed, []byte("customer 17"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Equal(plain, []byte("4000 0000 0000 0002")))

	_, err = cards.Open(ctx, sealed, []byte("customer 18"))
	fmt.Println(err)
	// Output:
	// true
	// true
	// cipher: message authentication failed
}
