package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/token/tokentest"
)

// hsmConfig is a configuration with a new SoftHSM2 token.
func hsmConfig(t *testing.T) *config.Config {
	t.Helper()
	module, env := tokentest.SoftHSM(t)
	cfg := config.Dev(t.TempDir())
	cfg.Token.Driver = config.DriverPKCS11
	cfg.Token.PKCS11.Module, cfg.Token.PKCS11.Workers = module, 1
	name, value, _ := strings.Cut(env[0], "=")
	cfg.Token.PKCS11.Env = map[string]string{name: value}
	return cfg
}

// party is a server that takes part in a transfer.
type party struct {
	*Server
	root   string
	shares []string
}

func newParty(t *testing.T, n, threshold int, transferable bool) *party {
	t.Helper()
	s := running(t, hsmConfig(t), Options{})
	var init api.InitResult
	ok(t, s, "PUT", "sys/init", "", api.Init{SecretShares: n, SecretThreshold: threshold, TransferableKEK: transferable}, &init)
	unseal(t, s, init.Keys[:threshold])
	return &party{s, init.RootToken, init.Keys}
}

// call posts a request and reads the answer's data.
func call[R any](t *testing.T, p *party, method, path string, body any) (data R) {
	t.Helper()
	var a dataOf[R]
	ok(t, p.Server, method, path, p.root, body, &a)
	return a.Data
}

// refused wants an error with a text in it.
func (p *party) refused(t *testing.T, path string, body any, text string) {
	t.Helper()
	var answer string
	if status := do(t, p.Server, "POST", path, p.root, body, &answer); status < 400 || !strings.Contains(answer, text) {
		t.Errorf("%s: status %d, %s", path, status, answer)
	}
}

func (p *party) confirmed(t *testing.T, st api.TransferStatus) {
	t.Helper()
	for i, share := range p.shares[:st.Required] {
		now := call[api.TransferStatus](t, p, "POST", "sys/transfer/confirm", api.ConfirmTransfer{Nonce: st.Nonce, Key: share})
		if now.Progress != i+1 || now.Confirmed != (i+1 == st.Required) {
			t.Errorf("%+v", now)
		}
	}
}

func (p *party) line(t *testing.T, nonce string, number int) string {
	t.Helper()
	return call[api.TransferLine](t, p, "POST", "sys/transfer/fetch", api.FetchTransfer{Nonce: nonce, Number: number}).Line
}

var movedTypes = []string{"aes256-gcm96", "ecdsa-p256", "ecdsa-p384", "rsa-2048", "hmac"}

// fill makes keys of every kind, and returns ciphertexts by key.
func fill(t *testing.T, p *party) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, typ := range movedTypes {
		body := map[string]any{"type": typ}
		if typ == "hmac" {
			body["key_size"] = 32
		}
		ok(t, p.Server, "POST", "transit/keys/"+typ, p.root, body, nil)
	}
	ok(t, p.Server, "POST", "transit/keys/soft", p.root, map[string]any{"protection": "software"}, nil)
	ok(t, p.Server, "POST", "transit/keys/derived", p.root, map[string]any{"derived": true}, nil)
	ok(t, p.Server, "POST", "transit/keys/edwards", p.root, map[string]any{"type": "ed25519"}, nil)
	for _, name := range []string{"aes256-gcm96", "rsa-2048", "soft"} {
		texts[name] = encryptWith(t, p.Server, p.root, "transit/encrypt/"+name)
		ok(t, p.Server, "POST", "transit/keys/"+name+"/rotate", p.root, nil, nil)
		texts[name+" 2"] = encryptWith(t, p.Server, p.root, "transit/encrypt/"+name)
	}
	return texts
}

