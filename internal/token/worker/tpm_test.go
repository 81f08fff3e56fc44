package worker

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token"
)

const tpmModule = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so"

// tpm is tpm2-pkcs11 over swtpm. A bare swtpm has room for three loaded objects
// and no resource manager, so each step runs in a process of its own and the
// TPM is flushed in between.
type tpm struct {
	cfg   Config
	env   []string
	flush func()
}

func newTPM(t *testing.T) *tpm {
	t.Helper()
	for _, p := range []string{"swtpm", "tpm2_ptool", "tpm2_flushcontext"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(p + " is not installed")
		}
	}
	if _, err := os.Stat(tpmModule); err != nil {
		t.Skip("tpm2-pkcs11 is not installed")
	}
	dir := t.TempDir()
	state, store, bin := filepath.Join(dir, "state"), filepath.Join(dir, "store"), filepath.Join(dir, "bin")
	for _, d := range []string{state, store, bin} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	port := startSWTPM(t, state)
	tcti := fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)
	for _, tool := range []string{"create", "createprimary", "load", "unseal", "evictcontrol", "readpublic", "changeauth", "import", "loadexternal"} {
		script := fmt.Sprintf("#!/bin/sh\n/usr/bin/tpm2_%s \"$@\"\nrc=$?\n/usr/bin/tpm2_flushcontext -t >/dev/null 2>&1\nexit $rc\n", tool)
		if err := os.WriteFile(filepath.Join(bin, "tpm2_"+tool), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := &tpm{env: []string{"TPM2_PKCS11_STORE=" + store, "TPM2_PKCS11_TCTI=" + tcti, "TPM2TOOLS_TCTI=" + tcti,
		"TPM2_PKCS11_LOG_LEVEL=0", "PATH=" + bin + ":" + os.Getenv("PATH")}}
	m.flush = func() {
		for _, what := range []string{"-t", "-l"} { // objects and sessions of processes that were killed
			m.tool(t, "tpm2_flushcontext", what)
		}
	}
	m.flush()
	m.tool(t, "tpm2_ptool", "init", "--path", store)
	m.tool(t, "tpm2_ptool", "addtoken", "--pid", "1", "--sopin", testSO, "--userpin", testPIN, "--label", "test", "--path", store)
	m.flush()
	m.cfg = Config{Module: tpmModule, Label: "test", Workers: 1, Env: m.env, Logger: softConfig(t).Logger, CallTimeout: 20 * time.Second}
	return m
}

func startSWTPM(t *testing.T, state string) (port int) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state,
			"--server", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port),
			"--ctrl", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port+1), "--flags", "not-need-init,startup-clear")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		select {
		case <-ended: // the second port was taken
		case <-time.After(time.Second):
			t.Cleanup(func() { cmd.Process.Kill(); <-ended })
			return port
		}
	}
	t.Fatal("swtpm does not start")
	return 0
}

func (m *tpm) tool(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), m.env...)
	for _, e := range m.env {
		if p, ok := bytes.CutPrefix([]byte(e), []byte("PATH=")); ok {
			if full := filepath.Join(filepath.SplitList(string(p))[0], name); fileExists(full) {
				cmd.Path = full
			}
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func fileExists(p string) bool { _, err := os.Stat(p); return err == nil }

// step runs f with a token of its own, and once more if the TPM was full.
func (m *tpm) step(t *testing.T, name string, f func(h *hsm) error) {
	t.Helper()
	var err error
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		m.flush()
		var h *hsm
		if h, err = newDevice(t, m.cfg).open(contextOf(t, time.Minute), []byte(testPIN)); err != nil {
			continue
		}
		err = f(h)
		h.Close()
		if err == nil {
			return
		}
	}
	t.Errorf("%s: %v", name, err)
}

func TestTPM(t *testing.T) {
	t.Parallel()
	m := newTPM(t)
	ctx := contextOf(t, 3*time.Minute)
	m.step(t, "provision", func(h *hsm) error { return h.Provision(ctx, false) })
	var sealed []byte
	m.step(t, "seal", func(h *hsm) (err error) {
		if h.Info().Holds[token.P256].Wrapped || !h.Info().Holds[token.P256].Object {
			t.Errorf("holds: %+v", h.Info().Holds)
		}
		sealed, err = h.SealSecret(ctx, []byte("secret"), []byte("aad"))
		return err
	})
	m.step(t, "open", func(h *hsm) error {
		got, err := h.OpenSecret(ctx, sealed, []byte("aad"))
		if err == nil && string(got) != "secret" {
			err = errors.New("another secret came out")
		}
		if err != nil {
			return err
		}
		if _, err := h.OpenSecret(ctx, sealed, []byte("other")); !errors.Is(err, token.ErrOpen) {
			t.Errorf("other aad: %v", err)
		}
		return nil
	})
	digest := sha256.Sum256([]byte("message"))
	m.step(t, "audit", func(h *hsm) error {
		st, err := h.AuditKey(ctx)
		if err != nil {
			return err
		}
		k, _ := h.Key(st)
		items := []token.Item{{In: digest[:]}}
		if err := errors.Join(k.Do(ctx, token.Op{Kind: token.Sign}, items), items[0].Err); err != nil {
			return err
		}
		checkECDSA(t, st.Public, digest[:], items[0].Out)
		return nil
	})
	var st token.Stored
	m.step(t, "generate RSA", func(h *hsm) (err error) {
		st, err = h.Generate(ctx, newSpec(token.RSA2048, token.PlaceAuto))
		return err
	})
	m.step(t, "sign RSA", func(h *hsm) error {
		k, _ := h.Key(st)
		pub := parsePublic[*rsa.PublicKey](t, st.Public)
		items := []token.Item{{In: digest[:]}}
		if err := errors.Join(k.Do(ctx, token.Op{Kind: token.Sign, Scheme: token.PKCS1v15, Hash: crypto.SHA256}, items), items[0].Err); err != nil {
			return fmt.Errorf("PKCS#1: %w", err)
		}
		if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], items[0].Out); err != nil {
			t.Error(err)
		}
		items = []token.Item{{In: digest[:]}}
		if err := errors.Join(k.Do(ctx, token.Op{Kind: token.Sign, Scheme: token.PSS, Hash: crypto.SHA256, Salt: 32}, items), items[0].Err); err != nil {
			return fmt.Errorf("PSS: %w", err)
		}
		if err := rsa.VerifyPSS(pub, crypto.SHA256, digest[:], items[0].Out, nil); err != nil {
			t.Error(err)
		}
		ct, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, []byte("plain"), []byte("label"))
		if err != nil {
			return err
		}
		items = []token.Item{{In: ct, AAD: []byte("label")}}
		if err := errors.Join(k.Do(ctx, token.Op{Kind: token.Decrypt, Scheme: token.OAEP, Hash: crypto.SHA256}, items), items[0].Err); err != nil {
			return fmt.Errorf("OAEP: %w", err)
		}
		if string(items[0].Out) != "plain" {
			t.Errorf("OAEP: %q", items[0].Out)
		}
		return nil
	})
}
