package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// held is the transcript of a ceremony that was held.
func held(t *testing.T) []byte {
	t.Helper()
	s := newStage(t)
	_, err := s.run(t.Context(), nil)
	must(t, err)
	text, err := os.ReadFile(filepath.Join(s.dir, "t.transcript"))
	must(t, err)
	return text
}

// A bit that is turned in any byte is found, and every line that is dropped, doubled
// or cut.
func TestAltered(t *testing.T) {
	t.Parallel()
	text := held(t)
	_, err := Verify(text, VerifyOptions{})
	must(t, err)
	for at := range text {
		b := bytes.Clone(text)
		b[at] ^= 1 << (at % 8)
		if _, err := Verify(b, VerifyOptions{}); err == nil {
			t.Fatalf("bit %d of byte %d (%q) is turned unnoticed", at%8, at, text[at])
		}
	}
	lines := bytes.SplitAfter(text[:len(text)-1], []byte("\n"))
	join := func(list ...[]byte) []byte {
		return append(bytes.TrimSuffix(bytes.Join(list, nil), []byte("\n")), '\n')
	}
	for i := range lines {
		if _, err := Verify(join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...)...), VerifyOptions{}); err == nil {
			t.Errorf("line %d is dropped unnoticed", i)
		}
		if _, err := Verify(join(append(append([][]byte{}, lines[:i+1]...), lines[i:]...)...), VerifyOptions{}); err == nil {
			t.Errorf("line %d is doubled unnoticed", i)
		}
		if _, err := Verify(text[:len(text)-1-i], VerifyOptions{}); err == nil {
			t.Errorf("%d bytes are cut unnoticed", i+1)
		}
	}
}

// A transcript that was written with a key of its maker's, all hashes right, must
// still say what a ceremony can say.
func TestForged(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	text := held(t)
	p, err := parse(text)
	must(t, err)
	forge := func(edit func([]Entry) []Entry) []byte {
		var list []Entry
		for raw := range bytes.Lines(text) {
			e, err := parseEntry(bytes.TrimSuffix(raw, []byte("\n")))
			must(t, err)
			list = append(list, *e)
		}
		list = list[:len(list)-1]
		pkix := spkiOf(t, key)
		token := *list[1].Token
		token.TranscriptKey = fingerprint(pkix)
		list[1].Token = &token
		tr := newTranscript(time.Now)
		for _, e := range edit(list) {
			must(t, tr.add(func(to *Entry) {
				e.Seq, e.Prev = to.Seq, to.Prev
				*to = e
			}))
		}
		must(t, tr.sign(key))
		return tr.bytes()
	}
	same := func(l []Entry) []Entry { return l }
	_, err = Verify(forge(same), VerifyOptions{})
	must(t, err) // it is whole: only the key tells
	_, err = Verify(forge(same), VerifyOptions{Key: fingerprint(p.last.Signature.PublicKey)})
	wantError(t, err, "is signed by the key")
	at := func(l []Entry, is func(Entry) bool) int {
		for i, e := range l {
			if is(e) {
				return i
			}
		}
		t.Fatal("no such line")
		return 0
	}
	confirmation := func(e Entry) bool { return e.Confirmation != nil }
	for want, edit := range map[string]func([]Entry) []Entry{
		"1 custodians confirmed": func(l []Entry) []Entry {
			i := at(l, confirmation)
			return append(l[:i:i], l[i+1:]...)
		},
		"confirmation of \"Alice Example\"": func(l []Entry) []Entry {
			i := at(l, confirmation)
			l[i+1] = l[i]
			return l
		},
		"confirmation of \"Mallory\"": func(l []Entry) []Entry {
			l[at(l, confirmation)].Confirmation.Custodian = "Mallory"
			return l
		},
		"digest of the plan": func(l []Entry) []Entry { l[0].Begin.Rehearsal = true; return l },
		"digest of the file": func(l []Entry) []Entry {
			l[at(l, func(e Entry) bool { return e.Output != nil })].Output.SHA256 = noLine
			return l
		},
		"does not hold what was confirmed": func(l []Entry) []Entry {
			l[at(l, func(e Entry) bool { return e.Output != nil })].Output.Item = "another"
			return l
		},
		"another key than it names": func(l []Entry) []Entry { l[1].Token.TranscriptKey = noLine; return l },
		"of a version":              func(l []Entry) []Entry { l[0].Begin.Version = 3; return l },
		"neither with files": func(l []Entry) []Entry {
			l[at(l, func(e Entry) bool { return e.End != nil })].End.Outcome = "perhaps"
			return l
		},
		"can't stand here": func(l []Entry) []Entry { l[1], l[2] = l[2], l[1]; return l },
		"not one thing":    func(l []Entry) []Entry { l[1].Begin = l[0].Begin; return l },
		"older":            func(l []Entry) []Entry { l[2].Time = l[2].Time.Add(-time.Hour); return l },
	} {
		_, err := Verify(forge(edit), VerifyOptions{})
		wantError(t, err, want)
	}
	_, err = Verify(nil, VerifyOptions{})
	wantError(t, err, "whole line")
	_, err = Verify(make([]byte, MaxTranscript+1), VerifyOptions{})
	wantError(t, err, "at most")
}

// The keys of tokens are of three kinds.
func TestSignatures(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	for _, key := range []crypto.Signer{rsaKey, edwards, ecKey} {
		tr := newTranscript(time.Now)
		must(t, tr.sign(key))
		e, err := parseEntry(tr.lines[0])
		must(t, err)
		must(t, e.verifies())
		e.Prev = strings.Repeat("1", 64)
		wantError(t, e.verifies(), "signature of the transcript is wrong")
	}
}

// A clock that is set back makes no transcript that can't be verified.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	now := time.Now()
	_, err := s.run(t.Context(), func(o *Options) {
		o.Now = func() time.Time { now = now.Add(-time.Minute); return now }
	})
	must(t, err)
}

// A phrase and a digest, computed independently, stay as they are.
func TestPhrase(t *testing.T) {
	t.Parallel()
	plan := Plan{Items: []Item{{"message", []byte{1, 2, 3}}}}
	digest := plan.digest(strings.Repeat("a", 64), false)
	if got := fmt.Sprintf("%x", digest); got != knownDigest {
		t.Errorf("digest %s", got)
	}
	if got := phrase("Alice", digest); got != knownPhrase {
		t.Errorf("phrase %s", got)
	}
	if phrase("Bob", digest) == knownPhrase || bytes.Equal(plan.digest(strings.Repeat("a", 64), true), digest) {
		t.Error("another custodian or a rehearsal has the same")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"seq":0,"time":"2026-01-01T00:00:00Z","prev":"` + noLine + `","end":{"outcome":"done"}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := Verify(text, VerifyOptions{}); err == nil && len(r.Confirmed) < r.Threshold {
			t.Errorf("accepted: %+v", r)
		}
	})
}
