package soft

import (
	"bytes"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

func TestWycheproofUnwrap(t *testing.T) {
	t.Parallel()
	vectors(t, "aes_kwp_test.json", func(t *testing.T, _ *vectorGroup, v *vector) bool {
		secret, err := Engine{}.Unwrap(v.Key, v.CT)
		switch {
		case err != nil && !errors.Is(err, token.ErrOpen):
			t.Error(err)
		case v.Result == "valid" && (err != nil || !bytes.Equal(secret, v.Msg)):
			t.Errorf("%x %v", secret, err)
		case v.Result == "invalid" && err == nil:
			t.Errorf("opened to %x", secret)
		}
		return true
	})
}

func TestUnwrapNeedsAnAESKey(t *testing.T) {
	t.Parallel()
	if _, err := (Engine{}).Unwrap(make([]byte, 20), make([]byte, 24)); err == nil || errors.Is(err, token.ErrOpen) {
		t.Error(err)
	}
}
