package custody

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/pgp"
)

// other is an OpenPGP program of other people with the key of a custodian.
type other struct {
	name    string // also the Debian package
	make    func(o *outside) (public []byte)
	decrypt func(o *outside, message string) (plain []byte)
}

// outside runs programs in a directory of one test.
type outside struct {
	t   *testing.T
	dir string
}

func (o *outside) path(name string) string { return filepath.Join(o.dir, name) }

func (o *outside) run(in []byte, program string, args ...string) []byte {
	o.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "HOME="+o.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		o.t.Fatalf("%s %v: %v: %s", program, args, err, errs.String())
	}
	return out.Bytes()
}

func (o *outside) read(name string) []byte {
	o.t.Helper()
	b, err := os.ReadFile(o.path(name))
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

func (o *outside) write(name string, data []byte) string {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), data, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.path(name)
}

var others = []other{
	{
		name: "sq",
		make: func(o *outside) []byte {
			o.run(nil, "sq", "key", "generate", "--userid", "Ada <ada@example.org>", "--export", o.path("key"))
			return o.run(nil, "sq", "key", "extract-cert", o.path("key"))
		},
		decrypt: func(o *outside, message string) []byte {
			return o.run(nil, "sq", "decrypt", "--recipient-key", o.path("key"), message)
		},
	},
	{
		name: "sqop",
		make: func(o *outside) []byte {
			key := o.run(nil, "sqop", "generate-key", "Ada <ada@example.org>")
			o.write("key", key)
			return o.run(key, "sqop", "extract-cert")
		},
		decrypt: func(o *outside, message string) []byte {
			return o.run(o.read(filepath.Base(message)), "sqop", "decrypt", o.path("key"))
		},
	},
	{
		name: "rnp",
		make: func(o *outside) []byte {
			if err := os.Mkdir(o.path("rnp"), 0o700); err != nil {
				o.t.Fatal(err)
			}
			o.run(nil, "rnpkeys", "--homedir", o.path("rnp"), "--password", "", "--generate-key", "--userid", "ada@example.org")
			return o.run(nil, "rnpkeys", "--homedir", o.path("rnp"), "--export-key", "ada@example.org")
		},
		decrypt: func(o *outside, message string) []byte {
			return o.run(nil, "rnp", "--homedir", o.path("rnp"), "--password", "", "--decrypt", message, "--output", "-")
		},
	},
}

// A custodian opens a share with another program than GnuPG, with a key that this
// program made, and gives it.
func TestPGPOthers(t *testing.T) {
	t.Parallel()
	for _, p := range others {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(p.name); err != nil {
				t.Skipf("%s is not installed (Debian package %s)", p.name, p.name)
			}
			o := &outside{t: t, dir: t.TempDir()}
			key, err := pgp.Parse(string(p.make(o)), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			_, set, shares, err := Split(3, 2)
			if err != nil {
				t.Fatal(err)
			}
			inHex, _, fingerprint, err := handOver([]*pgpKey{nil, nil, key}, 2, &shares[2])
			if err != nil || fingerprint != key.Fingerprint {
				t.Fatal(err)
			}
			plain := p.decrypt(o, o.write("message", unhex(t, inHex)))
			if number, err := CheckShare(publicSet(set), string(plain)); err != nil || number != 3 {
				t.Errorf("share %d, %v", number, err)
			}
		})
	}
}
