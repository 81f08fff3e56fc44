package worker

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/pkcs11"
)

// learn finds out, by trying with session objects, what the module holds and how.
func (h *hsm) learn(ctx context.Context) error {
	holds := map[token.Type]token.Hold{}
	tried := map[token.Class]error{}
	for _, t := range token.Types() {
		if why := h.lacks(t); why != "" {
			continue
		}
		hold := token.Hold{Object: true}
		var notes []string
		wrapErr, err := h.wrappable(ctx, t, tried)
		switch {
		case err != nil:
			return err
		case wrapErr == nil:
			hold.Wrapped = true
		default:
			notes = append(notes, "not as wrapped keys: "+wrapErr.Error())
		}
		note, err := h.composes(ctx, t)
		if err != nil {
			return err
		}
		hold.Note = strings.Join(append(notes, note...), "; ")
		holds[t] = hold
	}
	if err := h.learnIntake(ctx, holds); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.info.Holds = holds
	h.info.Transferable = h.facts.transferable
	h.info.Quirks = h.quirks()
	return nil
}

// learnIntake notes which types can be imported. Their wrapping key must be a key
// of the token too.
func (h *hsm) learnIntake(ctx context.Context, holds map[token.Type]token.Hold) error {
	err := h.ask(ctx, frameIntake, nil, true, 10, func(_ *proc, r *reader) (err error) {
		h.intake, err = parseIntake(r)
		return err
	})
	if err != nil {
		return seamError(err)
	}
	wrapping := holds[token.RSA4096]
	for t, hold := range holds {
		hold.Import = (wrapping.Wrapped || wrapping.Object) && h.imports(t, &h.intake) == ""
		holds[t] = hold
	}
	return nil
}

// lacks returns why the token can't hold keys of a type at all, "" if it can.
func (h *hsm) lacks(t token.Type) string {
	need := map[token.Class][]struct {
		m    pkcs11.CKM
		flag uint64
	}{
		token.ClassAEAD:    {{pkcs11.AESKeyGen, pkcs11.FlagGen}, {pkcs11.AESGCM, pkcs11.FlagEncrypt | pkcs11.FlagDecrypt}},
		token.ClassHMAC:    {{pkcs11.GenericKeyGen, pkcs11.FlagGen}, {pkcs11.SHA256HMAC, pkcs11.FlagSign}},
		token.ClassECDSA:   {{pkcs11.ECKeyGen, pkcs11.FlagGenPair}, {pkcs11.ECDSA, pkcs11.FlagSign}},
		token.ClassEd25519: {{pkcs11.EdwardsKeyGen, pkcs11.FlagGenPair}, {pkcs11.EdDSA, pkcs11.FlagSign}},
		token.ClassRSA:     {{pkcs11.RSAKeyGen, pkcs11.FlagGenPair}, {pkcs11.RSAPKCS, pkcs11.FlagSign}},
	}[t.Class()]
	if t == token.ChaCha20 || t == token.XChaCha20 {
		return "PKCS#11 v2.40 has no ChaCha20-Poly1305"
	}
	if t == token.P521 && h.badP521() {
		return "tpm2-pkcs11 can't read the P-521 keys that it makes"
	}
	for _, n := range need {
		if !h.has(n.m, n.flag) {
			return "no " + n.m.String()
		}
	}
	if m := h.mechs[need[0].m]; t.Class() == token.ClassRSA || t.Class() == token.ClassECDSA {
		if uint64(t.Bits()) < m.Min || m.Max != 0 && uint64(t.Bits()) > m.Max {
			return fmt.Sprintf("%s takes %d to %d bits", m.Type, m.Min, m.Max)
		}
	}
	return ""
}

// badP521 knows tpm2-pkcs11 up to 1.9: it writes the length of a P-521 point,
// 133, into one byte, which is no DER, and then refuses to read it. Trying costs
// a token object, since it makes no session objects.
func (h *hsm) badP521() bool {
	l := &h.view.library
	return l.Manufacturer == tpm2PKCS11 && l.Library.Major == 1 && l.Library.Minor <= 9
}

const tpm2PKCS11 = "tpm2-software.github.io"

// wrappable tries to wrap and unwrap one cheap key of each class; why is what
// the module says against it. RSA keys are taken for as good as EC keys, since
// making one takes long; the first that is made shows it.
func (h *hsm) wrappable(ctx context.Context, t token.Type, tried map[token.Class]error) (why, err error) {
	class := t.Class()
	if class == token.ClassRSA && h.lacks(token.P256) == "" {
		class, t = token.ClassECDSA, token.P256
	}
	if _, ok := tried[class]; !ok {
		why, err := h.try(ctx, t)
		if err != nil {
			return nil, err
		}
		tried[class] = why
	}
	return tried[class], nil
}

// try wraps and unwraps a key of a type under a KEK of the moment.
func (h *hsm) try(ctx context.Context, t token.Type) (why, err error) {
	size := 0
	if t == token.HMAC {
		size = minHMAC
	}
	err = h.ask(ctx, frameTry, appendU32([]byte{byte(t)}, uint32(size)), true, 10, nil)
	if w, ok := err.(*failure); ok { //nolint:errorlint // only the worker's own answer
		return w, nil
	}
	return nil, err
}

// composes returns what is composed for a type or limited.
func (h *hsm) composes(ctx context.Context, t token.Type) (notes []string, err error) {
	switch t.Class() {
	case token.ClassRSA:
		if !h.has(pkcs11.RSAX509, pkcs11.FlagSign|pkcs11.FlagDecrypt) {
			return []string{"without CKM_RSA_X_509 only the paddings that the module has"}, nil
		}
		return []string{"OAEP, and PSS with parameters that the module refuses, are composed of CKM_RSA_X_509"}, nil
	case token.ClassHMAC:
		k := newKey(h, token.Stored{Type: t, Size: minHMAC}, fromEphemeral, "")
		err := k.Do(ctx, token.Op{Kind: token.MAC, Hash: crypto.SHA512}, []token.Item{{In: []byte{0}}})
		if errors.Is(err, token.ErrUnsupported) {
			return []string{"a key must be at least as long as the digest"}, nil
		}
		return nil, err
	}
	return nil, nil
}

// quirks returns the departures that are worked around. The caller holds mu.
func (h *hsm) quirks() []string {
	var qs []string
	f := &h.facts
	if f.forgedTag == pkcs11.GeneralError || f.forgedTag == pkcs11.FunctionFailed {
		qs = append(qs, fmt.Sprintf("a forged AES-GCM tag is answered by %s", f.forgedTag))
	}
	if f.forgedBlob == pkcs11.GeneralError || f.forgedBlob == pkcs11.FunctionFailed {
		qs = append(qs, fmt.Sprintf("a forged wrapped key is answered by %s", f.forgedBlob))
	}
	if !f.canWrap {
		qs = append(qs, "there is no mechanism that wraps keys: all keys are token objects")
	} else if f.wrap != pkcs11.AESWrapKWP {
		qs = append(qs, "keys are wrapped by "+f.wrap.String())
	}
	if f.kek && !f.trusted {
		qs = append(qs, "a private key can't be CKA_TRUSTED: wrapped keys are without CKA_WRAP_WITH_TRUSTED")
	}
	for _, m := range h.view.missing {
		qs = append(qs, "workers run without a measure: "+m)
	}
	return qs
}
