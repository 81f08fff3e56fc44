package pki

import "time"

// freshness says how long an answer may be kept by those who asked; the zero
// value says not at all.
type freshness struct {
	made  time.Time
	until time.Time // before it another answer is not to be expected; zero if nobody knows
}

// Fresh is when the answer was made, and until when it need not be asked for again.
func (f freshness) Fresh() (made, until time.Time) { return f.made, f.until }

// fresh is that of a CRL: until it is made anew. Where each revocation does that,
// nobody knows when.
func (l *signedList) fresh(c *crlConfig) freshness {
	f := freshness{made: l.Made}
	if c.AutoRebuild {
		f.until = l.Until.Add(-c.grace())
		if due := l.Made.Add(c.interval()); c.Delta && due.Before(f.until) {
			f.until = due
		}
	}
	return f
}

// fresh is that of an issuer's certificate: names of issuers, and which one is
// the default, may change at any time.
func (i *issuer) fresh() freshness { return freshness{made: i.rec.Created} }

// Answers that are not JSON. Each has a type of its own, which the description of
// its operation shows.
type (
	derFile struct { // a certificate
		body []byte
		freshness
	}
	pemFile struct { // one or more certificates
		body []byte
		freshness
	}
	crlFile struct {
		body []byte
		freshness
	}
	crlPEMFile struct {
		body []byte
		freshness
	}
)

// Raw is the body of the answer (RFC 2585 section 3).
func (f *derFile) Raw() (contentType string, body []byte) { return "application/pkix-cert", f.body }

// Raw is the body of the answer (RFC 8555 section 9.1).
func (f *pemFile) Raw() (contentType string, body []byte) {
	return "application/pem-certificate-chain", f.body
}

// Raw is the body of the answer (RFC 2585 section 3).
func (f *crlFile) Raw() (contentType string, body []byte) { return "application/pkix-crl", f.body }

// Raw is the body of the answer.
func (f *crlPEMFile) Raw() (contentType string, body []byte) {
	return "application/x-pem-file", f.body
}
