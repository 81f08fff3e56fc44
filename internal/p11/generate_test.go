package p11

import (
	"regexp"
	"testing"
)

func TestNameFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		label, id, want string
		session         bool
	}{
		{label: "web", want: "^web$"},
		{label: "web", id: "other", want: "^web$"},
		{label: "two words", want: "^two_words-[0-9a-f]{8}$"},
		{id: "web-2048", want: "^web-2048$"},
		{id: "\x01\x02", want: "^pkcs11-[0-9a-f]{16}$"},
		{id: "a/b", want: "^pkcs11-"},
		{id: "22", want: "^pkcs11-"},
		{want: "^pkcs11-[0-9a-f]{16}$"},
		{label: "web", id: "web", session: true, want: "^session-[0-9a-f]{32}$"},
	} {
		if got := nameFor(c.label, []byte(c.id), c.session)[0]; !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("label %q, ID %q: %q, not %s", c.label, c.id, got, c.want)
		}
	}
}
