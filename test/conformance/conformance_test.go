package conformance

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/test/harness"
)

var update = flag.Bool("update", false, "rewrite the golden answers of testdata/exchanges by those of a new server")

func load(t *testing.T) []*File {
	t.Helper()
	files, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestOurs plays the exchanges against a new server with the embedded token.
// go test ./test/conformance -run TestOurs -update takes its answers for golden:
// read the changes before you commit them.
func TestOurs(t *testing.T) {
	t.Parallel()
	s := harness.Dev(t)
	w := watch(t, s)
	target := &Target{Addr: s.Addr, Token: s.RootToken, Observe: w.observe}
	files := load(t)
	if *update {
		for _, f := range files {
			answers, err := target.Play(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range f.Exchanges {
				e.Status, e.Form, e.Golden = answers[i].Status, answers[i].Form, answers[i].Golden()
			}
			if err := os.WriteFile(filepath.Join(Dir, f.Name+".txt"), []byte(f.Text()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	play(t, target, "", files)
	w.complete(t)
}

// TestSoftHSM plays them against a server whose keys live in SoftHSM2.
func TestSoftHSM(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	target := &Target{Addr: s.Addr, Token: s.RootToken, Observe: watch(t, s).observe}
	play(t, target, "softhsm2", load(t))
}

// TestOther plays them against the server that the environment names.
func TestOther(t *testing.T) {
	target, server, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if target == nil {
		t.Skip("CLAVIGER_CONFORMANCE_ADDR names no other server")
	}
	play(t, target, server, load(t))
}

// play holds the answers of a server against the golden ones, but for the expected
// differences, each of which must be met.
func play(t *testing.T, target *Target, server string, files []*File) {
	t.Helper()
	expected, err := LoadDifferences()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		answers, err := target.Play(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range f.Exchanges {
			found, err := Compare(e, answers[i], server != "" && server != "softhsm2")
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range Unexpected(expected, server, f.Name+"/"+e.Name, found) {
				t.Errorf("%s/%s | %s", f.Name, e.Name, d)
			}
		}
	}
	for _, x := range Gone(expected, server) {
		t.Errorf("differences.txt: %s | %s | %s: no answer differs there any more", x.Server, x.Exchange, x.At)
	}
}
