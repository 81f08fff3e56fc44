package clients

import (
	"bytes"
	"context"
	"crypto"
	"os"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/claviger/claviger/test/harness"
)

// TestHashivault signs the built binary as cosign does, through sigstore's
// hashivault, and verifies it there and with the public key alone.
func TestHashivault(t *testing.T) {
	onTokens(t, hashivaultSigns)
}

func hashivaultSigns(t *testing.T, s *harness.Server) {
	t.Helper()
	t.Setenv("VAULT_ADDR", s.Addr)
	t.Setenv("VAULT_TOKEN", s.RootToken)
	binary, err := os.ReadFile(harness.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, algorithm := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"} {
		sv, err := kms.Get(ctx, "hashivault://release-"+algorithm, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		public, err := sv.CreateKey(ctx, algorithm)
		if err != nil {
			t.Fatalf("%s: creating the key: %v", algorithm, err)
		}
		if algorithm == "ed25519" {
			// hashivault hashes beforehand, which Ed25519 keys do not sign.
			continue
		}
		sig, err := sv.SignMessage(bytes.NewReader(binary))
		if err != nil {
			t.Fatalf("%s: signing: %v", algorithm, err)
		}
		verifier, err := signature.LoadVerifier(public, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(binary)); err != nil {
			t.Errorf("%s: verifying with the public key: %v", algorithm, err)
		}
		if algorithm == "rsa-2048" {
			// hashivault signs with PKCS #1 v1.5 but asks Vault to verify PSS.
			continue
		}
		if err := sv.VerifySignature(bytes.NewReader(sig), bytes.NewReader(binary), options.WithRemoteVerification(true)); err != nil {
			t.Errorf("%s: verifying by the server: %v", algorithm, err)
		}
		if err := sv.VerifySignature(bytes.NewReader(sig), bytes.NewReader(binary[1:]), options.WithRemoteVerification(true)); err == nil {
			t.Errorf("%s: a signature of another file verifies", algorithm)
		}
	}
}
