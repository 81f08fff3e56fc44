package tpm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"

	"github.com/google/go-tpm/tpm2"

	"github.com/claviger/claviger/internal/fault"
)

// maxFile bounds a file of this package and each of its parts, in bytes. The
// largest part, a wrapped RSA key, has less than 1 KiB.
const maxFile = 16 << 10

// encodeFile returns the one text of a file: JSON, indented, parts in base64.
func encodeFile(f any) ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode a file of a TPM")
	}
	return append(b, '\n'), nil
}

// decodeFile is the reverse. It takes nothing but what encodeFile writes, so that
// no byte of a file can be changed unnoticed.
func decodeFile(text []byte, f any) error {
	if len(text) > maxFile {
		return fault.New(fault.Invalid, "it has %d bytes; such a file has at most %d", len(text), maxFile)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fault.New(fault.Invalid, "something follows its end")
	}
	again, err := encodeFile(f)
	if err == nil && !bytes.Equal(again, text) {
		err = fault.New(fault.Invalid, "its text was altered")
	}
	return err
}

// badFile says which kind of file is wrong.
func badFile(what string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Invalid, "this is not %s: %v", what, err)
}

// formatOf returns the format that a file names, "" if it is none of this package.
func formatOf(text []byte) string {
	var f struct {
		Format string `json:"format"`
	}
	if len(text) > maxFile || json.Unmarshal(text, &f) != nil {
		return ""
	}
	return f.Format
}

// sized returns content with its size before it, as every TPM2B has it (TPM 2.0
// part 2, 10.4.1).
func sized(content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(content))), content...)
}

// unsized returns the content of one TPM2B that fills b.
func unsized(what string, b []byte) ([]byte, error) {
	if len(b) < 2 || len(b) > maxFile || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, fault.New(fault.Invalid, "this is no %s: its first two bytes are not its size", what)
	}
	return b[2:], nil
}

// publicArea reads a TPMT_PUBLIC that fills b and has the name algorithm SHA-256.
func publicArea(b []byte) (*tpm2.TPMTPublic, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
	if err != nil || !bytes.Equal(tpm2.Marshal(area), b) {
		return nil, fault.New(fault.Invalid, "its public area is damaged")
	}
	if area.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, fault.New(fault.Invalid, "its name algorithm is not SHA-256")
	}
	return area, nil
}

// nameOf is the name of an object (TPM 2.0 part 1, clause 16), 34 bytes.
func nameOf(area *tpm2.TPMTPublic) ([]byte, error) {
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "compute the name of a TPM object")
	}
	return name.Buffer, nil
}

// checkName looks at the form of a name.
func checkName(name []byte) error {
	if len(name) != 2+digestSize || tpm2.TPMAlgID(binary.BigEndian.Uint16(name)) != tpm2.TPMAlgSHA256 {
		return fault.New(fault.Invalid, "parent_name is not %d bytes that begin with 000b", 2+digestSize)
	}
	return nil
}
