package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
)

// CheckFiles looks at the files that the configuration names: certificates can
// be read and fit their keys, the module exists, secrets are not open to all.
// Its error is Problems. It changes nothing.
func (c *Config) CheckFiles() error {
	var p Problems
	checkDir(&p, "data_dir", c.DataDir)
	for i := range c.Listeners {
		c.Listeners[i].checkFiles(&p, fmt.Sprintf("listener[%d].", i))
	}
	if c.UsesOwnCertificate() {
		c.Certificate.checkFile(&p)
	}
	if c.Token.Driver == DriverPKCS11 {
		c.Token.PKCS11.checkFiles(&p)
	}
	checkSecret(&p, "custody.pin_file", c.Custody.PINFile, true)
	c.Custody.checkAutoFiles(&p)
	for _, f := range c.Fronts() {
		if f.Enabled {
			f.checkFiles(&p, "front."+f.Name+".")
		}
	}
	if h := &c.Front.HSMDaemon; h.Enabled {
		checkSecret(&p, "front.hsmdaemon.jwt_secret_file", h.JWTSecretFile, true)
	}
	if m := &c.Front.MoVault; m.Enabled {
		checkSecret(&p, "front.movault.token_file", m.TokenFile, true)
	}
	if len(p) == 0 {
		return nil
	}
	return p
}

// checkDir accepts a directory that does not exist yet: the server makes it.
func checkDir(p *Problems, field, path string) {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
	case err != nil:
		p.add(field, path, "readable: "+err.Error())
	case !info.IsDir():
		p.add(field, path, "a directory")
	case info.Mode().Perm()&0o077 != 0:
		p.add(field, path, fmt.Sprintf("closed to other users (chmod 700), not %04o", info.Mode().Perm()))
	}
}

func (l *Listener) checkFiles(p *Problems, field string) {
	if path, ok := l.Socket(); ok {
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			p.add(field+"address", l.Address, "in a directory that exists")
		}
		return
	}
	if l.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(l.TLSCert, l.TLSKey); err != nil {
			p.add(field+"tls_cert", l.TLSCert, "a PEM certificate chain that fits tls_key: "+err.Error())
		}
	}
	if l.ClientCA != "" {
		pem, err := os.ReadFile(l.ClientCA)
		if err != nil || !x509.NewCertPool().AppendCertsFromPEM(pem) {
			p.add(field+"client_ca", l.ClientCA, "a PEM file with at least one certificate")
		}
	}
}

func (m *PKCS11) checkFiles(p *Problems) {
	if info, err := os.Stat(m.Module); err != nil || !info.Mode().IsRegular() {
		p.add("token.pkcs11.module", m.Module, "a shared object that exists")
	}
	checkSecret(p, "token.pkcs11.pin_file", m.PINFile, false) // it may be deleted after sys/init
}

// checkSecret looks at a file that holds a secret; none if path is "".
func checkSecret(p *Problems, field, path string, needed bool) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err) && !needed:
	case err != nil:
		p.add(field, path, "readable: "+err.Error())
	case info.Mode().Perm()&0o077 != 0:
		p.add(field, path, fmt.Sprintf("closed to other users (chmod 600), not %04o", info.Mode().Perm()))
	}
}
