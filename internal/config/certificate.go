package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"time"
)

// Certificate is the certificate that the server issues to itself by one of its
// own mounts, for the listeners with tls_own.
type Certificate struct {
	// Mount is the mount of type pki, Role the role there that issues it.
	Mount string `toml:"mount"`
	Role  string `toml:"role"`
	// Issuer signs in place of the role's.
	Issuer string `toml:"issuer"`
	// CommonName, AltNames and IPSANs are the names by which clients call.
	CommonName string   `toml:"common_name"`
	AltNames   []string `toml:"alt_names"`
	IPSANs     []string `toml:"ip_sans"`
	// TTL is how long a certificate is valid; 0 as the role says.
	TTL Duration `toml:"ttl"`
	// File keeps the newest certificate with its key through restarts.
	File string `toml:"file"`
}

func defaultCertificate() Certificate {
	return Certificate{Mount: "pki/", File: "listener.pem"}
}

func (c *Config) completeCertificate() {
	c.Certificate.Mount = strings.Trim(c.Certificate.Mount, "/") + "/"
	c.absolute(&c.Certificate.File)
}

// UsesOwnCertificate tells whether a listener or an enabled front has the
// certificate that the server issues to itself.
func (c *Config) UsesOwnCertificate() bool {
	for i := range c.Listeners {
		if c.Listeners[i].TLSOwn {
			return true
		}
	}
	for _, f := range c.Fronts() {
		if f.Enabled && f.TLSOwn {
			return true
		}
	}
	return false
}

// Names are the names that a certificate must hold.
func (c *Certificate) Names() []string {
	names := append([]string{c.CommonName}, c.AltNames...)
	return append(names, c.IPSANs...)
}

var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$`)

func (c *Config) validateCertificate(p *Problems) {
	const field = "certificate."
	o := &c.Certificate
	p.absolute(field+"file", o.File)
	if o.Mount == "/" || strings.Contains(o.Mount, "//") {
		p.add(field+"mount", o.Mount, `the path of a mount of type pki such as "pki/"`)
	}
	for name, value := range map[string]string{"role": o.Role, "issuer": o.Issuer} {
		if strings.Contains(value, "/") || !printable(value, 128) {
			p.add(field+name, value, "a name of the mount, without slashes")
		}
	}
	for i, ip := range o.IPSANs {
		if net.ParseIP(ip) == nil {
			p.add(fmt.Sprintf("%sip_sans[%d]", field, i), ip, "an IP address")
		}
	}
	p.lasts(field+"ttl", o.TTL, 0, 20*366*24*time.Hour)
	for _, name := range append([]string{o.CommonName}, o.AltNames...) {
		if name != "" && net.ParseIP(name) == nil && !hostName.MatchString(name) {
			p.add(field+"common_name and alt_names", name, "host names and addresses by which clients call")
		}
	}
	if !c.UsesOwnCertificate() {
		return
	}
	if o.Role == "" {
		p.add(field+"role", "", "the role that issues the certificate of listeners with tls_own")
	}
	if o.CommonName == "" {
		p.add(field+"common_name", "", "the name by which clients call the listeners with tls_own")
	}
}

// checkFile looks at the file, which the server makes if it is not there.
func (c *Certificate) checkFile(p *Problems) {
	checkSecret(p, "certificate.file", c.File, false)
	_, err := tls.LoadX509KeyPair(c.File, c.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.add("certificate.file", c.File, "a file that the server made, or absent: "+err.Error())
	}
}

// endsSoon is how long before its end a certificate is warned of.
const endsSoon = 14 * 24 * time.Hour

// CertificateWarnings reads the certificates of listeners and fronts, and tells
// which of them are not valid at the time now or end soon. Files that can't be read
// are CheckFiles' concern.
func (c *Config) CertificateWarnings(now time.Time) []string {
	var w []string
	look := func(what string, l *Listener) {
		cert, key := l.TLSCert, l.TLSKey
		if l.TLSOwn {
			cert, key = c.Certificate.File, c.Certificate.File
		}
		if cert == "" {
			return
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return
		}
		until := pair.Leaf.NotAfter
		switch {
		case now.After(until):
			w = append(w, fmt.Sprintf("%s: the certificate in %s ended at %s", what, cert, until.Format(time.RFC3339)))
		case now.Before(pair.Leaf.NotBefore):
			w = append(w, fmt.Sprintf("%s: the certificate in %s is not valid before %s", what, cert, pair.Leaf.NotBefore.Format(time.RFC3339)))
		case now.Add(endsSoon).After(until) && !l.TLSOwn:
			w = append(w, fmt.Sprintf("%s: the certificate in %s ends at %s", what, cert, until.Format(time.RFC3339)))
		}
	}
	for i := range c.Listeners {
		look("listener "+c.Listeners[i].Address, &c.Listeners[i])
	}
	for _, f := range c.Fronts() {
		if f.Enabled {
			look("front "+f.Name, &f.Listener)
		}
	}
	return w
}
