package programs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// apacheBase is what a distribution's apache2.conf says before the guide's part.
const apacheBase = `ServerRoot /usr/lib/apache2
ServerName localhost
PidFile DIR/pid
ErrorLog DIR/error.log
DefaultRuntimeDir DIR
Mutex file:DIR
User www-data
Group www-data
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dir_module modules/mod_dir.so
LoadModule socache_shmcb_module modules/mod_socache_shmcb.so
LoadModule ssl_module modules/mod_ssl.so
StartServers 2
<Directory DIR/html>
    Require all granted
</Directory>
DirectoryIndex index.html
Listen ADDRESS
`

// TestApache serves mutual TLS through a graceful reload, as docs/guides/apache.md
// says.
func TestApache(t *testing.T) {
	t.Parallel()
	engine(t)
	program := need(t, "apache2", "apache2")
	each(t, func(t *testing.T, p *provider) {
		client, _, _ := p.peer(t, "caller")
		for _, kind := range kinds() {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "www-"+kind, kind)
				address := free(t)
				apache := startApache(t, program, k, address)
				d := &dialer{address: address, pool: p.pool(t), client: &client}
				d.serves(t, k, "hello")
				if strings.HasPrefix(kind, "rsa") && d.withoutSecrecy(t) {
					t.Error("the guide says that there is no TLS without forward secrecy")
				}
				old := children(apache.Process.Pid)
				if err := syscall.Kill(apache.Process.Pid, syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				apache.wait(t, "a graceful restart does not replace the processes", func() bool {
					now := children(apache.Process.Pid)
					return len(now) > 0 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) })
				})
				d.serves(t, k, "hello")
				d.client = nil
				if _, body, err := d.get(t.Context()); err == nil {
					t.Errorf("without a client certificate: %q", body)
				}
				worked(t, "apache2", k)
			})
		}
	})
}

// startApache starts an Apache of its own with the guide's configuration.
func startApache(t *testing.T, program string, k *key, address string) *process {
	t.Helper()
	p, dir := k.provider, t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "html/index.html", "hello\n")
	base := replace(t, apacheBase, "DIR", dir, "ADDRESS", address)
	if p.direct() {
		// SoftHSM2's files belong to who made them, and Apache is not to run as root.
		own(t, filepath.Dir(softhsmConf(p)))
	}
	site := replace(t, file(t, "apache.md", "/etc/apache2/sites-available/www.conf"), "*:443", address, "/var/www/html", dir+"/html",
		"/etc/apache2/www.pem", k.cert, "/etc/apache2/ca.pem", p.cas, "pkcs11:token=claviger;object=www;type=private", k.uri)
	config := write(t, dir, "apache2.conf", base+site)
	variable := replace(t, commands(t, "apache.md", "export"), modulePath, p.module, "export ", "")
	apache := start(t, p.environ(strings.TrimSpace(variable)), program, "-f", config, "-DFOREGROUND")
	t.Cleanup(func() {
		if b, err := os.ReadFile(filepath.Join(dir, "error.log")); t.Failed() && err == nil {
			t.Logf("Apache's log:\n%s", b)
		}
	})
	apache.wait(t, "it does not listen", func() bool { return listens(address) })
	return apache
}

// softhsmConf is the path of SoftHSM2's configuration.
func softhsmConf(p *provider) string {
	for _, e := range p.env {
		if path, ok := strings.CutPrefix(e, "SOFTHSM2_CONF="); ok {
			return path
		}
	}
	return ""
}

// own gives a directory of a test to the user www-data, if that is possible.
func own(t testing.TB, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	mustRun(t, environment(), "chown", "-R", "www-data", dir)
}
