package worker

import (
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// setup is the first frame: what to confine the process to and which token to look for.
type setup struct {
	module, label, serial string
	read, write           []string // paths for Landlock
	patient               bool     // the token must be there: try again until it shows
	all                   bool     // list mechanisms of every slot
}

func (s *setup) append(b []byte) []byte {
	b = appendBytes(b, s.module)
	b = appendBytes(b, s.label)
	b = appendBytes(b, s.serial)
	b = appendStrs(b, s.read)
	b = appendStrs(b, s.write)
	return appendBool(appendBool(b, s.patient), s.all)
}

func parseSetup(p []byte) (setup, error) {
	r := reader{b: p}
	s := setup{module: r.str(), label: r.str(), serial: r.str(), read: r.strs(), write: r.strs()}
	s.patient, s.all = r.u8() != 0, r.u8() != 0
	return s, r.end()
}

// view is what a worker sees of the module before login.
type view struct {
	library  pkcs11.LibraryInfo
	slots    []slotView
	hardened []string // measures in force
	missing  []string // measures that are not
}

type slotView struct {
	id    pkcs11.Slot
	slot  pkcs11.SlotInfo
	token pkcs11.TokenInfo
	mechs []pkcs11.MechanismInfo
}

func appendVersion(b []byte, v pkcs11.Version) []byte { return append(b, v.Major, v.Minor) }

func (r *reader) version() pkcs11.Version { return pkcs11.Version{Major: r.u8(), Minor: r.u8()} }

func (v *view) append(b []byte) []byte {
	b = appendVersion(b, v.library.Cryptoki)
	b = appendBytes(b, v.library.Manufacturer)
	b = appendBytes(b, v.library.Description)
	b = appendVersion(b, v.library.Library)
	b = appendStrs(b, v.hardened)
	b = appendStrs(b, v.missing)
	b = appendU32(b, uint32(len(v.slots)))
	for i := range v.slots {
		b = v.slots[i].append(b)
	}
	return b
}

func (s *slotView) append(b []byte) []byte {
	b = appendU64(b, uint64(s.id))
	b = appendBytes(b, s.slot.Description)
	b = appendBytes(b, s.slot.Manufacturer)
	b = appendU64(b, s.slot.Flags)
	b = appendVersion(b, s.slot.Hardware)
	b = appendVersion(b, s.slot.Firmware)
	b = appendBytes(b, s.token.Label)
	b = appendBytes(b, s.token.Manufacturer)
	b = appendBytes(b, s.token.Model)
	b = appendBytes(b, s.token.Serial)
	b = appendU64(b, s.token.Flags)
	b = appendU32(b, uint32(s.token.MinPIN))
	b = appendU32(b, uint32(s.token.MaxPIN))
	b = appendVersion(b, s.token.Hardware)
	b = appendVersion(b, s.token.Firmware)
	b = appendUsage(b, &s.token.Usage)
	b = appendU32(b, uint32(len(s.mechs)))
	for _, m := range s.mechs {
		b = appendU32(b, uint32(m.Type))
		b = appendU64(b, m.Min)
		b = appendU64(b, m.Max)
		b = appendU64(b, m.Flags)
	}
	return b
}

func parseView(r *reader) (view, error) {
	var v view
	v.library = pkcs11.LibraryInfo{Cryptoki: r.version(), Manufacturer: r.str(), Description: r.str(), Library: r.version()}
	v.hardened, v.missing = r.strs(), r.strs()
	for n := r.u32(); n > 0 && !r.bad; n-- {
		v.slots = append(v.slots, parseSlotView(r))
	}
	return v, r.end()
}

func parseSlotView(r *reader) slotView {
	s := slotView{id: pkcs11.Slot(r.u64())}
	s.slot = pkcs11.SlotInfo{Description: r.str(), Manufacturer: r.str(), Flags: r.u64(), Hardware: r.version(), Firmware: r.version()}
	s.token = pkcs11.TokenInfo{Label: r.str(), Manufacturer: r.str(), Model: r.str(), Serial: r.str(), Flags: r.u64(),
		MinPIN: int(r.u32()), MaxPIN: int(r.u32()), Hardware: r.version(), Firmware: r.version(), Usage: parseUsage(r)}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		s.mechs = append(s.mechs, pkcs11.MechanismInfo{Type: pkcs11.CKM(r.u32()), Min: r.u64(), Max: r.u64(), Flags: r.u64()})
	}
	return s
}

func appendUsage(b []byte, u *pkcs11.TokenUsage) []byte {
	for _, n := range []uint64{u.MaxSessions, u.Sessions, u.MaxRWSessions, u.RWSessions, u.TotalPublic, u.FreePublic, u.TotalPrivate, u.FreePrivate} {
		b = appendU64(b, n)
	}
	return appendBytes(b, u.UTCTime)
}

