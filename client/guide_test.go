package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// program is one of the guide, with what the guide says that it prints.
type program struct{ source, output string }

var blocks = regexp.MustCompile("(?ms)^```go\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?")

func guide(t *testing.T) (programs []program) {
	t.Helper()
	text, err := os.ReadFile("../docs/guides/go.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range blocks.FindAllStringSubmatch(string(text), -1) {
		programs = append(programs, program{m[1], m[2]})
	}
	return programs
}

// compile builds a program of the guide and returns the binary's path.
func compile(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	file, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt would change the program: %v\n%s", err, out)
	}
	if out, err := exec.Command("go", "build", "-o", binary, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, source)
	}
	return binary
}

// TestGuide compiles every program of docs/guides/go.md, runs it, and compares
// what it prints.
func TestGuide(t *testing.T) {
	programs := guide(t)
	if len(programs) != 4 {
		t.Fatalf("%d programs are found in the guide", len(programs))
	}
	for _, p := range programs {
		if strings.Contains(p.source, "tls.Listen") {
			continue // TestGuideTLS
		}
		out, err := exec.Command(compile(t, p.source)).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s\n%s", err, out, p.source)
			continue
		}
		if p.output != "" && string(out) != p.output {
			t.Errorf("printed\n%s\nbut the guide says\n%s", out, p.output)
		}
		if p.output == "" {
			block, _ := pem.Decode(out)
			if block == nil {
				t.Errorf("printed %s", out)
				continue
			}
			request, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil || request.CheckSignature() != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
	}
}

// TestGuideTLS runs the guide's HTTPS server with a certificate that its key
// made, and calls it.
func TestGuideTLS(t *testing.T) {
	for _, p := range guide(t) {
		if strings.Contains(p.source, "CreateCertificateRequest") {
			if err := exec.Command(compile(t, p.source)).Run(); err != nil { // makes the key
				t.Fatal(err)
			}
		}
	}
	key := signer(t, connect(), "guide-www", 0)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www"}, DNSNames: []string{"www.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "chain.pem")
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(file, chain, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range guide(t) {
		if strings.Contains(p.source, "tls.Listen") {
			serveGuide(t, compile(t, p.source), file, chain)
			return
		}
	}
	t.Error("the guide has no TLS server")
}

func serveGuide(t *testing.T, binary, file string, chain []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, file, "127.0.0.1:0")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	var address string
	if _, serr := fmt.Sscanf(line, "listening on %s", &address); err != nil || serr != nil {
		t.Fatalf("it printed %q: %v %v\n%s", line, err, serr, &errs)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "www.example"}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + address)
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "hello\n" {
		t.Errorf("%q, %v", text, err)
	}
}
