package cryptech

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/claviger/claviger/internal/fault"
)

// A file that is read comes out of the writer as a file with the same content, and
// importing it never puts a key into the token without its KEK.
func FuzzDocument(f *testing.F) {
	f.Add(known(f))
	f.Add([]byte(`{"keys":[{"spki":["AA=="],"uuid":"x"}],"kekek_uuid":"y"}`))
	f.Add([]byte(`{"a":[1.50,{"é":[]}],"kekek_salt":[],"kekek_pkcs8":"","keys":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDocument(b)
		if err != nil {
			return
		}
		first, err := d.bytes()
		if fault.KindOf(err) == fault.Invalid {
			return // too deep
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDocument(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := again.bytes(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s became %s", first, second)
		}
		m := &memory{}
		backup, _ := newBackup(m, "")
		backup.Passphrase = func(context.Context) ([]byte, error) { return nil, errors.New("none") }
		if _, err := backup.Import(context.Background(), b); err == nil && len(m.private()) > 0 {
			t.Fatal("a key came")
		}
		_, _ = d.entries(256)
	})
}

func FuzzEncrypted(f *testing.F) {
	entry := firstKey(parsed(f, known(f)))
	f.Add(field(f, entry, fieldWrapped))
	f.Add(field(f, entry, fieldKEK))
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := parseEncrypted(b, oidRSA)
		if err != nil {
			return
		}
		again, err := encodeEncrypted(oidRSA, data)
		if err != nil || len(again) > len(b) || len(again) == len(b) && !bytes.Equal(again, b) {
			t.Fatalf("%x became %x: %v", b, again, err)
		}
	})
}
