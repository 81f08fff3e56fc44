package programs

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// TestCodeSigning does what docs/guides/code-signing.md says.
func TestCodeSigning(t *testing.T) {
	t.Parallel()
	need(t, "osslsigncode", "osslsigncode")
	engine := opensslEngine(t)
	each(t, func(t *testing.T, p *provider) {
		for _, kind := range kindsOf(p) {
			t.Run(kind, func(t *testing.T) {
				k := p.key(t, "code-"+kind, kind)
				dir := workplace(t, p)
				if err := os.WriteFile(filepath.Join(dir, "app.exe"), executable(t), 0o644); err != nil {
					t.Fatal(err)
				}
				printed := play(t, p, dir, "code-signing.md", "code.pem", k.cert, "object=code", "object="+k.name,
					"/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so", engine)
				contains(t, printed, "Succeeded", "Signature verification: ok", "Number of verified signatures: 1")
				worked(t, "osslsigncode", k)
			})
		}
	})
}

// opensslEngine is the path of OpenSSL's engine pkcs11.
func opensslEngine(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/engines-3/pkcs11.so")
	if len(found) == 0 {
		t.Skip("OpenSSL's engine pkcs11 is not installed (Debian package libengine-pkcs11-openssl)")
	}
	return found[0]
}

// executable is a program for 64-bit Windows that returns at once: the headers
// (Microsoft's PE format, sections "COFF File Header" and "Optional Header") and
// one section of code.
func executable(t testing.TB) []byte {
	t.Helper()
	const page, sector = 0x1000, 0x200
	dos := [64]byte{0: 'M', 1: 'Z', 60: 64} // the last word tells where the next header is
	optional := pe.OptionalHeader64{
		Magic: 0x20b, SizeOfCode: sector, AddressOfEntryPoint: page, BaseOfCode: page, ImageBase: 0x140000000,
		SectionAlignment: page, FileAlignment: sector, MajorOperatingSystemVersion: 6, MajorSubsystemVersion: 6,
		SizeOfImage: 2 * page, SizeOfHeaders: sector, Subsystem: pe.IMAGE_SUBSYSTEM_WINDOWS_CUI, DllCharacteristics: pe.IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
		SizeOfStackReserve: 1 << 20, SizeOfStackCommit: page, SizeOfHeapReserve: 1 << 20, SizeOfHeapCommit: page, NumberOfRvaAndSizes: 16,
	}
	header := pe.FileHeader{
		Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(optional)),
		Characteristics: pe.IMAGE_FILE_EXECUTABLE_IMAGE | pe.IMAGE_FILE_LARGE_ADDRESS_AWARE,
	}
	text := pe.SectionHeader32{
		Name: [8]uint8{'.', 't', 'e', 'x', 't'}, VirtualSize: 1, VirtualAddress: page, SizeOfRawData: sector, PointerToRawData: sector,
		Characteristics: pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_EXECUTE | pe.IMAGE_SCN_MEM_READ,
	}
	var b bytes.Buffer
	for _, part := range []any{dos, []byte("PE\x00\x00"), header, optional, text} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	image := make([]byte, 2*sector)
	copy(image, b.Bytes())
	image[sector] = 0xc3 // ret
	if _, err := pe.NewFile(bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	return image
}
