package pkcs11

import "strconv"

// SlotFlags and TokenFlags name the bits of CK_SLOT_INFO and CK_TOKEN_INFO
// (PKCS#11 v2.40 section 3.2), from the lowest on; "" is no flag.
var (
	SlotFlags  = []string{"CKF_TOKEN_PRESENT", "CKF_REMOVABLE_DEVICE", "CKF_HW_SLOT"}
	TokenFlags = []string{
		"CKF_RNG", "CKF_WRITE_PROTECTED", "CKF_LOGIN_REQUIRED", "CKF_USER_PIN_INITIALIZED", "", "CKF_RESTORE_KEY_NOT_NEEDED",
		"CKF_CLOCK_ON_TOKEN", "", "CKF_PROTECTED_AUTHENTICATION_PATH", "CKF_DUAL_CRYPTO_OPERATIONS", "CKF_TOKEN_INITIALIZED",
		"CKF_SECONDARY_AUTHENTICATION", "", "", "", "", "CKF_USER_PIN_COUNT_LOW", "CKF_USER_PIN_FINAL_TRY", "CKF_USER_PIN_LOCKED",
		"CKF_USER_PIN_TO_BE_CHANGED", "CKF_SO_PIN_COUNT_LOW", "CKF_SO_PIN_FINAL_TRY", "CKF_SO_PIN_LOCKED", "CKF_SO_PIN_TO_BE_CHANGED",
		"CKF_ERROR_STATE",
	}
)

// FlagNames returns the names of the bits that are set, in hexadecimal where
// there is none.
func FlagNames(names []string, flags uint64) []string {
	set := []string{}
	for bit := range 64 {
		value := uint64(1) << bit
		switch {
		case flags&value == 0:
		case bit < len(names) && names[bit] != "":
			set = append(set, names[bit])
		default:
			set = append(set, "0x"+strconv.FormatUint(value, 16))
		}
	}
	return set
}
