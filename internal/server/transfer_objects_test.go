package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/token/tokentest"
)

const foreignPIN = "pin-of-the-house"

// foreignParty is a server with a transferable KEK on an HSM token in which another
// program has made keys, which the server has adopted.
func foreignParty(t *testing.T, objects [][]string) *party {
	t.Helper()
	cfg := hsmConfig(t)
	receive(t, cfg, foreignPIN, nil)
	var env []string
	for name, value := range cfg.Token.PKCS11.Env {
		env = append(env, name+"="+value)
	}
	for _, o := range objects {
		tokentest.Tool(t, cfg.Token.PKCS11.Module, cfg.Token.Label, foreignPIN, env, append([]string{"--label", o[0], "--id", "0" + o[1]}, o[2:]...)...)
	}
	s := running(t, cfg, Options{})
	var init api.InitResult
	ok(t, s, "PUT", "sys/init", "", api.Init{SecretShares: 1, SecretThreshold: 1, TransferableKEK: true, HSMToken: "adopt", HSMPIN: foreignPIN}, &init)
	unseal(t, s, init.Keys)
	for _, o := range objects {
		ok(t, s, "POST", "transit/keys/"+o[0]+"/adopt", init.RootToken, map[string]any{"label": o[0]}, nil)
	}
	return &party{s, init.RootToken, init.Keys}
}

// TestTransferObjects: extractable objects of the HSM token come to another server as
// wrapped keys; the others are named with the reason why they stay.
func TestTransferObjects(t *testing.T) {
	t.Parallel()
	from := foreignParty(t, [][]string{
		{"rsa", "1", "--keypairgen", "--key-type", "rsa:2048", "--extractable"},
		{"ec", "2", "--keypairgen", "--key-type", "EC:prime256v1", "--extractable"},
		{"aes", "3", "--keygen", "--key-type", "AES:32", "--extractable"},
		{"mac", "4", "--keygen", "--key-type", "GENERIC:32", "--extractable"},
		{"edwards", "5", "--keypairgen", "--key-type", "EC:edwards25519", "--extractable"},
		{"stays", "6", "--keypairgen", "--key-type", "EC:prime256v1"},
	})
	to := newParty(t, 1, 1, false)
	ok(t, from.Server, "POST", "transit/keys/own", from.root, map[string]any{"protection": "token"}, nil)
	ok(t, from.Server, "POST", "transit/keys/ordinary", from.root, nil, nil)
	texts := map[string]string{"rsa": "", "aes": "", "ordinary": ""}
	for name := range texts {
		texts[name] = encryptWith(t, from.Server, from.root, "transit/encrypt/"+name)
	}
	signed, macs := map[string]any{}, map[string]any{}
	for _, name := range []string{"ec", "rsa"} {
		signed[name] = call[map[string]any](t, from, "POST", "transit/sign/"+name, map[string]any{"input": "aGk="})["signature"]
	}
	for _, name := range []string{"ec", "mac"} {
		macs[name] = call[map[string]any](t, from, "POST", "transit/hmac/"+name, map[string]any{"input": "aGk="})["hmac"]
	}

	prepared := call[api.PreparedTransfer](t, to, "POST", "sys/transfer/prepare", api.PrepareTransfer{})
	for name, why := range map[string]string{"own": "was made here", "stays": "not CKA_EXTRACTABLE", "edwards": "wrapping a key of type ed25519"} {
		from.refused(t, "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement, Keys: []string{"transit/" + name}}, why)
	}
	st := call[api.TransferStatus](t, from, "POST", "sys/transfer/export", api.StartTransfer{Statement: prepared.Statement, Mounts: []string{"transit"}})
	if st.Keys != 5 || !slices.Equal(st.LeftOut, []string{"transit/edwards", "transit/own", "transit/stays"}) {
		t.Errorf("%+v", st)
	}
	for name, why := range map[string]string{"own": "was made here", "stays": "not CKA_EXTRACTABLE", "edwards": "wrapping a key of type ed25519"} {
		if !strings.Contains(st.Reasons["transit/"+name], why) {
			t.Errorf("%s stays: %q", name, st.Reasons["transit/"+name])
		}
	}
	from.confirmed(t, st)
	id := call[api.ImportStatus](t, to, "POST", "sys/transfer/import", api.StartImport{Header: from.line(t, st.Nonce, 0)}).ID
	chunk := from.line(t, st.Nonce, 1)
	if done := call[api.ImportStatus](t, to, "POST", "sys/transfer/import/line", api.ImportLine{ID: id, Line: chunk}); !done.Complete || done.Imported != 5 {
		t.Errorf("%+v", done)
	}

	for name, text := range texts {
		decryptsWith(t, to.Server, to.root, "transit/decrypt/"+name, text)
	}
	for name, s := range signed {
		if v := call[map[string]any](t, to, "POST", "transit/verify/"+name, map[string]any{"input": "aGk=", "signature": s}); v["valid"] != true {
			t.Errorf("%s: %v", name, v)
		}
		fresh := call[map[string]any](t, to, "POST", "transit/sign/"+name, map[string]any{"input": "aGk="})["signature"]
		if v := call[map[string]any](t, from, "POST", "transit/verify/"+name, map[string]any{"input": "aGk=", "signature": fresh}); v["valid"] != true {
			t.Errorf("%s: the source does not verify what the destination signs: %v", name, v)
		}
	}
	for name, mac := range macs {
		if v := call[map[string]any](t, to, "POST", "transit/verify/"+name, map[string]any{"input": "aGk=", "hmac": mac}); v["valid"] != true {
			t.Errorf("%s: %v", name, v)
		}
	}
	for _, name := range []string{"rsa", "aes", "mac"} {
		if k := call[map[string]any](t, to, "GET", "transit/keys/"+name, nil); k["protection"] != "wrapped" || k["adopted"] == true {
			t.Errorf("%s: %v", name, k)
		}
		if k := call[map[string]any](t, from, "GET", "transit/keys/"+name, nil); k["protection"] != "token" || k["adopted"] != true {
			t.Errorf("%s in the source: %v", name, k)
		}
	}
	ok(t, to.Server, "POST", "transit/keys/rsa/rotate", to.root, nil, nil)
}
