package pkcs11

import (
	"slices"
	"testing"
)

func TestFlagNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names []string
		flags uint64
		want  []string
	}{
		{SlotFlags, 0, []string{}},
		{SlotFlags, 0x5, []string{"CKF_TOKEN_PRESENT", "CKF_HW_SLOT"}},
		{TokenFlags, 0x42d, []string{"CKF_RNG", "CKF_LOGIN_REQUIRED", "CKF_USER_PIN_INITIALIZED", "CKF_RESTORE_KEY_NOT_NEEDED", "CKF_TOKEN_INITIALIZED"}},
		{TokenFlags, FlagProtected | FlagPINLocked, []string{"CKF_PROTECTED_AUTHENTICATION_PATH", "CKF_USER_PIN_LOCKED"}},
		{TokenFlags, 1 << 24, []string{"CKF_ERROR_STATE"}},
		{TokenFlags, 1<<63 | 1<<4, []string{"0x10", "0x8000000000000000"}},
	} {
		if got := FlagNames(c.names, c.flags); !slices.Equal(got, c.want) {
			t.Errorf("%#x: %q", c.flags, got)
		}
	}
}
