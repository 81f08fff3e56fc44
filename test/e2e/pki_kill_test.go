package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// kills is how often the server is killed; CLAVIGER_TEST_KILLS is another number.
func kills(t *testing.T) int {
	text := os.Getenv("CLAVIGER_TEST_KILLS")
	if text == "" {
		return 9
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CLAVIGER_TEST_KILLS=%q is no number of kills", text)
	}
	return n
}

// TestKillWhileIssuing kills the server with SIGKILL while the module has the
// bytes of a certificate and has not signed them, when it has just signed them,
// and at any other moment. The module notes what it signs. Whatever it signed is
// then a certificate with a record or was reported as interrupted and counts as
// revoked; whatever a caller got has its record; no serial number is used twice.
func TestKillWhileIssuing(t *testing.T) {
	t.Parallel()
	sh := newShim(t)
	sh.env = append(sh.env, "SHIM_NOTED="+strconv.Itoa(sha512.Size384)) // only the authority signs such digests here
	s := harness.SoftHSM(t, sh.options(""))
	s.OK(t, "POST", "sys/mounts/pki", map[string]any{"type": "pki"})
	s.OK(t, "POST", "pki/root/generate/internal", map[string]any{"common_name": "Root", "key_type": "ec", "key_bits": 384})
	s.OK(t, "POST", "pki/roles/web", map[string]any{"allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec"})
	l := &lives{answered: map[string][]byte{}, interrupted: map[string][]byte{}}
	total := kills(t)
	for n := range total {
		l.live(t, s, sh, []string{"hang-before-signing", "hang-after-signing", ""}[n%3])
		s.Start(t)
		s.Unseal(t, s.Shares[0])
	}
	s.Kill()
	l.reported(t, s.Log())
	s.Start(t)
	s.Unseal(t, s.Shares[0])
	l.check(t, s, sh)
	if len(l.interrupted) < total/3 || len(l.answered) < total {
		t.Errorf("%d kills: %d certificates, %d interrupted: too few to prove anything", total, len(l.answered), len(l.interrupted))
	}
}

// lives is what came of all lives of the server.
type lives struct {
	mu          sync.Mutex
	answered    map[string][]byte // serial number to certificate in DER
	twice       []string          // serial numbers that came again
	interrupted map[string][]byte // serial number to what was to be signed
}

// live issues until the server is killed: when the module obeys the order, or
// with "" after a random time.
func (l *lives) live(t *testing.T, s *harness.Server, sh *shim, order string) {
	t.Helper()
	var ended atomic.Bool
	var wg sync.WaitGroup
	for range issuers {
		wg.Go(func() {
			for !ended.Load() {
				if data, ok := try(s, "pki/issue/web", map[string]any{"common_name": "www.example.com", "ttl": "1h"}); ok {
					l.got(data)
				}
			}
		})
	}
	time.Sleep(20*time.Millisecond + mathrand.N(40*time.Millisecond))
	if order != "" {
		path := filepath.Join(sh.dir, order)
		write(t, path, nil)
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Microsecond) {
			if _, err := os.Stat(path); os.IsNotExist(err) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no worker obeys the order %s\n%s", order, s.Log())
			}
		}
	}
	s.Kill()
	ended.Store(true)
	wg.Wait()
	l.reported(t, s.Log()) // all of it: its process has ended
}

const issuers = 6

func (l *lives) got(data map[string]any) {
	serial, der := data["serial_number"].(string), decodePEM(data["certificate"].(string))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answered[serial] != nil {
		l.twice = append(l.twice, serial)
	}
	l.answered[serial] = der
}

func decodePEM(text string) []byte {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	return block.Bytes
}

// reported reads from the log of a server that has ended what was interrupted
// before its start.
func (l *lives) reported(t *testing.T, log string) {
	t.Helper()
	for lines := bufio.NewScanner(strings.NewReader(log)); lines.Scan(); {
		var line struct{ Msg, Serial, TBS string }
		if json.Unmarshal(lines.Bytes(), &line) != nil || !strings.Contains(line.Msg, "interrupted between intent and record") {
			continue
		}
		tbs, err := base64.StdEncoding.DecodeString(line.TBS)
		if err != nil || len(tbs) == 0 {
			t.Fatalf("an interrupted certificate is reported without its content: %+v", line)
		}
		if l.interrupted[line.Serial] != nil {
			l.twice = append(l.twice, line.Serial)
		}
		l.interrupted[line.Serial] = tbs
	}
}

// check compares what callers got, what the server keeps, and what the module signed.
func (l *lives) check(t *testing.T, s *harness.Server, sh *shim) {
	t.Helper()
	if len(l.twice) > 0 {
		t.Errorf("serial numbers that were used twice: %v", l.twice)
	}
	known := map[string]bool{} // digests that may have been signed
	note := func(tbs []byte) {
		sum := sha512.Sum384(tbs)
		known[hex.EncodeToString(sum[:])] = true
	}
	revoked := map[string]bool{}
	if status, answer := s.Do(t, "GET", "pki/certs/revoked?list=true", nil); status == 200 {
		for _, serial := range answer["data"].(map[string]any)["keys"].([]any) {
			revoked[serial.(string)] = true
		}
	}
	for serial, tbs := range l.interrupted {
		if note(tbs); !revoked[serial] || l.answered[serial] != nil {
			t.Errorf("%s was interrupted: revoked %v, answered %v", serial, revoked[serial], l.answered[serial] != nil)
		}
	}
	recorded := s.OK(t, "GET", "pki/certs?list=true", nil)["keys"].([]any)
	kept, acknowledged := 0, map[string]bool{} // without a record so far
	for serial := range l.answered {
		acknowledged[serial] = true
	}
	for _, key := range recorded {
		serial := key.(string)
		if revoked[serial] {
			continue
		}
		der := decodePEM(s.OK(t, "GET", "pki/cert/"+serial, nil)["certificate"].(string))
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("%s: %v", serial, err)
		}
		note(cert.RawTBSCertificate)
		if kept++; l.answered[serial] != nil && !bytes.Equal(l.answered[serial], der) {
			t.Errorf("%s: the record is another certificate than the caller got", serial)
		}
		acknowledged[serial] = false
	}
	for serial, missing := range acknowledged {
		if missing {
			t.Errorf("%s was acknowledged and has no record", serial)
		}
	}
	signed := strings.Fields(sh.read("signed"))
	for _, digest := range signed {
		if !known[digest] {
			t.Errorf("the module signed %s, of which there is neither a record nor a report", digest)
		}
	}
	t.Logf("%d signatures: %d certificates have a record, callers got %d of them, %d were interrupted", len(signed), kept, len(l.answered), len(l.interrupted))
}
