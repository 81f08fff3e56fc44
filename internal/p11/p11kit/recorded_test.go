package p11kit

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/p11"
)

var updated = flag.Bool("update", false, "record testdata/p11-kit.txt again")

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// exchange is a request of p11-kit-client.so and what p11-kit's own server answered.
type exchange struct{ request, answer []byte }

const recordFile = "testdata/p11-kit.txt"

func readRecord(t testing.TB) []exchange {
	t.Helper()
	text, err := os.ReadFile(recordFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		var e exchange
		_, err := fmt.Sscanf(fields[1]+" "+fields[2], "%x %x", &e.request, &e.answer)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// Every message of p11-kit is read, and written the same again.
func TestRecorded(t *testing.T) {
	t.Parallel()
	record := readRecord(t)
	seen := map[string]bool{}
	for _, e := range record {
		seen[checkExchange(t, e)] = true
	}
	for _, name := range []string{"C_Initialize", "C_GetInfo", "C_GetTokenInfo", "C_GetMechanismList", "C_OpenSession", "C_Login", "C_FindObjects",
		"C_GetAttributeValue", "C_SignInit", "C_Sign", "C_DecryptInit", "C_Decrypt", "C_GenerateKeyPair", "C_GenerateKey", "C_CreateObject",
		"C_DestroyObject", "C_GenerateRandom", "C_Digest", "C_CloseSession", "C_Finalize"} {
		if !seen[name] {
			t.Errorf("%s was not recorded", name)
		}
	}
}

// checkExchange returns the name of the call.
func checkExchange(t *testing.T, e exchange) string {
	t.Helper()
	r := &reader{p11.NewReader(e.request), 0}
	number, signature := r.U32(), string(r.Bytes())
	if number == 0 || int(number) >= len(calls) || calls[number].request != signature {
		t.Fatalf("call %d %q", number, signature)
	}
	name := calls[number].name
	again(t, name, e.request, r, number, signature, false)
	r = &reader{p11.NewReader(e.answer), 0}
	answer, signature := r.U32(), string(r.Bytes())
	if answer == callError {
		again(t, name, e.answer, r, answer, "u", true)
		return name
	}
	if answer != number || signature != calls[number].response {
		t.Errorf("%s answers %d %q", name, answer, signature)
	}
	again(t, name, e.answer, r, answer, signature, true)
	return name
}

// again decodes what a signature says, encodes it and compares.
func again(t *testing.T, name string, message []byte, r *reader, number uint32, signature string, answer bool) {
	t.Helper()
	w := &writer{}
	w.begin(number, signature)
	for s := signature; s != ""; {
		n := 1
		if strings.HasPrefix(s, "a") || strings.HasPrefix(s, "f") {
			n = 2
		}
		recode(r, w, s[:n], answer)
		s = s[n:]
	}
	if r.Err != nil && r.Err.Code == p11.CKR_MECHANISM_INVALID {
		return // MD5 and the like
	}
	if err := r.End(); err != nil {
		t.Errorf("%s: %v in %x", name, err, message)
	} else if !bytes.Equal(w.B, message) {
		t.Errorf("%s:\n%x became\n%x", name, message, w.B)
	}
}

func recode(r *reader, w *writer, value string, answer bool) {
	switch value {
	case "u":
		w.U64(r.number())
	case "y":
		w.U8(r.U8())
	case "v":
		w.release(r.U8(), r.U8())
	case "s":
		b := r.Bytes()
		w.text(strings.TrimRight(string(b), " "), len(b))
	case "fu", "fy":
		w.U32(r.room())
	case "ay":
		if r.Bool() {
			w.bytes(r.blob())
		} else {
			w.size(int(r.U32()))
		}
	case "au":
		recodeNumbers(r, w)
	case "fA":
		encode(w, r.wanted())
	case "M":
		recodeMechanism(r, w)
	case "aA":
		if answer {
			recodeAnswer(r, w)
		} else {
			encode(w, r.attributes())
		}
	}
}

func recodeNumbers(r *reader, w *writer) {
	if !r.Bool() {
		w.size(int(r.U32()))
		return
	}
	v := make([]uint64, r.U32())
	for i := range v {
		v[i] = r.U64()
	}
	w.numbers(v, uint32(len(v)))
}

func recodeMechanism(r *reader, w *writer) {
	m := r.mechanism()
	w.U32(uint32(m.Number))
	switch m.Form {
	case p11.ParamNone:
		w.U32(noBytes)
	case p11.ParamPSS:
		w.U64(m.PSS.Hash)
		w.U64(m.PSS.MGF)
		w.U64(m.PSS.Salt)
	case p11.ParamOAEP:
		w.U64(m.OAEP.Hash)
		w.U64(m.OAEP.MGF)
		w.U64(m.OAEP.Source)
		if m.OAEP.Label == nil {
			w.U32(noBytes)
		} else {
			w.Bytes(m.OAEP.Label)
		}
	}
}

// recodeAnswer: an attribute in an answer may have no value, and one that was asked
// for its length only has it without the value.
func recodeAnswer(r *reader, w *writer) {
	n := r.U32()
	w.U32(n)
	for range n {
		rest := r.Rest()
		head := p11.NewReader(rest)
		if t, valid := head.U32(), head.U8(); valid == 0 {
			w.U32(t)
			w.U8(0)
			r.Reader = head
			continue
		} else if length := head.U32(); forms[uint64(t)] == asBytes && head.U32() == noBytes {
			w.U32(t)
			w.U8(1)
			w.U32(length)
			w.U32(noBytes)
			r.Reader = head
			continue
		}
		r.Reader = p11.NewReader(rest)
		a := r.attribute()
		one := &writer{}
		encode(one, p11.Attributes{a})
		w.B = append(w.B, one.B[4:]...)
	}
}
