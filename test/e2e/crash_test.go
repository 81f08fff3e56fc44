package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// history is what a load was told to be done.
type history struct {
	mu          sync.Mutex
	keys        map[string]int // name → newest acknowledged version
	ciphertexts []sealed
	signatures  []signed
}

type sealed struct{ key, plaintext, ciphertext string }

type signed struct{ key, input, signature string }

// TestKillAndUnsealWithOtherShares is promise P2 as a user sees it: keys,
// versions, ciphertexts and signatures that were acknowledged before a kill -9
// work afterwards, with another three of the five shares.
func TestKillAndUnsealWithOtherShares(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{Shares: 5, Threshold: 3})
	h := &history{keys: map[string]int{}}
	for name, typ := range map[string]string{
		"aes": "aes256-gcm96", "p256": "ecdsa-p256", "rsa": "rsa-2048", "ed": "ed25519",
	} {
		s.OK(t, "POST", "transit/keys/"+name, map[string]any{"type": typ})
		h.keys[name] = 1
	}
	for round := range 2 {
		stop := startLoad(s, h)
		for range 4 {
			time.Sleep(400 * time.Millisecond)
			killWorker(t, s)
		}
		s.Kill()
		stop()
		s.Start(t)
		if status, _ := s.Do(t, "GET", "transit/keys/aes", nil); status != 503 {
			t.Errorf("round %d: a restarted server answers %d before it is unsealed, want 503", round, status)
		}
		s.Unseal(t, s.Shares[2:]...)
		h.check(t, s)
	}
	key := s.OK(t, "GET", "sys/hsm", nil)["audit_public_key"].(string)
	s.Stop()
	verifyAudit(t, s, key)
	if len(h.ciphertexts) < 100 || len(h.signatures) < 10 {
		t.Errorf("the load was too small to prove anything: %d ciphertexts, %d signatures", len(h.ciphertexts), len(h.signatures))
	}
}

// startLoad makes, rotates and uses keys until stop is called. What fails is
// not recorded: the server is being killed.
func startLoad(s *harness.Server, h *history) (stop func()) {
	var ended atomic.Bool
	var wg sync.WaitGroup
	run := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; !ended.Load(); i++ {
				f(i)
			}
		})
	}
	tag := mathrand.Uint32()
	for range 3 {
		run(func(int) { h.encrypt(s, "aes") })
	}
	run(func(int) { h.sign(s, "p256") })
	run(func(int) { h.sign(s, "ed") })
	run(func(i int) { h.create(s, fmt.Sprintf("new-%d-%d", tag, i)) })
	run(func(int) { h.rotate(s, "aes"); time.Sleep(20 * time.Millisecond) })
	return func() { ended.Store(true); wg.Wait() }
}

func (h *history) encrypt(s *harness.Server, key string) {
	plaintext := random(48)
	data, ok := try(s, "transit/encrypt/"+key, map[string]any{"plaintext": plaintext})
	if ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ciphertexts = append(h.ciphertexts, sealed{key, plaintext, data["ciphertext"].(string)})
	}
}

func (h *history) sign(s *harness.Server, key string) {
	input := random(32)
	data, ok := try(s, "transit/sign/"+key, map[string]any{"input": input})
	if ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.signatures = append(h.signatures, signed{key, input, data["signature"].(string)})
	}
}

func (h *history) create(s *harness.Server, name string) {
	if _, ok := try(s, "transit/keys/"+name, map[string]any{"type": "aes256-gcm96"}); ok {
		h.mu.Lock()
		h.keys[name] = 1
		h.mu.Unlock()
		h.encrypt(s, name)
	}
}

func (h *history) rotate(s *harness.Server, name string) {
	data, ok := try(s, "transit/keys/"+name+"/rotate", nil)
	if !ok {
		return
	}
	if v, is := data["latest_version"].(float64); is {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.keys[name] = max(h.keys[name], int(v))
	}
}

