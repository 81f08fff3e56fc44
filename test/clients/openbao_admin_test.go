package clients

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/openbao/openbao/api/v2"

	"github.com/claviger/claviger/test/harness"
)

// TestOpenBaoRemount moves an engine with OpenBao's Go client, which asks for the
// state of the move until it is done.
func TestOpenBaoRemount(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	input := &api.MountInput{Type: "transit", Description: "words", SealWrap: true,
		Config: api.MountConfigInput{DefaultLeaseTTL: "1h", MaxLeaseTTL: "2h", ListingVisibility: "unauth"}}
	if err := c.Sys().Mount("a/b", input); err != nil {
		t.Fatalf("mount: %v", err)
	}
	if _, err := c.Logical().Write("a/b/keys/k", nil); err != nil {
		t.Fatalf("key: %v", err)
	}
	if err := c.Sys().Remount("a/b", "c"); err != nil {
		t.Fatalf("remount: %v", err)
	}
	mounts, err := c.Sys().ListMounts()
	if err != nil || mounts["a/b/"] != nil || mounts["c/"] == nil {
		t.Fatalf("mounts: %+v, %v", mounts, err)
	}
	if m := mounts["c/"]; m.Config.DefaultLeaseTTL != 3600 || m.Config.MaxLeaseTTL != 7200 || m.Config.ListingVisibility != "unauth" || !m.SealWrap || m.Description != "words" {
		t.Errorf("%+v", m)
	}
	if k, err := c.Logical().Read("c/keys/k"); err != nil || k == nil {
		t.Errorf("the key: %+v, %v", k, err)
	}
	if err := c.Sys().Remount("none", "d"); err == nil || !strings.Contains(err.Error(), `no matching mount at "none/"`) {
		t.Errorf("remount of nothing: %v", err)
	}
}

// TestOpenBaoAuthMounts reads and tunes the one way to log in.
func TestOpenBaoAuthMounts(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	list, err := c.Sys().ListAuth()
	if err != nil || len(list) != 1 || list["token/"].Type != "token" || list["token/"].Config.TokenType != "default-service" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := c.Sys().TuneMount("auth/token", api.MountConfigInput{DefaultLeaseTTL: "1h", MaxLeaseTTL: "2h"}); err != nil {
		t.Fatalf("tune: %v", err)
	}
	token, err := c.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"default"}})
	if err != nil || token.Auth.LeaseDuration != 3600 {
		t.Errorf("%+v, %v", token, err)
	}
	if err := c.Sys().EnableAuthWithOptions("github", &api.EnableAuthOptions{Type: "github"}); err == nil || !strings.Contains(err.Error(), "plugin not found in the catalog: github") {
		t.Errorf("enable: %v", err)
	}
	if err := c.Sys().DisableAuth("token"); err == nil || !strings.Contains(err.Error(), "token credential backend cannot be disabled") {
		t.Errorf("disable: %v", err)
	}
}

// TestOpenBaoRotate replaces the storage key.
func TestOpenBaoRotate(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	if _, err := c.Logical().Write("transit/keys/k", nil); err != nil {
		t.Fatalf("key: %v", err)
	}
	if err := c.Sys().Rotate(); err != nil {
		t.Fatalf("rotate: %v", err)
	}
	k, err := c.Sys().KeyStatus()
	if err != nil || k.Term != 2 || k.InstallTime.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	s.Kill()
	s.Start(t)
	s.Unseal(t, s.Shares...)
	c = openbaoClient(t, s)
	c.SetToken(s.RootToken)
	if k, err := c.Sys().KeyStatus(); err != nil || k.Term != 2 {
		t.Errorf("after a restart: %+v, %v", k, err)
	}
	if k, err := c.Logical().Read("transit/keys/k"); err != nil || k == nil {
		t.Errorf("the key: %+v, %v", k, err)
	}
}

// TestOpenBaoAudit lists the audit log, and asks how it shows a value.
func TestOpenBaoAudit(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	list, err := c.Sys().ListAudit()
	if err != nil || len(list) != 1 || list["file/"].Type != "file" {
		t.Errorf("%+v, %v", list, err)
	}
	hash, err := c.Sys().AuditHash("file", "value")
	if err != nil || !strings.HasPrefix(hash, "hmac-sha256:") {
		t.Errorf("%q, %v", hash, err)
	}
	if err := c.Sys().EnableAuditWithOptions("other", &api.EnableAuditOptions{Type: "file"}); err == nil || !strings.Contains(err.Error(), "cannot enable audit device via API") {
		t.Errorf("enable: %v", err)
	}
	if err := c.Sys().DisableAudit("file"); err == nil {
		t.Error("the audit log was disabled")
	}
}

// TestOpenBaoGenerateRoot makes a root token with a custodian's shares.
func TestOpenBaoGenerateRoot(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	c := openbaoClient(t, s)
	c.SetToken(s.RootToken)
	status, err := c.Sys().GenerateRootStatus()
	if err != nil || status.Started || status.OTPLength != 26 {
		t.Fatalf("%+v, %v", status, err)
	}
	status, err = c.Sys().GenerateRootInit("", "")
	if err != nil || !status.Started || len(status.OTP) != 26 {
		t.Fatalf("%+v, %v", status, err)
	}
	otp := status.OTP
	for _, share := range s.Shares {
		if status, err = c.Sys().GenerateRootUpdate(share, status.Nonce); err != nil {
			t.Fatal(err)
		}
		if status.Complete {
			break
		}
	}
	raw, err := base64.RawStdEncoding.DecodeString(status.EncodedToken)
	if err != nil || len(raw) != len(otp) {
		t.Fatalf("%+v, %v", status, err)
	}
	for i := range raw {
		raw[i] ^= otp[i]
	}
	c.SetToken(string(raw))
	if self, err := c.Auth().Token().LookupSelf(); err != nil || self.Data["display_name"] != "root" {
		t.Errorf("%+v, %v", self, err)
	}
}
