package config

// EST is the listener of EST for clients that show certificates. The API's
// listeners serve EST too, but ask nobody for a certificate.
type EST struct {
	Front
	// Policies are stored policies that bind what clients may do that show a
	// certificate in place of a client token, in place of the front's own, which
	// allows them to enroll and to renew at every mount with an EST server.
	Policies []string `toml:"policies"`
}

func defaultEST() EST {
	return EST{Front: Front{Listener: Listener{Address: "127.0.0.1:8085"}}}
}

func (f *EST) validate(p *Problems) {
	const field = "front.est."
	p.policies(field+"policies", f.Policies)
	if f.Enabled && !f.TLS() {
		p.add(field+"tls_cert", f.TLSCert, "a PEM certificate chain, with tls_key: EST speaks TLS, in which clients show their certificates")
	}
}
