package worker

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/token/pkcs11"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestInspectChild lists the attributes of all objects of a token. It runs in a
// process of its own, since it loads the module.
func TestInspectChild(t *testing.T) {
	if os.Getenv("INSPECT_TOKEN") == "" {
		t.Skip("it is the other half of TestObjectsAreSecret")
	}
	m, err := pkcs11.Open(softHSM)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Initialize(); err != nil {
		t.Fatal(err)
	}
	slots, err := m.Slots()
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.OpenSession(slots[0])
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Find(&pkcs11.Template{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 0 {
		fmt.Println("OBJECT visible without login")
	}
	if err := s.Login(pkcs11.UserNormal, []byte(testPIN)); err != nil {
		t.Fatal(err)
	}
	os_, err := s.Find(&pkcs11.Template{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range os_ {
		label, _ := s.Attribute(o, pkcs11.AttrLabel)
		fmt.Printf("OBJECT %s", label)
		for _, a := range []pkcs11.CKA{pkcs11.AttrSensitive, pkcs11.AttrPrivate, pkcs11.AttrAlwaysSensitive,
			pkcs11.AttrExtractable, pkcs11.AttrNeverExtract, pkcs11.AttrEncrypt, pkcs11.AttrDecrypt, pkcs11.AttrWrap} {
			fmt.Printf(" %t", bytes.Equal(must(s.Attribute(o, a)), []byte{1}))
		}
		_, err := s.Attribute(o, pkcs11.AttrValue)
		fmt.Printf(" %v\n", pkcs11.CodeOf(err))
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		return nil
	}
	return b
}

// inspection is what TestInspectChild prints of a token. It takes its turn with
// workers that start: what SoftHSM2 writes when one logs in, another process reads wrong.
func inspection(t *testing.T, cfg Config) []byte {
	t.Helper()
	unlock, err := lockFile(contextOf(t, time.Minute), cfg.LockFile)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	cmd := exec.Command(os.Args[0], "-test.run=^TestInspectChild$", "-test.v")
	cmd.Env = append(append(os.Environ(), cfg.Env...), "INSPECT_TOKEN=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

// inspect checks every object's attributes and returns a line for each.
func inspect(t *testing.T, cfg Config, transferable bool) (lines []string) {
	t.Helper()
	out := inspection(t, cfg)
	for _, l := range strings.Split(string(out), "\n") {
		rest, ok := strings.CutPrefix(l, "OBJECT ")
		if !ok {
			continue
		}
		lines = append(lines, rest)
		f := strings.Fields(rest)
		kek := f[0] == labelKEK
		leaves := kek && transferable
		want := fmt.Sprintf("true true true %t %t", leaves, !leaves)
		if len(f) < 9 || strings.Join(f[1:6], " ") != want {
			t.Errorf("sensitive, private, always sensitive, extractable, never extractable: %s", rest)
			continue
		}
		if kek && strings.Join(f[6:9], " ") != "false false true" {
			t.Errorf("the KEK is for wrapping only: %s", rest)
		}
	}
	return lines
}
