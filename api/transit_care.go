package api

// KeyMoment says when something happened to a key.
type KeyMoment struct {
	Time    string `json:"time" audit:"plain" doc:"when, RFC 3339"`
	Version int    `json:"version" doc:"newest version at that time"`
}

// SignCSR asks for a certificate request that the key signs itself.
type SignCSR struct {
	Name    string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Version int    `json:"version,omitempty" doc:"version to use, default the newest"`
	CSR     string `json:"csr,omitempty" doc:"PEM of a certificate request whose subject and extensions are taken; default an empty subject"`
}

// SignedCSR is the answer to SignCSR.
type SignedCSR struct {
	Name string `json:"name" audit:"plain"`
	Type string `json:"type" audit:"plain"`
	CSR  string `json:"csr" audit:"-" doc:"PEM of the certificate request, PKCS #10"`
}

// SetCertificate keeps a certificate chain beside a version of a key.
type SetCertificate struct {
	Name             string `json:"-" path:"name" audit:"plain" doc:"name of the key"`
	Version          int    `json:"version,omitempty" doc:"version that the chain is for, default the newest"`
	CertificateChain string `json:"certificate_chain,omitempty" doc:"PEM of the key's certificate, followed by its issuers in order"`
}

// Backup is a key as a sealed blob.
type Backup struct {
	Backup string `json:"backup" audit:"-" doc:"base64 of the sealed backup; only this cluster restores it"`
}

// Restore brings a key back from a Backup.
type Restore struct {
	Name   string `json:"-" path:"name" audit:"plain" doc:"name to restore as, default the name at the time of the backup"`
	Backup string `json:"backup,omitempty" doc:"as backup/:name returned it"`
	Force  bool   `json:"force,omitempty" doc:"replace a key of that name, if its rules allow its deletion"`
}
