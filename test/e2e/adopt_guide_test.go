package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token/tokentest"
	"github.com/claviger/claviger/test/harness"
)

// Every command of the guide for adoption, in its order.
func TestAdoptGuide(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	dir := t.TempDir()
	if err := os.Symlink(harness.Binary(t), filepath.Join(dir, "claviger")); err != nil {
		t.Fatal(err)
	}
	script := exec.Command("sh", "-ceux", commandsOf(t, "../../docs/guides/adopt.md"))
	script.Dir = dir
	script.Env = append(append(os.Environ(), s.Env...), "PATH="+dir+":"+os.Getenv("PATH"), "MODULE="+s.Module, "PIN="+pin,
		"CLAVIGER_ADDR="+s.Addr, "CLAVIGER_TOKEN="+s.RootToken)
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"vault:v1:", "signer", "there already", "house:first", "Latest version", "ecdsa-p256"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	k := s.OK(t, "GET", "transit/keys/code", nil)
	if k["latest_version"] != json.Number("2") && k["latest_version"] != float64(2) || k["adopted"] != true {
		t.Errorf("%v", k)
	}
}

// A token that older programs filled, as a whole: what each naming takes, what it is
// called, and that a second run changes nothing.
func TestAdoptAll(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	const daemonID = "9bac37192b8d11e9aeab0242b5ece4c3"
	for _, object := range [][]string{
		{"--keypairgen", "--key-type", "rsa:2048", "--label", "random_test/rsa", "--id", "0080"},
		{"--keypairgen", "--key-type", "rsa:2048", "--label", "test", "--id", daemonID},
		{"--keypairgen", "--key-type", "EC:prime256v1", "--label", "my key"},
		{"--keygen", "--key-type", "AES:16", "--label", "twice", "--id", "01"},
		{"--keygen", "--key-type", "AES:32", "--label", "twice", "--id", "02"},
		{"--keygen", "--key-type", "AES:24", "--label", "odd", "--id", "03"},
	} {
		tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env, object...)
	}
	run := func(args ...string) map[string]string {
		t.Helper()
		cmd := exec.Command(harness.Binary(t), append([]string{"key", "adopt-all", "--format", "json"}, args...)...)
		cmd.Env = append(os.Environ(), "CLAVIGER_ADDR="+s.Addr, "CLAVIGER_TOKEN="+s.RootToken)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var shown struct {
			Keys []struct{ Label, ID, Name, Result string }
		}
		if err := json.Unmarshal(out, &shown); err != nil {
			t.Fatal(err)
		}
		results := map[string]string{}
		for _, k := range shown.Keys {
			results[k.Label+"/"+k.ID] = k.Result + " " + k.Name
		}
		return results
	}
	const left = "left "
	check := func(args []string, want ...string) {
		t.Helper()
		objects := []string{"random_test/rsa/0080", "test/" + daemonID, "my key/", "twice/01", "twice/02", "odd/03"}
		got := run(args...)
		for i, o := range objects {
			if got[o] != want[i] {
				t.Errorf("%v: %s: %q, want %q", args, o, got[o], want[i])
			}
		}
		if len(got) != len(objects) {
			t.Errorf("%v: %v", args, got)
		}
	}
	const daemonName, moVaultName = "9bac3719-2b8d-11e9-aeab-0242b5ece4c3", "rsa-v128-random_test.2frsa"
	check([]string{"--names", "hsmdaemon"}, left, "adopted "+daemonName, left, left, left, left)
	check([]string{"--names", "mo-vault", "--dry-run"}, "would be adopted "+moVaultName, left, left, "would be adopted aes-v1-twice", left, left)
	check([]string{"--names", "mo-vault"}, "adopted "+moVaultName, left, left, "adopted aes-v1-twice", left, left)
	for _, result := range []string{"adopted ", "there already "} {
		check(nil, result+"random_test-rsa", result+"test", result+"my-key", result+"twice-01", result+"twice-02", left)
	}
	if k := s.OK(t, "GET", "transit/keys/"+moVaultName, nil); k["adopted"] != true || k["type"] != "rsa-2048" {
		t.Errorf("%v", k)
	}
}

// An authority on a key that pkcs11-tool made, by its name as an external key.
func TestExternalAuthority(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "signer")
	tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env, "--keygen", "--key-type", "AES:16", "--label", "data")
	s.OK(t, "POST", "sys/mounts/pki", map[string]any{"type": "pki"})
	s.OK(t, "POST", "sys/external-keys/configs/house", map[string]any{"plugin": "pkcs11"})
	for _, key := range []string{"signer", "data"} {
		s.OK(t, "POST", "sys/external-keys/configs/house/keys/"+key, map[string]any{"label": key})
	}
	ask := map[string]any{"common_name": "Root", "external_key_ref": "house:signer", "key_name": "house"}
	refused := func(kind, want string, change map[string]any) {
		t.Helper()
		r := maps.Clone(ask)
		maps.Copy(r, change)
		if status, body := s.Do(t, "POST", "pki/root/generate/"+kind, r); status != 400 || !strings.Contains(fmt.Sprint(body), want) {
			t.Errorf("status %d: %v, want %q", status, body, want)
		}
	}
	refused("kms", `mount "pki/" is missing grant for key "house:signer"`, nil)
	s.OK(t, "POST", "sys/external-keys/configs/house/keys/signer/grants/pki", nil)
	s.OK(t, "POST", "sys/external-keys/configs/house/keys/data/grants/pki", nil)
	refused("internal", "cannot specify", nil)
	refused("kms", "must specify", map[string]any{"external_key_ref": ""})
	refused("kms", "is there already", map[string]any{"key_type": "ec"})
	refused("kms", "has no public half", map[string]any{"external_key_ref": "house:data"})
	refused("kms", "does not exist", map[string]any{"external_key_ref": "house:none"})
	if status, _ := s.Do(t, "LIST", "pki/keys", nil); status != 404 {
		t.Errorf("something was made: status %d", status)
	}
	root := s.OK(t, "POST", "pki/root/generate/kms", ask)
	again := s.OK(t, "POST", "pki/keys/generate/kms", map[string]any{"external_key_ref": "house:signer"})
	if again["key_id"] != root["key_id"] {
		t.Errorf("two keys of one object: %v and %v", again["key_id"], root["key_id"])
	}
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, []byte(root["certificate"].(string)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", file, file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	shown := tokentest.Tool(t, s.Module, "claviger-test", pin, s.Env, "--read-object", "--type", "pubkey", "--label", "signer")
	block, _ := pem.Decode([]byte(root["certificate"].(string)))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(cert.RawSubjectPublicKeyInfo, shown[len(shown)-64:]) {
		t.Error("the certificate is of another key")
	}
	s.OK(t, "POST", "pki/intermediate/generate/kms", map[string]any{"common_name": "Below", "external_key_ref": "house:signer"})
}