// TestTransferKeys: keys, versions and rules come from one server to another, under
// the eyes of custodians, and are used there.
func TestTransferKeys(t *testing.T) {
	t.Parallel()
	from, to := newParty(t, 3, 2, true), newParty(t, 1, 1, false)
	texts := fill(t, from)
	ok(t, from.Server, "POST", "transit/keys/soft/config", from.root, map[string]any{"min_decryption_version": 1, "deletion_allowed": true}, nil)
	signed := call[map[string]any](t, from, "POST", "transit/sign/ecdsa-p256", map[string]any{"input": "aGk="})["signature"]
	mac := call[map[string]any](t, from, "POST", "transit/hmac/hmac", map[string]any{"input": "aGk="})["hmac"]

	prepared := call[api.PreparedTransfer](t, to, "POST", "sys/transfer/prepare", api.PrepareTransfer{})
	start := api.StartTransfer{Statement: prepared.Statement, Fingerprint: prepared.Fingerprint, Mounts: []string{"transit"}}
	wrong := start
	wrong.Fingerprint = strings.Repeat("0", 64)
	from.refused(t, "sys/transfer/export", wrong, "not the expected one")
	from.refused(t, "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement}, "say what is to be exported")
	from.refused(t, "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement, Keys: []string{"transit/edwards"}}, "never leaves")
	from.refused(t, "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement, Keys: []string{"transit/none"}}, "no key")
	from.refused(t, "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement, Mounts: []string{"none"}}, "no transit mount")
	to.refused(t, "sys/transfer/export", start, "was not made transferable")

	st := call[api.TransferStatus](t, from, "POST", "sys/transfer/export", start)
	if st.Keys != 7 || st.Chunks != 1 || !slices.Equal(st.LeftOut, []string{"transit/edwards"}) || st.Required != 2 || st.Confirmed ||
		st.Destination.Model == "" || !st.Attributes["CKA_NEVER_EXTRACTABLE"] || st.Fingerprint != prepared.Fingerprint {
		t.Errorf("%+v", st)
	}
	fetch := api.FetchTransfer{Nonce: st.Nonce, Number: 1}
	from.refused(t, "sys/transfer/fetch", fetch, "nothing left this server")
	from.refused(t, "sys/transfer/confirm", api.ConfirmTransfer{Nonce: "no", Key: from.shares[0]}, "incorrect nonce")
	from.refused(t, "sys/transfer/confirm", api.ConfirmTransfer{Nonce: st.Nonce, Key: to.shares[0]}, "another set")
	call[api.TransferStatus](t, from, "POST", "sys/transfer/confirm", api.ConfirmTransfer{Nonce: st.Nonce, Key: from.shares[2]})
	from.refused(t, "sys/transfer/confirm", api.ConfirmTransfer{Nonce: st.Nonce, Key: from.shares[2]}, "given already")
	from.refused(t, "sys/transfer/fetch", fetch, "nothing left this server")
	if now := call[api.TransferStatus](t, from, "POST", "sys/transfer/confirm", api.ConfirmTransfer{Nonce: st.Nonce, Key: from.shares[0]}); !now.Confirmed {
		t.Errorf("%+v", now)
	}
	from.refused(t, "sys/transfer/export", start, "another export")
	from.refused(t, "sys/transfer/fetch", api.FetchTransfer{Nonce: st.Nonce, Number: 2}, "no number 2")

	header, chunk := from.line(t, st.Nonce, 0), from.line(t, st.Nonce, 1)
	flippedRing(t, to, header, chunk)
	began := call[api.ImportStatus](t, to, "POST", "sys/transfer/import", api.StartImport{Header: header})
	if began.Next != 1 || began.Keys != 7 {
		t.Errorf("%+v", began)
	}
	flippedChunk(t, to, began.ID, chunk)
	done := call[api.ImportStatus](t, to, "POST", "sys/transfer/import/line", api.ImportLine{ID: began.ID, Line: chunk})
	if !done.Complete || done.Imported != 7 {
		t.Errorf("%+v", done)
	}
	if again := call[api.ImportStatus](t, to, "POST", "sys/transfer/import/line", api.ImportLine{ID: began.ID, Line: chunk}); again != done {
		t.Errorf("%+v", again)
	}
	for name, text := range texts {
		decryptsWith(t, to.Server, to.root, "transit/decrypt/"+strings.TrimSuffix(name, " 2"), text)
	}
	for path, field := range map[string]map[string]any{
		"transit/verify/ecdsa-p256": {"input": "aGk=", "signature": signed}, "transit/verify/hmac": {"input": "aGk=", "hmac": mac},
	} {
		if v := call[map[string]any](t, to, "POST", path, field); v["valid"] != true {
			t.Errorf("%s: %v", path, v)
		}
	}
	call[map[string]any](t, to, "POST", "transit/sign/ecdsa-p384", map[string]any{"input": "aGk="})
	soft := call[map[string]any](t, to, "GET", "transit/keys/soft", nil)
	if soft["deletion_allowed"] != true || soft["latest_version"] != float64(2) {
		t.Errorf("%v", soft)
	}
	ok(t, from.Server, "DELETE", "sys/transfer/export", from.root, nil, nil)
	if status := do(t, from.Server, "GET", "sys/transfer/export", from.root, nil, nil); status != 404 {
		t.Errorf("status %d", status)
	}
}

// flipped returns a line with a bit of its body changed.
func flipped(t *testing.T, line string, at int) string {
	t.Helper()
	var e struct {
		Kind      string `json:"kind"`
		Body      []byte `json:"body"`
		Signature []byte `json:"signature"`
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatal(err)
	}
	if at < len(e.Body) {
		e.Body[at] ^= 1
	} else {
		e.Signature[at-len(e.Body)] ^= 1
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

func flippedRing(t *testing.T, to *party, header, chunk string) {
	t.Helper()
	for at := 0; at < 600; at += 97 {
		to.refused(t, "sys/transfer/import", api.StartImport{Header: flipped(t, header, at)}, "errors")
	}
	to.refused(t, "sys/transfer/import", api.StartImport{Header: chunk}, "claviger-ring-1 is needed")
	to.refused(t, "sys/transfer/import", api.StartImport{Header: header[:len(header)/2]}, "not a claviger-ring-1")
	to.refused(t, "sys/transfer/import/line", api.ImportLine{ID: strings.Repeat("ab", 16), Line: chunk}, "no import of the ring")
}

func flippedChunk(t *testing.T, to *party, id, chunk string) {
	t.Helper()
	for at := 0; at < 2000; at += 199 {
		to.refused(t, "sys/transfer/import/line", api.ImportLine{ID: id, Line: flipped(t, chunk, at)}, "errors")
	}
	to.refused(t, "sys/transfer/import/line", api.ImportLine{ID: id, Line: chunk[:len(chunk)/2]}, "not a claviger-chunk-1")
}

// TestTransferElsewhere: a ring opens only where its statement was made, once.
func TestTransferElsewhere(t *testing.T) {
	t.Parallel()
	from, to := newParty(t, 1, 1, true), newParty(t, 1, 1, true)
	ok(t, from.Server, "POST", "transit/keys/k", from.root, nil, nil)
	ok(t, to.Server, "POST", "transit/keys/k", to.root, nil, nil)
	first := call[api.PreparedTransfer](t, to, "POST", "sys/transfer/prepare", nil)
	own := call[api.PreparedTransfer](t, from, "POST", "sys/transfer/prepare", nil)
	st := call[api.TransferStatus](t, from, "POST", "sys/transfer/export", api.StartTransfer{Statement: own.Statement, Keys: []string{"transit/k"}})
	from.confirmed(t, st)
	header := from.line(t, st.Nonce, 0)
	to.refused(t, "sys/transfer/import", api.StartImport{Header: header}, "made for another destination")
	ok(t, from.Server, "DELETE", "sys/transfer/export", from.root, nil, nil)
	st = call[api.TransferStatus](t, from, "POST", "sys/transfer/export", api.StartTransfer{Statement: first.Statement, Keys: []string{"transit/k"}})
	from.confirmed(t, st)
	id := call[api.ImportStatus](t, to, "POST", "sys/transfer/import", api.StartImport{Header: from.line(t, st.Nonce, 0)}).ID
	to.refused(t, "sys/transfer/import/line", api.ImportLine{ID: id, Line: from.line(t, st.Nonce, 1)}, "there is another key")
	from.refused(t, "sys/transfer/export", api.StartTransfer{Statement: strings.Replace(first.Statement, "A", "B", 1), KEK: true}, "errors")
	ok(t, from.Server, "DELETE", "sys/transfer/export", from.root, nil, nil)
	st = call[api.TransferStatus](t, from, "POST", "sys/transfer/export", api.StartTransfer{Statement: first.Statement, KEK: true})
	from.confirmed(t, st)
	to.refused(t, "sys/transfer/import", api.StartImport{Header: from.line(t, st.Nonce, 0)}, "holds a KEK")
}

// TestTransferSoftware: the embedded token takes part in no transfer.
func TestTransferSoftware(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{Dev: &Dev{RootTokenID: "root"}})
	p := &party{Server: s, root: "root"}
	p.refused(t, "sys/transfer/prepare", nil, "the embedded token takes part in no transfer")
}

// A chunk has at most so many keys, and all come, however they are divided.
func TestTransferChunks(t *testing.T) {
	t.Parallel()
	from, to := newParty(t, 1, 1, true), newParty(t, 1, 1, false)
	for i := range 70 {
		ok(t, from.Server, "POST", fmt.Sprintf("transit/keys/k%02d", i), from.root, nil, nil)
	}
	text := encryptWith(t, from.Server, from.root, "transit/encrypt/k69")
	prepared := call[api.PreparedTransfer](t, to, "POST", "sys/transfer/prepare", nil)
	st := call[api.TransferStatus](t, from, "POST", "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement, Mounts: []string{"transit/"}})
	from.confirmed(t, st)
	ok(t, from.Server, "POST", "transit/keys/k05/config", from.root, map[string]any{"deletion_allowed": true}, nil)
	ok(t, from.Server, "DELETE", "transit/keys/k05", from.root, nil, nil)
	id := call[api.ImportStatus](t, to, "POST", "sys/transfer/import", api.StartImport{Header: from.line(t, st.Nonce, 0)}).ID
	var last api.ImportStatus
	for n := 1; n <= st.Chunks; n++ {
		line := from.line(t, st.Nonce, n)
		if n > 1 && bytes.Equal([]byte(line), []byte(from.line(t, st.Nonce, n))) {
			t.Error("a chunk was sealed twice in the same way")
		}
		if n < st.Chunks {
			to.refused(t, "sys/transfer/import/line", api.ImportLine{ID: id, Line: from.line(t, st.Nonce, n+1)}, "is next")
		}
		last = call[api.ImportStatus](t, to, "POST", "sys/transfer/import/line", api.ImportLine{ID: id, Line: line})
	}
	if st.Chunks != 3 || last.Imported != 69 || !last.Complete {
		t.Errorf("%d chunks, %+v", st.Chunks, last)
	}
	decryptsWith(t, to.Server, to.root, "transit/decrypt/k69", text)
}
