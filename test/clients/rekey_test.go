package clients

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/claviger/claviger/test/harness"
)

// TestVaultRekey replaces the shares through Vault's library, with a verification.
func TestVaultRekey(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{Shares: 3, Threshold: 2})
	config := vault.DefaultConfig()
	config.Address = s.Addr
	c, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(s.RootToken)
	sys := c.Sys()
	started, err := sys.RekeyInit(&vault.RekeyInitRequest{SecretShares: 2, SecretThreshold: 2, RequireVerification: true})
	if err != nil || !started.Started || started.Required != 2 || started.Nonce == "" {
		t.Fatalf("%+v, %v", started, err)
	}
	if err := sys.RekeyCancelWithNonce("another"); err == nil {
		t.Error("an attempt was cancelled by another one's nonce")
	}
	made, err := sys.RekeyUpdate(s.Shares[2], started.Nonce)
	if err != nil || made.Complete {
		t.Fatalf("%+v, %v", made, err)
	}
	if status, err := sys.RekeyStatus(); err != nil || status.Progress != 1 || status.N != 2 || !status.VerificationRequired {
		t.Errorf("%+v, %v", status, err)
	}
	made, err = sys.RekeyUpdate(s.Shares[0], started.Nonce)
	if err != nil || !made.Complete || len(made.Keys) != 2 || !made.VerificationRequired {
		t.Fatalf("%+v, %v", made, err)
	}
	if status, err := sys.RekeyVerificationStatus(); err != nil || status.Nonce != made.VerificationNonce || status.T != 2 {
		t.Errorf("%+v, %v", status, err)
	}
	for i, key := range made.KeysB64 {
		v, err := sys.RekeyVerificationUpdate(key, made.VerificationNonce)
		if err != nil || v.Complete != (i == 1) {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if err := sys.Seal(); err != nil {
		t.Fatal(err)
	}
	s.Unseal(t, made.Keys...)
}

// TestOpenBaoRekey does it through OpenBao's library, without one: the next
// unsealing proves the new shares.
func TestOpenBaoRekey(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	started, err := c.Sys().RotateRootInit(&bao.RotateInitRequest{SecretShares: 3, SecretThreshold: 2})
	if err != nil || !started.Started {
		t.Fatalf("%+v, %v", started, err)
	}
	made, err := c.Sys().RotateRootUpdate(s.Shares[0], started.Nonce)
	if err != nil || !made.Complete || len(made.Keys) != 3 {
		t.Fatalf("%+v, %v", made, err)
	}
	if err := c.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	s.Unseal(t, made.Keys[:2]...)
	if err := c.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sys().Unseal(s.Shares[0]); err == nil {
		t.Error("the old share is taken after the new ones opened")
	}
}

// TestOpenPGPjsCustodians: shares encrypted to keys that OpenPGP.js made, of version
// 4 and 6, are decrypted by it.
func TestOpenPGPjsCustodians(t *testing.T) {
	t.Parallel()
	dir := npmProgram(t, "testdata/openpgpjs", "custodian.js")
	node := func(in []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("node", append([]string{filepath.Join(dir, "custodian.js")}, args...)...)
		cmd.Stdin = bytes.NewReader(in)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, errs.Bytes())
		}
		return out
	}
	s := harness.SoftHSM(t, harness.Options{})
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	req := &bao.RekeyInitRequest{SecretShares: 2, SecretThreshold: 2}
	var private []string
	for _, version := range []string{"4", "6"} {
		private = append(private, filepath.Join(dir, "private"+version))
		public := filepath.Join(dir, "public"+version)
		node(nil, "make", version, private[len(private)-1], public)
		text, err := os.ReadFile(public)
		if err != nil {
			t.Fatal(err)
		}
		req.PGPKeys = append(req.PGPKeys, string(text))
	}
	started, err := c.Sys().RekeyInit(req)
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Sys().RekeyUpdate(s.Shares[0], started.Nonce)
	if err != nil || !made.Complete || len(made.PGPFingerprints) != 2 || len(made.PGPFingerprints[1]) != 64 {
		t.Fatalf("%+v, %v", made, err)
	}
	var shares []string
	for i, key := range made.Keys {
		message, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, string(node(message, "decrypt", private[i])))
	}
	if err := c.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	s.Unseal(t, shares...)
}
