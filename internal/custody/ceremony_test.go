package custody

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/claviger/claviger/internal/custody/sss"
	"github.com/claviger/claviger/internal/fault"
)

func custodians(t *testing.T, n int) (all openpgp.EntityList, public [][]byte) {
	t.Helper()
	for i := range n {
		e, err := openpgp.NewEntity("custodian", "", fmt.Sprintf("c%d@example.org", i), nil)
		var b bytes.Buffer
		if err != nil || e.Serialize(&b) != nil {
			t.Fatal("make an OpenPGP key")
		}
		all, public = append(all, e), append(public, b.Bytes())
	}
	return all, public
}

func newTestCeremony(t *testing.T, public [][]byte, n, threshold int) (*Ceremony, *memDevice) {
	d := newMemDevice(&faults{})
	return &Ceremony{Device: d, Shares: n, Threshold: threshold, Keys: public, Names: []string{"a", "b", "c", "d"}[:len(public)], Dir: t.TempDir()}, d
}

func TestCeremony(t *testing.T) {
	t.Parallel()
	all, public := custodians(t, 3)
	c, d := newTestCeremony(t, public, 3, 2)
	pin, files, err := c.Run(t.Context())
	if err != nil || len(pin) != 64 || len(files) != 6 {
		t.Fatalf("a PIN of %d bytes, files %q, %v", len(pin), files, err)
	}
	for kind, want := range map[string][]byte{"pin": pin, "sopin": d.soPIN} {
		var lines [][]byte
		for _, e := range all[1:] {
			sealed, err := os.ReadFile(filepath.Join(c.Dir, fmt.Sprintf("%016X.%s.gpg", e.PrimaryKey.KeyId, kind)))
			if err != nil {
				t.Fatal(err)
			}
			m, err := openpgp.ReadMessage(bytes.NewReader(sealed), openpgp.EntityList{e}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			var line bytes.Buffer
			if _, err := line.ReadFrom(m.UnverifiedBody); err != nil || line.Len() != 229 {
				t.Fatalf("a line of %d bytes, %v", line.Len(), err)
			}
			lines = append(lines, line.Bytes())
		}
		if got, err := sss.Combine(lines); err != nil || string(got) != string(want)+"\n" {
			t.Errorf("%s: the shares do not combine to it: %v", kind, err)
		}
	}
	if tok, err := d.Open(t.Context(), pin); err != nil {
		t.Error(err)
	} else {
		tok.Close()
	}
	_, _, err = c.Run(t.Context())
	wantFault(t, err, fault.Conflict, "is there already")
}

func TestCeremonyRefuses(t *testing.T) {
	t.Parallel()
	all, public := custodians(t, 3)
	var private bytes.Buffer
	if err := all[2].SerializePrivate(&private, nil); err != nil {
		t.Fatal(err)
	}
	two := public[:2:2]
	taken := fmt.Sprintf("%016X.sopin.gpg", all[1].PrimaryKey.KeyId)
	for name, x := range map[string]struct {
		keys  [][]byte
		n, t  int
		kind  fault.Kind
		words string
		make  func(c *Ceremony, d *memDevice)
	}{
		"as many as the threshold": {public, 3, 3, fault.Invalid, "more than the threshold", nil},
		"threshold 1":              {public, 3, 1, fault.Invalid, "must be 2 or more", nil},
		"negative":                 {public, -3, -4, fault.Invalid, "must be 2 or more", nil},
		"too many":                 {public, 256, 2, fault.Invalid, "at most 255", nil},
		"too few keys":             {two, 3, 2, fault.Invalid, "2 OpenPGP public keys for 3", nil},
		"no key":                   {append(two, []byte("no key")), 3, 2, fault.Invalid, "c: ", nil},
		"private":                  {append(two, private.Bytes()), 3, 2, fault.Invalid, "private key", nil},
		"two in one":               {append(two, bytes.Join(public, nil)), 3, 2, fault.Invalid, "exactly one", nil},
		"twice":                    {append(two, public[0]), 3, 2, fault.Invalid, "a and c are the same", nil},
		"file exists": {public, 3, 2, fault.Conflict, taken + " exists", func(c *Ceremony, _ *memDevice) {
			if err := os.WriteFile(filepath.Join(c.Dir, taken), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"the token fails": {public, 3, 2, fault.Unavailable, "create the HSM token", func(_ *Ceremony, d *memDevice) { d.faults.armOn("device.Create") }},
	} {
		c, d := newTestCeremony(t, x.keys, x.n, x.t)
		if x.make != nil {
			x.make(c, d)
		}
		_, _, err := c.Run(t.Context())
		t.Run(name, func(t *testing.T) { wantFault(t, err, x.kind, x.words) })
		entries, _ := os.ReadDir(c.Dir)
		if name == "file exists" {
			if b, err := os.ReadFile(filepath.Join(c.Dir, taken)); string(b) != "old" || len(entries) != 1 {
				t.Errorf("%s: %q, %d files, %v", name, b, len(entries), err)
			}
		} else if len(entries) != 0 {
			t.Errorf("%s: %d files are left", name, len(entries))
		}
		if st, _ := d.State(t.Context()); st.Initialized {
			t.Errorf("%s: there is a token", name)
		}
	}
}
