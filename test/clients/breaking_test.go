package clients

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"github.com/oasdiff/oasdiff/load"

	"github.com/claviger/claviger/test/harness"
)

var acceptBreaks = flag.Bool("accept-breaks", false, "make the present OpenAPI document the one that must not be broken")

// baseline is the document of the last release, or of the last change that was
// meant to break clients.
const baseline = "testdata/openapi-0.1.json"

// TestNothingBreaks holds the OpenAPI document against the committed one: what
// clients of that one may rely on must still be so. A path, an operation, a status, a
// member of an answer that went, a type that changed, a field that a request must
// have now: each fails. What is new does not.
//
// A change that is meant is accepted, in the directory of this module, with
//
//	go test . -run TestNothingBreaks -accept-breaks
//
// and is said in CHANGELOG.md.
func TestNothingBreaks(t *testing.T) {
	t.Parallel()
	now := present(t)
	if *acceptBreaks {
		if err := os.WriteFile(baseline, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(baseline)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range breaks(t, before, now) {
		t.Error(change)
	}
}

// TestDocumentIsTheSame: the document does not change from run to run.
func TestDocumentIsTheSame(t *testing.T) {
	t.Parallel()
	if first := present(t); !bytes.Equal(first, present(t)) {
		t.Error("two runs of claviger openapi print different documents")
	}
}

// TestBreaksAreFound shows that the guard sees what it is for.
func TestBreaksAreFound(t *testing.T) {
	t.Parallel()
	document := present(t)
	for name, c := range map[string][2]string{
		"an operation went":          {`"/transit/random": {`, `"/transit/chance": {`},
		"an answer's member went":    {`"latest_version": {`, `"newest_version": {`},
		"a member's type changed":    {"\"ciphertext\": {\n            \"type\": \"string\"", "\"ciphertext\": {\n            \"type\": \"integer\""},
		"a request's field went":     {`"plaintext": {`, `"cleartext": {`},
		"a status of an answer went": {`"204": {`, `"205": {`},
	} {
		changed := bytes.ReplaceAll(document, []byte(c[0]), []byte(c[1]))
		if bytes.Equal(changed, document) {
			t.Errorf("%s: the document has no %s", name, c[0])
		} else if len(breaks(t, document, changed)) == 0 {
			t.Errorf("%s, and nothing is told", name)
		}
		if found := breaks(t, document, document); len(found) > 0 {
			t.Errorf("nothing changed: %v", found)
		}
	}
}

func present(t *testing.T) []byte {
	t.Helper()
	text, err := exec.Command(harness.Binary(t), "openapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// breaks lists what breaks clients. Clients of an open format survive some of it,
// which is why oasdiff only warns of that; here it counts too.
func breaks(t *testing.T, before, now []byte) []string {
	t.Helper()
	d, sources, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), specification(t, before), specification(t, now))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range checker.CheckBackwardCompatibility(checker.NewConfig(checker.GetAllChecks()), d, sources) {
		if c.GetLevel() >= checker.WARN {
			list = append(list, c.GetOperation()+" "+c.GetPath()+": "+c.GetUncolorizedText(checker.NewDefaultLocalizer()))
		}
	}
	return list
}

func specification(t *testing.T, text []byte) *load.SpecInfo {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	return &load.SpecInfo{Url: "openapi.json", Spec: document}
}
