package custody

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// rooted is a bed that is unsealed by three shares of five.
func rooted(t *testing.T, change ...func(*Options)) (b *bed, shares []string) {
	t.Helper()
	b = newBed(t, append(change, func(o *Options) { o.OpenGenerateRoot = true })...)
	shares = b.init(5, 3).KeysBase64
	b.give(shares[:3]...)
	return b, shares
}

func (b *bed) startRoot(form string, req api.StartGenerateRoot) api.GenerateRootStatus {
	b.t.Helper()
	return *mustInvoke[api.GenerateRootStatus](b, form+".start", &req)
}

func (b *bed) rootShare(form, nonce, share string) api.GenerateRootStatus {
	b.t.Helper()
	return *mustInvoke[api.GenerateRootStatus](b, form+".update", &api.GiveRootShare{Key: share, Nonce: nonce})
}

func (b *bed) refusedRoot(word, nonce, share string) {
	b.t.Helper()
	_, err := b.invoke("sys.generate-root-token.update", &api.GiveRootShare{Key: share, Nonce: nonce})
	wantFault(b.t, err, fault.Invalid, word)
}

func xor(t *testing.T, encoded, otp string) string {
	t.Helper()
	raw, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != len(otp) {
		t.Fatalf("%q is not the base64 of %d bytes: %v", encoded, len(otp), err)
	}
	for i := range raw {
		raw[i] ^= otp[i]
	}
	return string(raw)
}

func TestGenerateRoot(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	for _, form := range []string{"sys.generate-root", "sys.generate-root-token"} {
		status := func() api.GenerateRootStatus { return *mustInvoke[api.GenerateRootStatus](b, form+".status", nil) }
		if s := status(); s != (api.GenerateRootStatus{Required: 3, OTPLength: len(rootToken)}) {
			t.Errorf("%+v", s)
		}
		for _, otp := range []string{"", "mine, of twenty bytes"[:len(rootToken)]} {
			s := b.startRoot(form, api.StartGenerateRoot{OTP: otp})
			if !s.Started || s.Nonce == "" || (s.OTP == "") != (otp != "") || s.Required != 3 || s.Complete {
				t.Fatalf("%+v", s)
			}
			pad := s.OTP + otp
			if status().OTP != "" {
				t.Error("the one-time pad is shown again")
			}
			for i, share := range []string{shares[4], shares[0]} {
				if got := b.rootShare(form, s.Nonce, share); got.Progress != i+1 || got.Complete || got.EncodedToken != "" {
					t.Errorf("%+v", got)
				}
			}
			done := b.rootShare(form, s.Nonce, shares[2])
			if !done.Complete || done.Progress != 3 || done.EncodedToken != done.EncodedRootToken || xor(t, done.EncodedToken, pad) != rootToken {
				t.Errorf("%+v", done)
			}
			if strings.Contains(done.EncodedToken, rootToken) || status().Started {
				t.Errorf("%+v", status())
			}
		}
	}
	if log := b.log.String(); strings.Contains(log, rootToken) || !strings.Contains(log, "A root token was made") {
		t.Errorf("the log is %s", log)
	}
}

func TestGenerateRootPGP(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	g := newGnuPG(t)
	public, fingerprint := g.key("auditor@example.org", "future-default", "default", "1y")
	s := b.startRoot("sys.generate-root-token", api.StartGenerateRoot{PGPKey: base64.StdEncoding.EncodeToString(public)})
	if s.OTP != "" || s.PGPFingerprint != fingerprint {
		t.Errorf("%+v", s)
	}
	b.rootShare("sys.generate-root-token", s.Nonce, shares[0])
	b.rootShare("sys.generate-root-token", s.Nonce, shares[1])
	done := b.rootShare("sys.generate-root-token", s.Nonce, shares[2])
	message, err := base64.StdEncoding.DecodeString(done.EncodedToken)
	if err != nil || string(g.run(message, "--decrypt")) != rootToken || done.PGPFingerprint != fingerprint {
		t.Errorf("%+v, %v", done, err)
	}
}

