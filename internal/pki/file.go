package pki

// Answers that are not JSON. Each has a type of its own, which the description of
// its operation shows.
type (
	derFile    struct{ body []byte } // a certificate
	pemFile    struct{ body []byte } // one or more certificates
	crlFile    struct{ body []byte }
	crlPEMFile struct{ body []byte }
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
