package programs

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// network is a network namespace with one cable to this machine's.
type network struct {
	name        string
	here, there string // addresses of its ends
	iptables    string
}

// newNetwork makes a network namespace, if this machine lets it.
func newNetwork(t testing.TB) *network {
	t.Helper()
	ip, iptables := need(t, "ip", "iproute2"), need(t, "iptables", "iptables")
	if os.Getuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	var b [4]byte
	rand.Read(b[:])
	n := &network{name: "clv" + hex.EncodeToString(b[:]), iptables: iptables}
	subnet := fmt.Sprintf("10.%d.%d.", 128+int(b[0])%100, b[1])
	n.here, n.there = subnet+"1", subnet+"2"
	if _, err := run(t, environment(), "", ip, "netns", "add", n.name); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	t.Cleanup(func() { runAfter(ip, "netns", "del", n.name) })
	mustRun(t, environment(), ip, "link", "add", n.name, "type", "veth", "peer", "name", "c0", "netns", n.name)
	t.Cleanup(func() { runAfter(ip, "link", "del", n.name) })
	mustRun(t, environment(), ip, "addr", "add", n.here+"/30", "dev", n.name)
	mustRun(t, environment(), ip, "link", "set", n.name, "up")
	mustRun(t, environment(), ip, "-n", n.name, "addr", "add", n.there+"/30", "dev", "c0")
	mustRun(t, environment(), ip, "-n", n.name, "link", "set", "c0", "up")
	mustRun(t, environment(), ip, "-n", n.name, "link", "set", "lo", "up")
	return n
}

// inside is the command line of a program in the namespace.
func (n *network) inside(args ...string) []string {
	return append([]string{"ip", "netns", "exec", n.name}, args...)
}

// drop drops every packet, both ways, without a word to anybody.
func (n *network) drop(t testing.TB) { n.rules(t, "-A") }

// pass lets packets pass again.
func (n *network) pass(t testing.TB) { n.rules(t, "-D") }

func (n *network) rules(t testing.TB, what string) {
	t.Helper()
	for _, chain := range []string{"INPUT", "OUTPUT"} {
		line := n.inside(n.iptables, "-w", what, chain, "-o", "c0", "-j", "DROP")
		if chain == "INPUT" {
			line = n.inside(n.iptables, "-w", what, chain, "-i", "c0", "-j", "DROP")
		}
		mustRun(t, environment(), line[0], line[1:]...)
	}
}

// TestNetworkCut drops the packets between agent and server: no answer comes,
// neither yes nor no.
func TestNetworkCut(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	_, port, _ := strings.Cut(free(t), ":")
	c := prepare(t, harness.Embedded(t, harness.Options{Address: "127.0.0.1:0", Sections: fmt.Sprintf("[[listener]]\naddress = \"%s:%s\"\ninsecure = true\n", n.here, port)}))
	p := withAgent(t, c, fmt.Sprintf("addresses = [\"http://%s:%s\"]\ninsecure = true\n", n.here, port), n)
	k := p.key(t, "app", "ecdsa-p256")
	a := ready(t, p, k)

	n.drop(t)
	a.do(t, ckrDeviceError, "sign %x", digest)
	n.pass(t)
	from := time.Now()
	a.signs(t, k)
	if took := time.Since(from); took > 2*time.Second {
		t.Errorf("the first signature afterwards took %v", took)
	}

	// With signatures under way.
	a.ask(t, "threads 8 200 %s", k.name)
	time.Sleep(50 * time.Millisecond)
	n.drop(t)
	time.Sleep(8 * time.Second)
	n.pass(t)
	got := a.expect(t, ckrOK, "threads")
	if !strings.Contains(got.rest, "0x0=") || strings.Count(got.rest, "=") > 4 || strings.Count(got.rest, "=") == 4 && !strings.Contains(got.rest, ckrDeviceError+"=") {
		t.Errorf("around the cut: %s", got.rest)
	}
	a.signs(t, k)

	// Shorter than the deadline: the call itself succeeds.
	n.drop(t)
	a.ask(t, "sign %x", digest)
	time.Sleep(time.Second)
	n.pass(t)
	a.right(t, k, a.expect(t, ckrOK, "sign in a short cut"))

	// A fork meanwhile.
	n.drop(t)
	a.ask(t, "fork %x", digest)
	time.Sleep(time.Second)
	n.pass(t)
	a.right(t, k, a.expect(t, ckrOK, "sign in a child, in a short cut"))
	a.signs(t, k)
}
