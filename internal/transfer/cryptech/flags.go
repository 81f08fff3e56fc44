package cryptech

import "github.com/claviger/claviger/internal/token"

// Flags of a key, HAL_KEY_FLAG_* of the original.
const (
	flagSign       = 1 << iota // DIGITALSIGNATURE
	flagKeys                   // KEYENCIPHERMENT
	flagData                   // DATAENCIPHERMENT
	flagToken                  // TOKEN
	flagPublic                 // PUBLIC: seen without login
	flagExportable             // EXPORTABLE
)

var flagUses = []struct {
	flag uint32
	use  token.Use
}{{flagSign, token.UseSign}, {flagKeys, token.UseWrap}, {flagData, token.UseEncrypt}}

// flagsOf are the flags of a key in an HSM token that leaves it.
func flagsOf(h *token.Half) uint32 {
	f := uint32(flagToken | flagExportable)
	for _, u := range flagUses {
		if h.Uses&u.use != 0 {
			f |= u.flag
		}
	}
	if h.Visible {
		f |= flagPublic
	}
	return f
}

// usesOf is the reverse.
func usesOf(flags uint32) (uses token.Use) {
	for _, u := range flagUses {
		if flags&u.flag != 0 {
			uses |= u.use
		}
	}
	return uses
}
