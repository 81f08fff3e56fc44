package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// bench is what is measured: the tools, a SoftHSM2 with a token for the raw
// measurements, and the servers.
type bench struct {
	options
	dir      string
	hsmEnv   string
	rawPIN   string
	softhsm  *server
	dev      *server
	baseline *server
}

type server struct {
	addr, token string
	cmd         *exec.Cmd
}

func (b *bench) tool(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) prepare() error {
	for _, tool := range []string{"apiload", "p11load", "baseline"} {
		cmd := exec.Command("go", "build", "-o", b.tool(tool), "github.com/claviger/claviger/bench/"+tool)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", tool, err, out)
		}
	}
	if err := b.prepareToken(); err != nil {
		return err
	}
	b.baseline, b.dev, b.softhsm = &server{}, &server{}, &server{}
	if err := b.baseline.run(exec.Command(b.tool("baseline"))); err != nil {
		return err
	}
	if err := b.startDev(b.dev); err != nil {
		return err
	}
	return b.startSoftHSM()
}

func (b *bench) prepareToken() error {
	conf := filepath.Join(b.dir, "softhsm2.conf")
	tokens := filepath.Join(b.dir, "tokens")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	b.hsmEnv, b.rawPIN = "SOFTHSM2_CONF="+conf, rand.Text()
	// The PIN guards a token that lives as long as this measurement.
	cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "raw", "--pin", b.rawPIN, "--so-pin", rand.Text())
	cmd.Env = append(os.Environ(), b.hsmEnv)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("softhsm2-util: %w\n%s", err, out)
	}
	return nil
}

func (b *bench) startDev(s *server) error {
	s.token = "bench-root"
	return s.run(exec.Command(b.claviger, "server", "--dev", "--dev-root-token-id", s.token, "--listen", "127.0.0.1:0"))
}

func (b *bench) startSoftHSM() error {
	config := filepath.Join(b.dir, "claviger.toml")
	text := fmt.Sprintf("data_dir = %q\n[[listener]]\naddress = \"127.0.0.1:0\"\n[token]\ndriver = \"pkcs11\"\nlabel = \"claviger\"\non_init = \"create\"\n[token.pkcs11]\nmodule = %q\n[token.pkcs11.env]\nSOFTHSM2_CONF = %q\n",
		filepath.Join(b.dir, "data"), b.module, strings.TrimPrefix(b.hsmEnv, "SOFTHSM2_CONF="))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := b.softhsm.run(exec.Command(b.claviger, "server", "--config", config)); err != nil {
		return err
	}
	var init struct {
		Keys  []string `json:"keys_base64"`
		Token string   `json:"root_token"`
	}
	if err := b.softhsm.put("sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &init); err != nil {
		return err
	}
	b.softhsm.token = init.Token
	return b.softhsm.put("sys/unseal", map[string]any{"key": init.Keys[0]}, nil)
}

func (s *server) put(path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPut, s.addr+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", path, resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// run starts a server and waits for the line that names its address.
func (s *server) run(cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.Close()
	s.cmd = cmd
	found := make(chan string, 1)
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if a := address.FindString(lines.Text()); a != "" && s.addr == "" {
				found <- a
				break
			}
		}
		io.Copy(io.Discard, r)
	}()
	select {
	case a, ok := <-found:
		if !ok {
			return fmt.Errorf("%s ended at its start", cmd.Path)
		}
		s.addr = a
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s does not listen", cmd.Path)
	}
}

func (s *server) stop() {
	if s == nil || s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

func (b *bench) stop() {
	for _, s := range []*server{b.softhsm, b.dev, b.baseline} {
		s.stop()
	}
}

// start measures the time from process start to the first answer of a
// development server, and its resident memory when idle.
func (b *bench) start() error {
	for range b.rounds {
		d, rss, err := b.startOnce()
		if err != nil {
			return err
		}
		fmt.Printf("development server: first answer after %v, %.0f MiB resident when idle\n", d.Round(time.Millisecond), rss)
	}
	return nil
}

func (b *bench) startOnce() (time.Duration, float64, error) {
	s := &server{}
	begin := time.Now()
	if err := b.startDev(s); err != nil {
		return 0, 0, err
	}
	defer s.stop()
	resp, err := http.Get(s.addr + "/v1/sys/health")
	if err != nil {
		return 0, 0, err
	}
	resp.Body.Close()
	elapsed := time.Since(begin)
	time.Sleep(2 * time.Second)
	rss, err := residentMiB(s.cmd.Process.Pid)
	return elapsed, rss, err
}

func residentMiB(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, resident float64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, err
	}
	return resident * float64(os.Getpagesize()) / (1 << 20), nil
}
