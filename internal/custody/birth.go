package custody

import (
	"encoding/base64"
	"encoding/hex"
	"errors"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// birth is what an initialisation has made so far.
type birth struct {
	plan   *plan
	rec    *record
	result api.InitResult
	doing  string // for the error
}

// failed says what an unsuccessful initialisation leaves in the HSM.
func (b *birth) failed(err error) error {
	label := b.rec.TokenLabel
	kind, why := deviceReason(err)
	if k := fault.KindOf(err); k != fault.Internal {
		kind, why = k, fault.Message(err)
	}
	left, hint := "keeps its PIN and its objects; the next attempt will use the system keys that were made in it", "remove the cause and initialise again"
	if b.plan.create {
		left, hint = "was created and stays, with PINs that nobody knows", "remove the cause; then "+removal(label)
	}
	stored := "Nothing was stored"
	if kind == fault.Uncertain {
		stored = "It is unknown whether anything was stored"
		hint = "restart the server. If sys/init says then that it is initialised, delete its database: nobody has the shares. In any case " + hint
	}
	e := fault.New(kind, "could not %s (%s). %s; %s %s", b.doing, why, stored, tokenName(label), left)
	e.Err, e.Hint = err, hint
	return e
}

// share splits a fresh secret, seals the PINs under it and writes the answer.
func (b *birth) share(ps *pins) error {
	if b.plan.kind == KindPIN {
		b.rec.Kind, b.rec.set = KindPIN, &Set{}
		b.result.Keys, b.result.KeysBase64 = []string{}, []string{}
		return nil
	}
	key, set, shares, err := Split(b.plan.n, b.plan.t)
	if err != nil {
		return err
	}
	defer clear(key)
	b.rec.set = set
	b.rec.SetID, b.rec.Shares, b.rec.Threshold, b.rec.Commitments = set.ID().String(), set.N, set.T, set.Commitments
	if b.rec.PINs, err = sealPINs(key, ps, b.rec.pinAAD()); err != nil {
		return err
	}
	for i := range shares {
		err = errors.Join(err, b.hand(i, &shares[i]))
		shares[i].Wipe()
	}
	if err != nil || b.plan.kind != KindAuto {
		return err
	}
	asRecovery(&b.result)
	b.rec.Kind = KindAuto
	b.rec.Auto, err = b.plan.envelope.seal(b.rec, key)
	return err
}

// hand adds a share to the answer, encrypted if there are OpenPGP keys.
func (b *birth) hand(i int, s *Share) error {
	r := &b.result
	inHex, inBase64, fingerprint, err := handOver(b.plan.pgpKeys, i, s)
	if err != nil {
		return err
	}
	r.Keys, r.KeysBase64 = append(r.Keys, inHex), append(r.KeysBase64, inBase64)
	if fingerprint != "" {
		r.PGPFingerprints = append(r.PGPFingerprints, fingerprint)
	}
	return nil
}

// handOver returns share i in both forms, or a message to the OpenPGP key i, if there
// are keys. The message holds the share in hex, as clients of Vault expect it.
func handOver(keys []*pgpKey, i int, s *Share) (inHex, inBase64, fingerprint string, err error) {
	if len(keys) == 0 {
		return s.Hex(), s.Base64(), "", nil
	}
	message, err := keys[i].Encrypt([]byte(s.Hex()))
	if err != nil {
		return "", "", "", err
	}
	return hex.EncodeToString(message), base64.StdEncoding.EncodeToString(message), keys[i].Fingerprint, nil
}

func (p *plan) handRoot(root string) (string, error) {
	if p.rootPGPKey == nil {
		return root, nil
	}
	message, err := p.rootPGPKey.Encrypt([]byte(root))
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(message), nil
}
