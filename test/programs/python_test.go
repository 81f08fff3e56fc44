package programs

import (
	"net"
	"path/filepath"
	"testing"
)

// TestPython does what docs/guides/python.md says.
func TestPython(t *testing.T) {
	t.Parallel()
	for _, module := range []string{"pykcs11", "openssl", "urllib3"} {
		needPython(t, module)
	}
	need(t, "openssl", "openssl")
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kindsOf(p) {
			t.Run(kind, func(t *testing.T) { python(t, p, kind) })
		}
	})
}

func python(t *testing.T, p *provider, kind string) {
	k := p.key(t, "py-"+kind, kind)
	dir := workplace(t, p)
	_, port, _ := net.SplitHostPort(free(t))
	printed := play(t, p, dir, "python.md", "8443", port, "web.pem", k.cert, `"web"`, `"`+k.name+`"`, "object=web", "object="+k.name)
	want := []string{"signed: True", "other message: False"}
	if k.rsa() {
		want = append(want, want...)
		want = append(want, "decrypted: Meet me at dawn.")
	}
	contains(t, printed, append(want, "made and signed: True", "hello "+k.subject(t))...)
	worked(t, "PyKCS11", k)
	worked(t, "pyOpenSSL", k)
}

// needPython skips the test if a package of Python is absent.
func needPython(t testing.TB, name string) {
	t.Helper()
	module := map[string]string{"pykcs11": "PyKCS11", "openssl": "OpenSSL", "urllib3": "urllib3"}[name]
	if found, _ := filepath.Glob("/usr/lib/python3/dist-packages/" + module); len(found) == 0 {
		t.Skipf("the Debian package python3-%s is not installed", name)
	}
}