// Wrong shares are named, and count for nothing; the attempt goes on.
func TestGenerateRootRefuses(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	b.refusedRoot("no root generation in progress", "", shares[0])
	for word, req := range map[string]api.StartGenerateRoot{
		"exclude each other":  {OTP: strings.Repeat("x", len(rootToken)), PGPKey: "x"},
		"wrong length":        {OTP: "short"},
		"pgp_key: it is neit": {PGPKey: "no key"},
	} {
		_, err := b.invoke("sys.generate-root-token.start", &req)
		wantFault(t, err, fault.Invalid, word)
	}
	s := b.startRoot("sys.generate-root-token", api.StartGenerateRoot{})
	_, err := b.invoke("sys.generate-root.start", &api.StartGenerateRoot{})
	wantFault(t, err, fault.Invalid, "already in progress", "cancel")
	_, _, others, err := Split(5, 3)
	if err != nil {
		t.Fatal(err)
	}
	b.rootShare("sys.generate-root-token", s.Nonce, shares[0])
	altered, err := ParseShare(shares[1])
	if err != nil {
		t.Fatal(err)
	}
	altered.Value[5] ^= 1
	for word, c := range map[string][2]string{
		"'key' must be":          {s.Nonce, ""},
		"this is not a share":    {s.Nonce, "nonsense"},
		"incorrect nonce":        {"00000000-0000-0000-0000-000000000000", shares[1]},
		"share 1 was given":      {s.Nonce, shares[0]},
		"belongs to another set": {s.Nonce, others[1].Base64()},
		"this share was altered": {s.Nonce, altered.Hex()},
	} {
		b.refusedRoot(word, c[0], c[1])
	}
	if got := b.rootShare("sys.generate-root-token", s.Nonce, shares[1]); got.Progress != 2 {
		t.Errorf("%+v", got)
	}
	if _, err := b.invoke("sys.generate-root-token.cancel", nil); err != nil {
		t.Fatal(err)
	}
	b.refusedRoot("no root generation in progress", s.Nonce, shares[2])
	// Sealing forgets an attempt.
	s = b.startRoot("sys.generate-root-token", api.StartGenerateRoot{})
	b.rootShare("sys.generate-root-token", s.Nonce, shares[0])
	if err := b.c.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"status", "cancel", "start"} {
		if _, err := b.invoke("sys.generate-root-token."+name, nil); fault.KindOf(err) != fault.Sealed {
			t.Errorf("%s while sealed: %v", name, err)
		}
	}
	b.give(shares[:3]...)
	b.refusedRoot("no root generation in progress", s.Nonce, shares[1])
}

// A token that can't be made leaves no attempt behind, and shows nothing.
func TestGenerateRootFails(t *testing.T) {
	t.Parallel()
	b, shares := rooted(t)
	s := b.startRoot("sys.generate-root-token", api.StartGenerateRoot{})
	b.rootShare("sys.generate-root-token", s.Nonce, shares[0])
	b.rootShare("sys.generate-root-token", s.Nonce, shares[1])
	b.faults.armOn("hook.RootToken")
	if a, err := b.invoke("sys.generate-root-token.update", &api.GiveRootShare{Key: shares[2], Nonce: s.Nonce}); err == nil {
		t.Errorf("%+v", a)
	}
	b.faults.arm(0)
	b.refusedRoot("no root generation in progress", s.Nonce, shares[2])
}

func TestGenerateRootIsOff(t *testing.T) {
	t.Parallel()
	b, _ := opened(t)
	for _, name := range []string{"status", "start", "cancel", "update"} {
		_, err := b.invoke("sys.generate-root."+name, nil)
		wantFault(t, err, fault.Denied, "permission denied", "generate_root_without_token")
	}
	b.startRoot("sys.generate-root-token", api.StartGenerateRoot{})
}
