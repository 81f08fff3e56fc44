package pkcs11

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// TestSanitizers runs the tests in C, plain and under the address and undefined
// behaviour sanitizers: known answers, every function, servers that are killed, stopped and
// wrong, forks, threads.
func TestSanitizers(t *testing.T) {
	run(t, "test", "asan")
}

// TestFull runs them under valgrind, and fuzzes every parser for a minute.
func TestFull(t *testing.T) {
	if os.Getenv("CLAVIGER_PKCS11_FULL") == "" {
		t.Skip("takes minutes; CLAVIGER_PKCS11_FULL=1 runs it")
	}
	need(t, "valgrind", "clang")
	run(t, "valgrind")
	run(t, "fuzz")
}

// TestExports: a program that loads the module gets the three functions by which
// the others are found, and no name of ours that could meet one of its own.
func TestExports(t *testing.T) {
	need(t, "nm", "readelf")
	module := built(t, "libclaviger-pkcs11.so")
	out, err := exec.Command("nm", "-D", "--defined-only", "--format=posix", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		names = append(names, strings.Fields(line)[0])
	}
	slices.Sort(names)
	if want := []string{"C_GetFunctionList", "C_GetInterface", "C_GetInterfaceList"}; !slices.Equal(names, want) {
		t.Errorf("the module exports %v, not %v", names, want)
	}
	out, err = exec.Command("readelf", "-dW", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"NODELETE", "NOW"} {
		if !strings.Contains(string(out), flag) {
			t.Errorf("the module is not linked with %s", flag)
		}
	}
	if strings.Contains(string(out), "libpthread") || strings.Count(string(out), "(NEEDED)") != 1 {
		t.Errorf("the module needs more than the C library:\n%s", out)
	}
}

// live is a server on SoftHSM2 with the module's socket and a key.
func live(t *testing.T) (s *harness.Server, environment []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "p11") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	s = harness.SoftHSM(t, harness.Options{Sections: fmt.Sprintf("[front.pkcs11]\nenabled = true\naddress = \"unix:%s\"\nmode = \"0600\"\n", socket)})
	s.OK(t, "POST", "transit/keys/live", map[string]any{"type": "ecdsa-p256"})
	return s, append(os.Environ(), "CLAVIGER_PKCS11_CONF=/dev/null", "CLAVIGER_PKCS11_SOCKET="+socket)
}

// TestLive lets 64 threads sign and verify, forks while others are within calls,
// and unloads the module, all against a real server.
func TestLive(t *testing.T) {
	t.Parallel()
	program, module := built(t, "live"), built(t, "libclaviger-pkcs11.so")
	s, environment := live(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, module, "live")
	cmd.Env = environment
	cmd.Stdin = strings.NewReader(s.RootToken + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestTool lets pkcs11-tool test every mechanism that it knows.
func TestTool(t *testing.T) {
	t.Parallel()
	need(t, "pkcs11-tool")
	module := built(t, "libclaviger-pkcs11.so")
	s, environment := live(t)
	s.OK(t, "POST", "transit/keys/rsa", map[string]any{"type": "rsa-2048"})
	tool := func(arguments ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "pkcs11-tool", append([]string{"--module", module}, arguments...)...)
		cmd.Env = append(environment, "PIN="+s.RootToken)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("pkcs11-tool %v: %v\n%s", arguments, err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"-L"}, "login required"},
		{[]string{"-M"}, "SHA256-RSA-PKCS-PSS"},
		{[]string{"-O", "--login", "--pin", "env:PIN"}, "Private Key Object; EC"},
		{[]string{"-O"}, ""},
		{[]string{"--test", "--login", "--pin", "env:PIN"}, "No errors"},
	} {
		if out := tool(c.arguments...); !strings.Contains(out, c.want) {
			t.Errorf("pkcs11-tool %v:\n%s", c.arguments, out)
		}
	}
}
