package cli

import (
	"strings"
	"testing"
)

func TestPKCS11Cfg(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, label, id, wrong string }{
		{"key_id:8738\nkey_label:ONAP_KEY_LABEL\nupin:123456789\nsopin:123456789\nslot:0\n", "ONAP_KEY_LABEL", "2222", ""},
		{"key_id: 1\r\n", "", "01", ""},
		{"key_label:a:b", "a:b", "", ""},
		{"key_id:256", "", "0100", ""},
		{"", "", "", "neither key_id nor key_label"},
		{"upin:1", "", "", "neither key_id nor key_label"},
		{"key_id:0x2222", "", "", "line 1: key_id is a decimal number"},
		{"key_id:-1", "", "", "decimal number"},
		{"key_id:" + strings.Repeat("9", 155), "", "", "up to 64 bytes"},
		{"slot:0\nkeyid:1", "", "", "line 2 is none of"},
		{":1", "", "", "line 1 has no name"},
		{strings.Repeat("\n", maxPKCS11Cfg+1), "", "", "the file has 65537 bytes"},
	} {
		label, id, err := parsePKCS11Cfg([]byte(c.text))
		if label != c.label || id != c.id || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%.40q: %q %q %v", c.text, label, id, err)
		}
		if err != nil && strings.Contains(err.Error(), "123456789") {
			t.Errorf("the error shows a PIN: %v", err)
		}
	}
}

func FuzzPKCS11Cfg(f *testing.F) {
	f.Add([]byte("key_id:8738\nkey_label:x\nupin:1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		label, id, err := parsePKCS11Cfg(data)
		if (err == nil) != (label != "" || id != "") || len(id) > 128 || len(id)%2 != 0 || strings.HasPrefix(id, "00") {
			t.Errorf("%q %q %v", label, id, err)
		}
	})
}
