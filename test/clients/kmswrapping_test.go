package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"testing"
	"time"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/transit/v2"
	"google.golang.org/protobuf/proto"

	"github.com/claviger/claviger/test/harness"
)

const unsealPolicy = `
path "transit/encrypt/autounseal" { capabilities = ["update"] }
path "transit/decrypt/autounseal" { capabilities = ["update"] }`

// TestKMSWrapping does what another Vault does that unseals itself through
// Claviger: a token that may encrypt and decrypt with one key wraps the root key,
// which must come back after rotations and restarts.
func TestKMSWrapping(t *testing.T) {
	onTokensParallel(t, func(t *testing.T, s *harness.Server) {
		ctx := context.Background()
		s.OK(t, "POST", "transit/keys/autounseal", nil)
		s.OK(t, "POST", "sys/policies/acl/autounseal", map[string]any{"policy": unsealPolicy})
		_, answer := s.Do(t, "POST", "auth/token/create-orphan", map[string]any{"policies": []string{"autounseal"}, "period": "10s"})
		token := answer["auth"].(map[string]any)["client_token"].(string)
		w := kmsWrapper(t, s, token)
		if typ, err := w.Type(ctx); err != nil || typ != wrapping.WrapperTypeTransit {
			t.Errorf("type %v, %v", typ, err)
		}
		rootKey := make([]byte, 32)
		rand.Read(rootKey)
		blob, err := w.Encrypt(ctx, rootKey)
		if err != nil || blob.KeyInfo.KeyId != "v1" {
			t.Fatalf("encrypting: %v, %v", blob, err)
		}
		s.OK(t, "POST", "transit/keys/autounseal/rotate", nil)
		if next, err := w.Encrypt(ctx, rootKey); err != nil || next.KeyInfo.KeyId != "v2" {
			t.Errorf("encrypting after the rotation: %v, %v", next, err)
		}
		if id, err := w.KeyId(ctx); err != nil || id != "v2" {
			t.Errorf("key id %q, %v", id, err)
		}
		time.Sleep(11 * time.Second) // the wrapper renews its token by itself
		stored, err := proto.Marshal(blob)
		if err != nil {
			t.Fatal(err)
		}
		kmsOpens(t, w, stored, rootKey)
		if s.Config != "" { // a development server keeps nothing
			_, answer = s.Do(t, "POST", "auth/token/create-orphan", map[string]any{"policies": []string{"autounseal"}, "period": "24h"})
			s.Kill()
			s.Start(t)
			s.Unseal(t, s.Shares...)
			kmsOpens(t, kmsWrapper(t, s, answer["auth"].(map[string]any)["client_token"].(string)), stored, rootKey)
		}
	})
}

func kmsWrapper(t *testing.T, s *harness.Server, token string) *transit.Wrapper {
	t.Helper()
	w := transit.NewWrapper()
	_, err := w.SetConfig(context.Background(), wrapping.WithConfigMap(map[string]string{
		"address": s.Addr, "token": token, "mount_path": "transit/", "key_name": "autounseal",
	}))
	if err != nil {
		t.Fatalf("configuring: %v", err)
	}
	t.Cleanup(func() { w.Finalize(context.Background()) })
	return w
}

func kmsOpens(t *testing.T, w *transit.Wrapper, stored, want []byte) {
	t.Helper()
	var blob wrapping.BlobInfo
	if err := proto.Unmarshal(stored, &blob); err != nil {
		t.Fatal(err)
	}
	got, err := w.Decrypt(context.Background(), &blob)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("decrypting: %v", err)
	}
	blob.Ciphertext[len(blob.Ciphertext)-8] ^= 1
	if _, err := w.Decrypt(context.Background(), &blob); err == nil {
		t.Error("an altered blob was decrypted")
	}
}
