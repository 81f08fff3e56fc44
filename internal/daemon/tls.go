package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
)

// TLS is how a daemon speaks to servers, with TLS of version least or later. The
// client's certificate is read again for each connection. Errors are *fault.Error.
func TLS(t config.UnsealerTLS, least uint16) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: least, ServerName: t.ServerName}
	if t.CACert != "" {
		pem, err := os.ReadFile(t.CACert)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "read the authorities to trust")
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.Invalid, "%s holds no certificate in PEM form", t.CACert)
		}
	}
	if t.ClientCert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.ClientCert, t.ClientKey)
			return &pair, fault.Wrap(fault.Invalid, err, "read the client's certificate %s and its key", t.ClientCert)
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	if len(t.Pins) > 0 {
		check, err := pinCheck(t.Pins)
		if err != nil {
			return nil, err
		}
		conf.VerifyConnection = check
	}
	return conf, nil
}

// errPin is the error of a connection to a server with another key.
var errPin = errors.New("the server's public key is none of the pinned ones")

// pinCheck compares the public key of the server's own certificate, after the
// chain and the name were checked.
func pinCheck(pins []string) (func(tls.ConnectionState) error, error) {
	var sums [][32]byte
	for _, pin := range pins {
		sum, err := config.ParsePin(pin)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "read a pin")
		}
		sums = append(sums, sum)
	}
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errPin
		}
		got := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
		for _, want := range sums {
			if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
				return nil
			}
		}
		return errPin
	}, nil
}
