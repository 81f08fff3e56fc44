package api

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"net/url"
)

// PKIOCSP asks for the state of certificates (RFC 6960). The body of POST is the
// request in DER with the content type application/ocsp-request; GET has it in
// base64 at the end of the path.
type PKIOCSP struct {
	Request string `json:"-" path:"request" audit:"plain" doc:"the request in base64 (GET)"`
	DER     []byte `json:"der,omitempty" audit:"-" doc:"the request in DER (POST, the body itself)"`
}

// TakeRaw takes the body of a POST.
func (r *PKIOCSP) TakeRaw(body []byte) error {
	r.DER = bytes.Clone(body)
	return nil
}

// Bytes returns the request in DER, wherever it came. A slash at the end of a
// path means nothing to a server, but is a digit of base64: where it was lost it
// is put back.
func (r *PKIOCSP) Bytes() ([]byte, error) {
	if r.Request == "" {
		return r.DER, nil
	}
	text, err := url.PathUnescape(r.Request)
	if err != nil {
		return nil, err
	}
	for _, lost := range []string{"", "/", "//"} {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			der, err := enc.DecodeString(text + lost)
			if err != nil {
				continue
			}
			var whole asn1.RawValue
			if rest, err := asn1.Unmarshal(der, &whole); err == nil && len(rest) == 0 {
				return der, nil
			}
		}
	}
	return nil, errors.New("not base64 of a value in DER")
}
