//go:build kms

package provider

import (
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

// The wrappers of clouds refuse options that they do not have, and need a key.
func TestClouds(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_PROJECT", "AZURE_TENANT_ID"} {
		t.Setenv(name, "")
	}
	for _, name := range []string{"awskms", "gcpckms", "azurekeyvault"} {
		p, err := NewKMS(name, map[string]string{})
		if err != nil || p.Name() != name {
			t.Fatal(err)
		}
		_, err = p.Seal(t.Context(), newKey(t))
		wantKind(t, err, fault.Unavailable)
		if !strings.Contains(err.Error(), "configure it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
