package api

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// A request comes through whatever its base64 ends with.
func TestOCSPRequestInPath(t *testing.T) {
	t.Parallel()
	lost := 0
	for n := range 256 {
		der := []byte{0x30, 4, 0x04, 2, 0xff, byte(n)}
		text := base64.StdEncoding.EncodeToString(der)
		cut := strings.TrimRight(text, "/")
		lost += len(text) - len(cut)
		for _, path := range []string{text, cut, strings.ReplaceAll(text, "/", "%2F")} {
			got, err := (&PKIOCSP{Request: path}).Bytes()
			if err != nil || !bytes.Equal(got, der) {
				t.Fatalf("%s: % x, %v", path, got, err)
			}
		}
	}
	if lost == 0 {
		t.Error("no text ended with a slash")
	}
	for _, bad := range []string{"?", "AAAA", "MAA=MAA="} {
		if _, err := (&PKIOCSP{Request: bad}).Bytes(); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
