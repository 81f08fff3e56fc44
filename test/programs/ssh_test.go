package programs

import (
	"fmt"
	"net"
	"os"
	osuser "os/user"
	"path/filepath"
	"testing"
)

// TestSSH does what docs/guides/ssh.md says, against a real sshd.
func TestSSH(t *testing.T) {
	t.Parallel()
	need(t, "ssh", "openssh-client")
	sshd := need(t, "sshd", "openssh-server")
	if os.Getuid() == 0 {
		// Its service makes the directory.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kindsOf(p) {
			t.Run(kind, func(t *testing.T) { ssh(t, p, kind, sshd) })
		}
	})
}

func ssh(t *testing.T, p *provider, kind, sshd string) {
	k := p.key(t, "ssh-"+kind, kind)
	dir := workplace(t, p)
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "ssh_host_ed25519_key"} {
		mustRun(t, environment(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name))
	}
	module, err := filepath.EvalSymlinks(p.module) // which ssh-agent allows or not
	if err != nil {
		t.Fatal(err)
	}
	address := free(t)
	host, port, _ := net.SplitHostPort(address)
	pairs := []string{
		" login$", " " + k.name + "$", " user-ca$", " " + k.name + "$", " host-ca$", " " + k.name + "$",
		"-n alice", "-n " + me.Username, "alice@www", me.Username + "@www", "/etc/ssh/", dir + "/", "~/.ssh/", "", "ssh -o", "ssh -F config -o",
		"ssh alice@www", "ssh -F config " + me.Username + "@www", "ssh-agent -s", "ssh-agent -s -P " + module,
		"    PKCS11Provider", fmt.Sprintf("    HostName %s\n    Port %s\n    HostKeyAlias www.example.com\n    StrictHostKeyChecking yes\n    UserKnownHostsFile known_hosts\n    PKCS11Provider", host, port),
	}
	contains(t, playPart(t, p, dir, "ssh.md", "ssh-keygen", pairs...), "user certificate", "Key ID: \"alice@example.com\"")

	config := write(t, dir, "sshd_config", fmt.Sprintf(`ListenAddress %s
PidFile none
UsePAM no
StrictModes no
HostKey %s
AuthorizedKeysFile %s
Include %s
`, address, filepath.Join(dir, "ssh_host_ed25519_key"), filepath.Join(dir, "login.pub"), filepath.Join(dir, "claviger.conf")))
	server := start(t, environment(), sshd, "-D", "-e", "-f", config)
	server.wait(t, "does not listen", func() bool { return listens(address) })
	contains(t, playPart(t, p, dir, "ssh.md", "ssh -o", pairs...), "in by a certificate", "in by a key of the HSM", "in by ssh-agent")
	worked(t, "ssh", k)
	worked(t, "ssh-keygen -s", k)
}