func parseUsage(r *reader) (u pkcs11.TokenUsage) {
	for _, n := range []*uint64{&u.MaxSessions, &u.Sessions, &u.MaxRWSessions, &u.RWSessions, &u.TotalPublic, &u.FreePublic, &u.TotalPrivate, &u.FreePrivate} {
		*n = r.u64()
	}
	u.UTCTime = r.str()
	return u
}

// facts is what a worker learned by logging in and trying.
type facts struct {
	kek          bool
	transferable bool       // CKA_EXTRACTABLE of the KEK
	trusted      bool       // CKA_TRUSTED of the KEK
	storage      token.Type // AES256, RSA2048, or 0 if there is none
	storageKey   []byte     // PKIX of an RSA storage key
	forgedTag    pkcs11.CKR // what the module says to a forged AES-GCM tag
	forgedBlob   pkcs11.CKR // and to a forged wrapped key
	wrap         pkcs11.CKM // the mechanism that wraps keys, valid if canWrap
	canWrap      bool
}

func (f *facts) append(b []byte) []byte {
	b = appendBool(b, f.kek)
	b = appendBool(b, f.transferable)
	b = appendBool(b, f.trusted)
	b = append(b, byte(f.storage))
	b = appendBytes(b, f.storageKey)
	b = appendU32(b, uint32(f.forgedTag))
	b = appendU32(b, uint32(f.forgedBlob))
	b = appendU32(b, uint32(f.wrap))
	return appendBool(b, f.canWrap)
}

func parseFacts(r *reader) (facts, error) {
	f := facts{kek: r.u8() != 0, transferable: r.u8() != 0, trusted: r.u8() != 0, storage: token.Type(r.u8())}
	f.storageKey = append([]byte(nil), r.bytes()...)
	f.forgedTag, f.forgedBlob, f.wrap = pkcs11.CKR(r.u32()), pkcs11.CKR(r.u32()), pkcs11.CKM(r.u32())
	f.canWrap = r.u8() != 0
	return f, r.end()
}

// intake is how a module takes secrets in. The server asks once, of the first
// worker: those that replace it must start at once, and what asking needs is
// what a module may hang in.
type intake struct {
	kwp     pkcs11.CKM // the mechanism that unwraps RFC 5649, 0 if there is none
	creates bool       // the module takes a secret from outside as a session object
	edwards bool       // Ed25519 keys can be unwrapped, and their public half shows
}

func (i *intake) append(b []byte) []byte {
	b = appendU32(b, uint32(i.kwp))
	return appendBool(appendBool(b, i.creates), i.edwards)
}

func parseIntake(r *reader) (intake, error) {
	i := intake{kwp: pkcs11.CKM(r.u32()), creates: r.u8() != 0, edwards: r.u8() != 0}
	return i, r.end()
}

// appendStored and parseStored carry a token.Stored.
func appendStored(b []byte, s token.Stored) []byte {
	b = append(b, byte(s.Type), byte(s.Place))
	b = append(b, s.ID[:]...)
	b = appendU32(b, uint32(s.Size))
	b = appendBytes(b, s.Blob)
	return appendBytes(b, s.Public)
}

func parseStored(r *reader) (token.Stored, error) {
	s := token.Stored{Type: token.Type(r.u8()), Place: token.Place(r.u8())}
	copy(s.ID[:], r.take(len(s.ID)))
	s.Size = int(r.u32())
	s.Blob = append([]byte(nil), r.bytes()...)
	s.Public = append([]byte(nil), r.bytes()...)
	return s, r.end()
}

// appendSpec and parseSpec carry a token.Spec.
func appendSpec(b []byte, s token.Spec) []byte {
	b = append(b, byte(s.Type), byte(s.Place))
	b = append(b, s.ID[:]...)
	b = appendU32(b, uint32(s.Size))
	b = appendBytes(b, s.Label)
	b = appendBool(b, s.Agree)
	if s.Name == nil {
		return appendBool(b, false)
	}
	return appendName(appendBool(b, true), s.Name)
}

func parseSpec(p []byte) (token.Spec, error) {
	r := reader{b: p}
	s := token.Spec{Type: token.Type(r.u8()), Place: token.Place(r.u8())}
	copy(s.ID[:], r.take(len(s.ID)))
	s.Size, s.Label = int(r.u32()), r.str()
	s.Agree = r.u8() != 0
	if r.u8() != 0 {
		s.Name = new(r.name())
	}
	return s, r.end()
}