// check proves that everything acknowledged is there.
func (h *history) check(t *testing.T, s *harness.Server) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, version := range h.keys {
		data := s.OK(t, "GET", "transit/keys/"+name, nil)
		if got := int(data["latest_version"].(float64)); got < version {
			t.Errorf("key %s: version %d was acknowledged, the newest is %d", name, version, got)
		}
	}
	for _, c := range h.ciphertexts {
		data := s.OK(t, "POST", "transit/decrypt/"+c.key, map[string]any{"ciphertext": c.ciphertext})
		if data["plaintext"] != c.plaintext {
			t.Errorf("key %s: another plaintext came back", c.key)
		}
	}
	for _, c := range h.signatures {
		data := s.OK(t, "POST", "transit/verify/"+c.key, map[string]any{"input": c.input, "signature": c.signature})
		if data["valid"] != true {
			t.Errorf("key %s: an acknowledged signature does not verify", c.key)
		}
	}
}

// TestWorkersKilledUnderLoad is promise P5: a worker that is killed every
// second costs no caller a failed request.
func TestWorkersKilledUnderLoad(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	s.OK(t, "POST", "transit/keys/aes", nil)
	s.OK(t, "POST", "transit/keys/p256", map[string]any{"type": "ecdsa-p256"})
	l := startCounting(s, "transit/encrypt/aes", "transit/sign/p256")
	for range 6 {
		time.Sleep(time.Second)
		killWorker(t, s)
	}
	l.finish(t, 500)
}

// counting is a load in which no request may fail.
type counting struct {
	ended  atomic.Bool
	wg     sync.WaitGroup
	done   atomic.Int64
	failed atomic.Int64
	first  atomic.Pointer[string]
}

func startCounting(s *harness.Server, paths ...string) *counting {
	l := &counting{}
	for _, path := range paths {
		for range 4 {
			l.wg.Go(func() {
				for !l.ended.Load() {
					l.one(s, path)
				}
			})
		}
	}
	return l
}

func (l *counting) one(s *harness.Server, path string) {
	data := random(32)
	status, answer, err := s.Try("POST", path, s.RootToken, map[string]any{"plaintext": data, "input": data})
	if err == nil && status == 200 {
		l.done.Add(1)
		return
	}
	l.failed.Add(1)
	text := fmt.Sprintf("%s: status %d: %v %v", path, status, answer, err)
	l.first.CompareAndSwap(nil, &text)
}

func (l *counting) finish(t *testing.T, atLeast int64) {
	t.Helper()
	l.ended.Store(true)
	l.wg.Wait()
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed; the first: %s", n, n+l.done.Load(), *l.first.Load())
	}
	if n := l.done.Load(); n < atLeast {
		t.Errorf("only %d requests were done, want at least %d", n, atLeast)
	}
}

func try(s *harness.Server, path string, body any) (map[string]any, bool) {
	status, answer, err := s.Try("POST", path, s.RootToken, body)
	if err != nil || status != 200 {
		return nil, false
	}
	data, ok := answer["data"].(map[string]any)
	return data, ok
}

func killWorker(t *testing.T, s *harness.Server) {
	t.Helper()
	workers := s.Workers(t)
	if len(workers) == 0 {
		return
	}
	syscall.Kill(workers[mathrand.IntN(len(workers))], syscall.SIGKILL)
}

// verifyAudit runs the offline verifier over the server's audit log; a log with
// one changed byte must not pass.
func verifyAudit(t *testing.T, s *harness.Server, publicKey string) {
	t.Helper()
	dir := t.TempDir()
	key, log, forged := filepath.Join(dir, "audit.pem"), filepath.Join(s.Dir, "data", "audit.log"), filepath.Join(dir, "forged.log")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	write(t, key, []byte(publicKey))
	if out, err := exec.Command(harness.Binary(t), "audit", "verify", "--public-key", key, log).CombinedOutput(); err != nil {
		t.Errorf("claviger audit verify: %v\n%s", err, out)
	}
	at := bytes.Index(text[len(text)/2:], []byte("transit.encrypt")) + len(text)/2
	text[at] ^= 1
	write(t, forged, text)
	if out, err := exec.Command(harness.Binary(t), "audit", "verify", "--public-key", key, forged).CombinedOutput(); err == nil {
		t.Errorf("a forged audit log passes:\n%s", out)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}
