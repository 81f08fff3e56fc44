package keys

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

func (s *Service) readKey(ctx context.Context, c *op.Call, r *api.ReadKey) (*api.Key, error) {
	k, err := s.key(ctx, keyName{c.Mount, r.Name})
	if errors.Is(err, errNoKey) {
		return nil, fault.New(fault.NotFound, "") // Vault says no more of what it does not have
	}
	if err != nil {
		return nil, err
	}
	return s.describeFor(ctx, k, r.Context)
}

// describe shows a key. Versions below the oldest usable one are left out.
func (s *Service) describe(ctx context.Context, k *key) (*api.Key, error) {
	return s.describeFor(ctx, k, nil)
}

// describeFor shows with a derived key the public keys for a context, if there
// is one.
func (s *Service) describeFor(ctx context.Context, k *key, keyContext []byte) (*api.Key, error) {
	out := &api.Key{
		Name: k.name.name, Type: k.meta.Type.String(), Protection: k.meta.Protection,
		LatestVersion: k.meta.Latest, MinAvailableVersion: k.meta.MinAvailable,
		MinDecryptionVersion: k.meta.MinDecryption, MinEncryptionVersion: k.meta.MinEncryption,
		DeletionAllowed:    k.meta.DeletionAllowed,
		SupportsEncryption: canEncrypt(k.meta.Type), SupportsDecryption: canEncrypt(k.meta.Type),
		SupportsSigning: canSign(k.meta.Type), KeySize: k.meta.Size,
		Derived: k.meta.Derived, SupportsDerivation: derivable(k.meta.Type),
		AutoRotatePeriod: k.meta.AutoRotate,
		Adopted:          k.meta.Adopted, SoftDeleted: k.meta.SoftDeleted, BackupInfo: k.meta.Backup.describe(), RestoreInfo: k.meta.Restore.describe(),
		Keys: make(map[string]json.RawMessage),
	}
	if k.meta.Imported {
		out.ImportedKey, out.AllowRotation = true, new(k.meta.AllowRotation)
	}
	if k.meta.Derived {
		out.KDF, out.ConvergentEncryption = kdfName, &k.meta.Convergent
		if k.meta.Convergent {
			out.ConvergentEncryptionVersion = convergentVersion
		}
	}
	for n := k.oldest(); n <= k.meta.Latest; n++ {
		v, err := s.version(ctx, k, n)
		if err != nil {
			return nil, err
		}
		public, err := s.shownPublic(ctx, k, v, keyContext)
		if err != nil {
			return nil, err
		}
		out.Keys[strconv.Itoa(n)] = describeVersion(k.meta.Type, v, public)
	}
	return out, nil
}

// describeVersion is the Unix time of its making for a symmetric key, and an
// api.KeyVersion for an asymmetric one.
func describeVersion(t token.Type, v *version, public string) json.RawMessage {
	if !canSign(t) {
		return strconv.AppendInt(nil, v.created.Unix(), 10)
	}
	text, err := json.Marshal(api.KeyVersion{
		Name: publicName(t), PublicKey: public, CreationTime: v.created.Format(time.RFC3339Nano), CertificateChain: v.chain,
	})
	if err != nil {
		panic(err) // a struct of strings
	}
	return text
}

// shownPublic is the public key of a version as text, "" if there is none.
func (s *Service) shownPublic(ctx context.Context, k *key, v *version, keyContext []byte) (string, error) {
	if !k.meta.Derived || !canSign(k.meta.Type) {
		return publicText(v), nil
	}
	if len(keyContext) == 0 {
		return "", nil
	}
	public, err := s.publicFor(ctx, k.name, v, keyContext)
	if err != nil {
		return "", err
	}
	return rawText(public.(ed25519.PublicKey)), nil
}

// publicName is how Vault names the kind of a public key: "P-256", "rsa-2048".
func publicName(t token.Type) string {
	if t.Class() == token.ClassECDSA {
		return "P-" + strconv.Itoa(t.Bits())
	}
	return t.String()
}

// publicText is the PEM form of a public key; for Ed25519 the base64 of its 32
// bytes (RFC 8032 section 5.1.5), as Vault has it.
func publicText(v *version) string {
	if pub, ok := v.public.(ed25519.PublicKey); ok {
		return rawText(pub)
	}
	if v.public == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.pkix}))
}

func rawText(public ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(public) }

func canEncrypt(t token.Type) bool {
	return t.Class() == token.ClassAEAD || t.Class() == token.ClassRSA
}

func canSign(t token.Type) bool {
	switch t.Class() {
	case token.ClassEd25519, token.ClassECDSA, token.ClassRSA:
		return true
	}
	return false
}

const listPage = 512

func (s *Service) listKeys(ctx context.Context, c *op.Call, _ *api.Empty) (*api.Keys, error) {
	if _, err := s.token.Get(); err != nil {
		return nil, tokenFault(err, "list the keys")
	}
	out := &api.Keys{Keys: []string{}}
	passing, err := s.sessionNames(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	after := ""
	for {
		page, err := s.store.Names(ctx, tableKeys, c.Mount, after, listPage)
		if err != nil {
			return nil, storeFault(err, "list the keys")
		}
		for _, record := range page {
			after = record
			if name := strings.TrimPrefix(record, c.Mount); !strings.Contains(name, "/") && !passing[name] { // else of a mount below this one
				out.Keys = append(out.Keys, name)
			}
		}
		if len(page) < listPage {
			return out, nil
		}
	}
}
