package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// sampleLog is a log of two files with checkpoints within and unsigned lines at the end.
func sampleLog(t testing.TB) (files [2][]string, head Head) {
	t.Helper()
	cfg := testConfig(t)
	l := mustOpen(t, cfg)
	for i := range 2 {
		for range 3 {
			mustWrite(t, l, 0, 4)
			if err := l.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mustWrite(t, l, 0, 3)
		if i == 0 {
			if err := os.Rename(cfg.Path, cfg.Path+".1"); err != nil {
				t.Fatal(err)
			}
			if err := l.Reopen(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	head = l.Status().Head
	crash(l)
	files[0], files[1] = readLines(t, cfg.Path+".1"), readLines(t, cfg.Path)
	files[1][len(files[1])-1] += "\n"
	files[0][len(files[0])-1] += "\n"
	return files, head
}

func verifyLines(t testing.TB, head *Head, files ...[]string) *Report {
	t.Helper()
	var inputs []Input
	for i, lines := range files {
		inputs = append(inputs, Input{fmt.Sprint("file", i), strings.NewReader(strings.Join(lines, ""))})
	}
	r, err := Verify(VerifyOptions{PublicKeys: [][]byte{testPublic()}, Head: head}, inputs...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantFault checks where the first fault is, and that it is one of kinds.
func wantFault(t *testing.T, what string, r *Report, file, line int, kinds ...FaultKind) {
	t.Helper()
	if r.Fault == nil {
		t.Errorf("%s: not found", what)
		return
	}
	if r.Fault.File != fmt.Sprint("file", file) || r.Fault.Line != line || !slices.Contains(kinds, r.Fault.Kind) {
		t.Errorf("%s: got %v, want file%d line %d %v", what, r.Fault, file, line, kinds)
	}
}

func TestVerifySample(t *testing.T) {
	t.Parallel()
	files, head := sampleLog(t)
	r := verifyLines(t, &head, files[0], files[1])
	if r.Fault != nil || r.Files != 2 || r.Records != 30 || r.Checkpoints != 7 || r.Unsigned != 3 || r.Last != head || r.FirstTime == "" || r.LastTime < r.FirstTime {
		t.Errorf("%+v", r)
	}
	// A file alone verifies too, and the report says that others came before.
	r = verifyLines(t, nil, files[1])
	if r.Fault != nil || r.First != uint64(len(files[0])+1) || r.Last != head {
		t.Errorf("second file alone: %+v", r)
	}
	wantFault(t, "files in the wrong order", verifyLines(t, nil, files[1], files[0]), 1, 1, Dropped)
	wantFault(t, "the same file twice", verifyLines(t, nil, files[0], files[0]), 1, 1, Dropped)
	wantFault(t, "an empty file", verifyLines(t, nil, files[0], nil), 1, 1, Dropped)
}

// Every line of both files is changed, dropped, swapped with the next and
// repeated; the fault is found at that line, by its kind.
func TestVerifyTamperedLines(t *testing.T) {
	t.Parallel()
	files, head := sampleLog(t)
	for f := range files {
		last := len(files[f]) - 1
		edit := func(what string, line int, change func([]string) []string, kinds ...FaultKind) {
			t.Helper()
			edited := files
			edited[f] = change(slices.Clone(files[f]))
			r := verifyLines(t, &head, edited[0], edited[1])
			wantFault(t, fmt.Sprintf("file%d line %d %s", f, line, what), r, f, line, kinds...)
		}
		for i, text := range files[f] {
			changed := strings.Replace(text, `"time":"20`, `"time":"21`, 1)
			edit("changed", i+1, func(s []string) []string { s[i] = changed; return s }, Changed)
			edit("repeated", i+2, func(s []string) []string { return slices.Insert(s, i, text) }, Repeated, Malformed)
			if i == 0 {
				edit("dropped", 1, func(s []string) []string { return s[1:] }, Dropped)
			} else if i < last {
				edit("dropped", i+1, func(s []string) []string { return slices.Delete(s, i, i+1) }, Dropped)
			}
			if i < last {
				edit("swapped", i+1, func(s []string) []string { s[i], s[i+1] = s[i+1], s[i]; return s }, Reordered, Dropped)
			}
		}
	}
}

// Lines missing at the end: of a file that another follows, at that one's
// beginning; of the last file, if the head is known.
func TestVerifyCutEnd(t *testing.T) {
	t.Parallel()
	files, head := sampleLog(t)
	for n := range len(files[0]) - 1 {
		wantFault(t, fmt.Sprint("first file cut by ", n+1), verifyLines(t, nil, files[0][:len(files[0])-1-n], files[1]), 1, 1, Dropped)
	}
	for n := range len(files[1]) - 1 {
		cut := files[1][:len(files[1])-1-n]
		if r := verifyLines(t, nil, files[0], cut); r.Fault != nil {
			t.Errorf("cut by %d: %v", n+1, r.Fault)
		}
		wantFault(t, fmt.Sprint("last file cut by ", n+1), verifyLines(t, &head, files[0], cut), 1, len(cut), Missing)
	}
}

// Every byte of a log is changed, added and removed: found in its line.
func TestVerifyEveryByte(t *testing.T) {
	t.Parallel()
	files, _ := sampleLog(t)
	all := strings.Join(files[0][:8], "") // up to two lines after the first checkpoint
	head := verifyText(t, nil, all).Last
	line, start := 1, 0
	for i := range len(all) {
		for _, b := range []byte{all[i] ^ 1, all[i] ^ 0x80, '0', '\n'} {
			if b == all[i] {
				continue
			}
			r := verifyText(t, &head, all[:i]+string([]byte{b})+all[i+1:])
			if r.Fault == nil || r.Fault.Line != line {
				t.Fatalf("byte %d (%d of line %d) became %q: %v", i, i-start, line, b, r.Fault)
			}
		}
		r := verifyText(t, &head, all[:i]+all[i+1:])
		// A removed newline at the very end leaves a line that is whole but for it.
		if r.Fault == nil || r.Fault.Line != line {
			t.Fatalf("byte %d (%d of line %d) removed: %v", i, i-start, line, r.Fault)
		}
		if all[i] == '\n' {
			line, start = line+1, i+1
		}
	}
}

func verifyText(t *testing.T, head *Head, text string) *Report {
	t.Helper()
	r, err := Verify(VerifyOptions{PublicKeys: [][]byte{testPublic()}, Head: head}, Input{"file0", strings.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rechain gives lines from the one of index i on numbers and chains that fit,
// as somebody without the key can do.
func rechain(t *testing.T, lines []string, i int) []string {
	t.Helper()
	var at chain
	for n, text := range lines {
		l, err := parseLine([]byte(strings.TrimSuffix(text, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		if n >= i {
			body := fmt.Appendf(nil, `{"seq":%d%s`, at.seq+1, l.rest)
			at.add(body)
			lines[n] = fmt.Sprintf("%s%s%x\"}\n", body, chainField, at.hash)
			continue
		}
		at.add(l.body)
	}
	return lines
}

// Without the key no line before the last checkpoint can be replaced, not even
// with numbers and chains that fit.
func TestVerifyForged(t *testing.T) {
	t.Parallel()
	files, _ := sampleLog(t)
	covered := map[int]bool{}
	for i, text := range files[0] {
		if strings.Contains(text, `"type":"checkpoint"`) {
			covered[i+1] = true
		}
	}
	nextCheckpoint := func(i int) int {
		for ; i <= len(files[0]); i++ {
			if covered[i] {
				return i
			}
		}
		return 0
	}
	for i, text := range files[0] {
		forged := slices.Clone(files[0])
		forged[i] = strings.Replace(text, `"time":"20`, `"time":"21`, 1)
		rechain(t, forged, i)
		// The checkpoint line itself covers only what is before it: its own
		// change is found at the next one.
		want := nextCheckpoint(i + 1)
		if want == i+1 {
			want = nextCheckpoint(i + 2)
		}
		r := verifyLines(t, nil, forged)
		if want == 0 {
			if r.Fault != nil || r.Unsigned == 0 && !covered[i+1] {
				t.Errorf("line %d in the unsigned end: %+v", i+1, r)
			}
			continue
		}
		wantFault(t, fmt.Sprint("forged line ", i+1), r, 0, want, Rewritten)
	}
	// With all later checkpoints taken out the forgery stays unsigned.
	var without []string
	for i, text := range files[0] {
		if i < 8 || !covered[i+1] {
			without = append(without, text)
		}
	}
	r := verifyLines(t, nil, rechain(t, without, 8))
	if r.Fault != nil || r.Checkpoints != 1 || r.Unsigned < 10 {
		t.Errorf("without checkpoints: %+v", r)
	}
}

// Checkpoints whose signature or key is another's.
func TestVerifySignatures(t *testing.T) {
	t.Parallel()
	files, _ := sampleLog(t)
	at := slices.IndexFunc(files[0], func(s string) bool { return strings.Contains(s, `"type":"checkpoint"`) })
	edit := func(from, to string) []string {
		lines := slices.Clone(files[0])
		if !strings.Contains(lines[at], from) {
			t.Fatalf("no %s in %s", from, lines[at])
		}
		lines[at] = strings.Replace(lines[at], from, to, 1)
		return rechain(t, lines, at)
	}
	signature, _, _ := strings.Cut(strings.Split(files[0][at], `"signature":"`)[1], `"`)
	zeros := strings.Repeat("0", 128)
	wantFault(t, "zero signature", verifyLines(t, nil, edit(signature, zeros)), 0, at+1, BadSignature)
	wantFault(t, "short signature", verifyLines(t, nil, edit(signature, signature[:126])), 0, at+1, BadSignature)
	wantFault(t, "capital letters", verifyLines(t, nil, edit(signature, strings.ToUpper(signature))), 0, at+1, Malformed)
	wantFault(t, "additional field", verifyLines(t, nil, edit(`,"covers"`, `,"note":"x","covers"`)), 0, at+1, Malformed)
	wantFault(t, "another key's name", verifyLines(t, nil, edit(keyID(testPublic()), strings.Repeat("1", 64))), 0, at+1, UnknownKey)
	wantFault(t, "covers later", verifyLines(t, nil, edit(`"covers":5`, `"covers":4`)), 0, at+1, Rewritten)
	wantFault(t, "covers itself", verifyLines(t, nil, edit(`"covers":5`, `"covers":6`)), 0, at+1, Rewritten)
	wantFault(t, "covers far", verifyLines(t, nil, edit(`"covers":5`, `"covers":18446744073709551615`)), 0, at+1, Rewritten)

	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKIXPublicKey(&other.PublicKey)
	in := func() Input { return Input{"file0", strings.NewReader(strings.Join(files[0], ""))} }
	r, err := Verify(VerifyOptions{PublicKeys: [][]byte{der}}, in())
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, "wrong key", r, 0, at+1, UnknownKey)
	if r, err := Verify(VerifyOptions{PublicKeys: [][]byte{der, testPublic()}}, in()); err != nil || r.Fault != nil {
		t.Errorf("with both keys: %v, %v", err, r.Fault)
	}
	if _, err := Verify(VerifyOptions{PublicKeys: [][]byte{[]byte("x")}}, in()); err == nil {
		t.Error("a public key that is none was taken")
	}
}

func TestVerifyTorn(t *testing.T) {
	t.Parallel()
	files, _ := sampleLog(t)
	all := strings.Join(files[0], "")
	whole := len(all) - len(files[0][len(files[0])-1])
	for n := whole + 1; n < len(all); n++ {
		wantFault(t, fmt.Sprint("torn after ", n-whole), verifyText(t, nil, all[:n]), 0, len(files[0]), Torn)
	}
	wantFault(t, "zeros at the end", verifyText(t, nil, all+strings.Repeat("\x00", 4096)), 0, len(files[0])+1, Torn)
	wantFault(t, "an endless line", verifyText(t, nil, all+strings.Repeat("x", maxLine+100)), 0, len(files[0])+1, Malformed)
}

func TestVerifyFilesMissing(t *testing.T) {
	t.Parallel()
	if _, err := VerifyFiles(VerifyOptions{}, "/nonexistent/audit.log"); err == nil {
		t.Error("no error")
	}
	if _, err := VerifyFiles(VerifyOptions{}, t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

// Whatever a file holds, Verify ends; and what it calls signed is what was signed.
func FuzzVerify(f *testing.F) {
	genuine, err := os.ReadFile(fixtureLog)
	if err != nil {
		f.Fatal(err)
	}
	public, err := os.ReadFile(fixturePublic)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add(genuine[:len(genuine)/2])
	lines := bytes.SplitAfter(genuine, []byte("\n"))
	f.Add(bytes.Join(slices.Concat(lines[:3], lines[4:]), nil))
	f.Add([]byte(`{"seq":1,"time":"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Verify(VerifyOptions{PublicKeys: [][]byte{decodePublic(t, public)}}, Input{"fuzz", bytes.NewReader(data)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Signed == 0 {
			return
		}
		signed := bytes.Join(lines[:r.Signed], nil)
		if !bytes.HasPrefix(data, signed) {
			t.Errorf("%d lines pass for signed and are not those of the log", r.Signed)
		}
	})
}
