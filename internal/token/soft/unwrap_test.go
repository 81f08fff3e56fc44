package soft

import (
	"bytes"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

func TestUnwrap(t *testing.T) {
	t.Parallel()
	wrapped, err := wrapKWP(testKEK(t), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (Engine{}).Unwrap(bytes.Repeat([]byte{5}, 32), wrapped); err != nil || string(got) != "secret" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := (Engine{}).Unwrap(bytes.Repeat([]byte{6}, 32), wrapped); !errors.Is(err, token.ErrOpen) {
		t.Errorf("another key: %v", err)
	}
	if _, err := (Engine{}).Unwrap(make([]byte, 20), wrapped); err == nil || errors.Is(err, token.ErrOpen) {
		t.Errorf("no AES key: %v", err)
	}
}
