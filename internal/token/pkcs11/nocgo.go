//go:build !cgo

package pkcs11

import "errors"

const ulongSize = 8

var errNoCgo = errors.New("this build has no PKCS#11 (it was compiled with CGO_ENABLED=0): " +
	"use a build with cgo, or the embedded software token")

// Module can't be loaded in a build without cgo.
type Module struct{}

// Session can't be opened in a build without cgo.
type Session struct{}

// Open returns the reason why there is no PKCS#11.
func Open(string) (*Module, error) { return nil, errNoCgo }

func (*Module) Initialize() error                           { return errNoCgo }
func (*Module) Finalize() error                             { return errNoCgo }
func (*Module) Info() (LibraryInfo, error)                  { return LibraryInfo{}, errNoCgo }
func (*Module) Slots() ([]Slot, error)                      { return nil, errNoCgo }
func (*Module) SlotInfo(Slot) (SlotInfo, error)             { return SlotInfo{}, errNoCgo }
func (*Module) TokenInfo(Slot) (TokenInfo, error)           { return TokenInfo{}, errNoCgo }
func (*Module) Mechanisms(Slot) ([]MechanismInfo, error)    { return nil, errNoCgo }
func (*Module) InitToken(Slot, []byte, string) error        { return errNoCgo }
func (*Module) OpenSession(Slot) (*Session, error)          { return nil, errNoCgo }
func (*Session) Close() error                               { return errNoCgo }
func (*Session) State() (uint64, error)                     { return 0, errNoCgo }
func (*Session) Login(uint64, []byte) error                 { return errNoCgo }
func (*Session) InitPIN([]byte) error                       { return errNoCgo }
func (*Session) SetPIN(_, _ []byte) error                   { return errNoCgo }
func (*Session) Find(*Template, int) ([]Handle, error)      { return nil, errNoCgo }
func (*Session) Attribute(Handle, CKA) ([]byte, error)      { return nil, errNoCgo }
func (*Session) SetAttribute(Handle, CKA, []byte) error     { return errNoCgo }
func (*Session) Destroy(Handle) error                       { return errNoCgo }
func (*Session) GenerateKey(CKM, *Template) (Handle, error) { return 0, errNoCgo }
func (*Session) GenerateKeyPair(CKM, *Template, *Template) (pub, prv Handle, err error) {
	return 0, 0, errNoCgo
}
func (*Session) Wrap(CKM, Handle, Handle) ([]byte, error)             { return nil, errNoCgo }
func (*Session) WrapOAEP(CKM, uint32, Handle, Handle) ([]byte, error) { return nil, errNoCgo }
func (*Session) Unwrap(CKM, Handle, []byte, *Template) (Handle, error) {
	return 0, errNoCgo
}
func (*Session) UnwrapOAEP(CKM, CKM, uint32, int, Handle, []byte, *Template) (Handle, error) {
	return 0, errNoCgo
}
func (*Session) Create(*Template) (Handle, error)         { return 0, errNoCgo }
func (*Session) Random([]byte) error                      { return errNoCgo }
func (*Session) Batch(Op, Handle, []byte, []byte, []Item) {}

// Lane can't be made in a build without cgo.
type Lane struct{}

// NewLane returns the reason why there is no PKCS#11.
func NewLane(int) (*Lane, error) { return nil, errNoCgo }

func (*Lane) Close()                             {}
func (*Lane) Hold(uint32, Handle) error          { return errNoCgo }
func (*Lane) Drop(uint32)                        {}
func (*Lane) Next(*Session, bool) (Frame, error) { return Frame{}, errNoCgo }
func (*Lane) Write([]byte) error                 { return errNoCgo }
