package token

import "context"

// PINRole says whose PIN is meant.
type PINRole uint8

const (
	_       PINRole = iota
	UserPIN         // of the user, CKU_USER
	SOPIN           // of the security officer, CKU_SO
)

// PINChanger is a Token whose PINs can be changed while it is in use: what is
// logged in stays so. Neither method keeps the slices.
type PINChanger interface {
	// ChangePIN replaces a PIN, and proves the new one by a login of its own.
	// ErrPIN: the old one was refused and nothing was changed. After another error
	// it is unknown which PIN is in force; ProvePIN tells.
	ChangePIN(ctx context.Context, role PINRole, old, pin []byte) error
	// ProvePIN logs in anew with a PIN and changes nothing. ErrPIN if it is refused,
	// which counts as a wrong try.
	ProvePIN(ctx context.Context, role PINRole, pin []byte) error
}
