package hmacpool

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/claviger/claviger/internal/fault"
)

const (
	// SecretSize is the length of a secret, and of a code, in bytes.
	SecretSize = 32
	perFile    = 1 << 16 // secrets in a file of MODE16 and MODE32
)

// Mode is how many secrets a pool has. The zero value is MODE0.
type Mode uint8

// The modes, by the bits of a message's number that choose the secret.
const (
	Mode0  Mode = 0
	Mode16 Mode = 16
	Mode32 Mode = 32
)

// ParseMode reads the name of a mode: MODE0, MODE16 or MODE32, in capitals. Any
// other text is a *fault.Error of kind Invalid.
func ParseMode(text string) (Mode, error) {
	for _, m := range []Mode{Mode0, Mode16, Mode32} {
		if text == m.String() {
			return m, nil
		}
	}
	return 0, fault.New(fault.Invalid, "mode %.40q: must be MODE0, MODE16 or MODE32, in capitals", text)
}

// String returns the mode's name: "MODE16".
func (m Mode) String() string { return "MODE" + strconv.Itoa(int(m)) }

// Files is the number of files of a pool.
func (m Mode) Files() int {
	if m == Mode32 {
		return 1 << 16
	}
	return 1
}

// PerFile is the number of secrets in each file.
func (m Mode) PerFile() int {
	if m == Mode0 {
		return 1
	}
	return perFile
}

// fileName is the name of a file as pools are made.
func (m Mode) fileName(file uint16) string {
	if m == Mode0 {
		return "secret"
	}
	const digits = "0123456789abcdef"
	return string([]byte{digits[file>>12], digits[file>>8&15], digits[file>>4&15], digits[file&15]})
}

// shortName is the name under which the original looks for a file of MODE32,
// "" if it is none other.
func (m Mode) shortName(file uint16) string {
	if m != Mode32 || file >= 0x1000 {
		return ""
	}
	return strconv.FormatUint(uint64(file), 16)
}

// Index is how a message chooses its secret.
type Index uint8

const (
	// Current takes the number of the message.
	Current Index = iota
	// Old is what the original did before 13 September 2021: it took the number
	// of 32 zero bytes, so that all messages share one secret.
	Old
)

// oldName is the name of Old in configurations.
const oldName = "pre-2021-09-13"

// ParseIndex reads "current", "" for the same, or "pre-2021-09-13".
func ParseIndex(text string) (Index, error) {
	switch text {
	case "", "current":
		return Current, nil
	case oldName:
		return Old, nil
	}
	return 0, fault.New(fault.Invalid, "index %.40q: must be \"current\" or %q", text, oldName)
}

// String returns the name that ParseIndex reads.
func (x Index) String() string {
	if x == Old {
		return oldName
	}
	return "current"
}

// Settings say where a pool is and how it is read.
type Settings struct {
	Dir   string // absolute
	Mode  Mode
	Index Index
}

// place is where the secret of a message is.
type place struct {
	file   uint16
	record uint16
}

// place finds the secret of a message.
func (s *Settings) place(message []byte) place {
	if s.Mode == Mode0 {
		return place{}
	}
	if s.Index == Old {
		var unread [SecretSize]byte
		message = unread[:]
	}
	id := messageID(message)
	if s.Mode == Mode16 {
		return place{record: uint16(id)}
	}
	return place{file: uint16(id >> 16), record: uint16(id)}
}

func (s *Settings) path(name string) string { return filepath.Join(s.Dir, name) }

// startFiles are the files that must be whole before a pool serves. Of MODE32
// they are the sixteen that the original looks at.
func (m Mode) startFiles() []uint16 {
	if m != Mode32 {
		return []uint16{0}
	}
	files := make([]uint16, 16)
	for i := range files {
		files[i] = uint16(i * 0x1111)
	}
	return files
}

func wrongSize(path string, size, want int64) *fault.Error {
	return fault.New(fault.Invalid, "%s has %d bytes, not %d", path, size, want)
}

// String says where that is, for the log.
func (p place) String() string { return fmt.Sprintf("file %04x, record %d", p.file, p.record) }
