package keys

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token"
)

// MountKind is the kind of the mounts that have named keys.
const MountKind = mountKind

// Cargo is a named key on its way to another server.
type Cargo struct {
	// Record is JSON: the key's rules, its versions, the count of their encryptions.
	// Secrets with protection software are in it in clear; the caller wipes it.
	Record []byte
	// Wrapped are the secrets that only an HSM token opens, in the order in which
	// the record names them.
	Wrapped []token.Stored
}

// CarryNames returns the names of the keys of a mount.
func (s *Service) CarryNames(ctx context.Context, mount string) ([]string, error) {
	list, err := s.listKeys(ctx, &op.Call{Mount: mount}, nil)
	if err != nil {
		return nil, err
	}
	return list.Keys, nil
}

// Carriable tells how many secrets a key has, and whether it can be carried out: an
// error says why not. It is of kind NotFound where there is no such key. Objects of the
// HSM token are wrapped on trial.
func (s *Service) Carriable(ctx context.Context, mount, name string) (secrets int, err error) {
	k, err := s.key(ctx, keyName{mount, name})
	if errors.Is(err, errNoKey) {
		return 0, fault.New(fault.NotFound, "there is no key %q", name)
	}
	if err == nil {
		err = k.usable()
	}
	for number := 1; err == nil && number <= k.meta.Latest; number++ {
		if number < k.oldestStored() {
			continue
		}
		var v versionRecord
		if v, err = s.versionRecord(ctx, k, number); err == nil {
			err = s.carriable(ctx, &v)
		}
		v.wipe()
		secrets += 2
	}
	return secrets, err
}

// oldestStored is the first version that trimming has left.
func (k *key) oldestStored() int { return max(1, k.meta.MinAvailable) }

// carriable refuses a version with a secret that is an object of the HSM token and that
// the token does not wrap for another one.
func (s *Service) carriable(ctx context.Context, r *versionRecord) error {
	var objects []token.Stored
	for _, secret := range []*secretRecord{&r.Main, r.MAC} {
		if secret == nil || secret.publicOnly() || secret.Place != api.ProtectionToken {
			continue
		}
		if secret.Object == nil {
			return invalid("a secret of version %d is an object of the HSM token that was made here (protection token), which never leaves it", r.Number).
				WithHint("keys with protection wrapped or software move")
		}
		if !secret.Type.Made() {
			return invalid("version %d is of type %s, which no server makes any more", r.Number, secret.Type)
		}
		stored, err := secret.stored()
		if err != nil {
			return fault.Wrap(fault.Internal, err, "can't read the key")
		}
		objects = append(objects, stored)
	}
	if len(objects) == 0 {
		return nil
	}
	tok, err := s.token.Get()
	if err != nil {
		return tokenFault(err, "carry the key")
	}
	carrier, ok := tok.(token.Carrier)
	if !ok {
		return invalid("a secret of version %d is an object of the embedded token, which takes part in no transfer", r.Number)
	}
	return objectStays(carrier.TryCarry(ctx, objects), r.Number)
}

// objectStays says why an object does not leave the HSM token.
func objectStays(err error, number int) error {
	switch {
	case errors.Is(err, token.ErrUnsupported):
		return invalid("the object of version %d does not leave the HSM token: %v", number, err).
			WithHint("what leaves must be CKA_EXTRACTABLE and not CKA_WRAP_WITH_TRUSTED, and of a type that the module wraps")
	case errors.Is(err, token.ErrNotFound), errors.Is(err, token.ErrAmbiguous):
		return invalid("the object of version %d is not in the HSM token, or there twice: %v", number, err)
	}
	return tokenFault(err, "try to wrap the key")
}

// CarryOut returns a key for another server. That there is a copy of it is noted as
// a backup is. One that was adopted becomes a wrapped key there: its objects go out as
// the secrets of wrapped keys do.
func (s *Service) CarryOut(ctx context.Context, mount, name string) (*Cargo, error) {
	b, err := s.copyOut(ctx, keyName{mount, name}, s.carriable)
	if b != nil {
		defer b.wipe()
	}
	if errors.Is(err, errNoKey) {
		return nil, fault.New(fault.NotFound, "there is no key %q", name)
	}
	if err != nil {
		return nil, err
	}
	return b.cargo()
}

// cargo takes the wrapped secrets out of the record, each of which leaves its number.
func (b *backupRecord) cargo() (*Cargo, error) {
	c := &Cargo{}
	for _, secret := range b.secrets() {
		if secret.Place == api.ProtectionSoftware || secret.publicOnly() {
			continue
		}
		stored, err := secret.stored()
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "can't read the key")
		}
		secret.Place, secret.Object = api.ProtectionWrapped, nil
		secret.Blob = binary.BigEndian.AppendUint32(nil, uint32(len(c.Wrapped)))
		c.Wrapped = append(c.Wrapped, stored)
	}
	if b.Key.Adopted {
		b.Key.Adopted, b.Key.Protection = false, api.ProtectionWrapped
	}
	var err error
	c.Record, err = json.Marshal(b)
	return c, err
}

func (b *backupRecord) secrets() (list []*secretRecord) {
	for i := range b.Versions {
		list = append(list, &b.Versions[i].Main)
		if b.Versions[i].MAC != nil {
			list = append(list, b.Versions[i].MAC)
		}
	}
	return list
}

// CarryIn makes a key of what CarryOut returned, whose wrapped secrets are wrapped
// anew for this server's HSM token. It returns the key's name, and false if this
// very key is there already, with all of its versions: then nothing changes.
func (s *Service) CarryIn(ctx context.Context, mount string, c *Cargo) (name string, made bool, err error) {
	b := new(backupRecord)
	defer b.wipe()
	if err := json.Unmarshal(c.Record, b); err != nil {
		return "", false, invalid("this release can't read the key: %v", err)
	}
	if err := b.check(); err != nil {
		return "", false, invalid("this release can't take the key %q: %v", b.Name, err)
	}
	if err := b.unload(c.Wrapped); err != nil {
		return "", false, err
	}
	if err := checkName(b.Name); err != nil {
		return "", false, err
	}
	n := keyName{mount, b.Name}
	switch k, err := s.key(ctx, n); {
	case err == nil && k.meta.ID == b.Key.ID && k.meta.Latest >= b.Key.Latest:
		return b.Name, false, nil
	case err == nil:
		return b.Name, false, fault.New(fault.Conflict, "there is another key %q in %s; nothing of it was changed", b.Name, strings.TrimSuffix(mount, "/")).
			WithHint("delete it, or import into another mount")
	case !errors.Is(err, errNoKey):
		return b.Name, false, err
	}
	b.Key.Restore = &moment{Time: s.now().UTC(), Version: b.Key.Latest}
	_, err = s.commitRestore(ctx, n, b, false)
	return b.Name, err == nil, err
}

// unload puts the wrapped secrets back to where cargo took them from.
func (b *backupRecord) unload(wrapped []token.Stored) error {
	used := 0
	for _, secret := range b.secrets() {
		if secret.Place != api.ProtectionWrapped || secret.publicOnly() {
			if secret.Place == api.ProtectionToken && !secret.publicOnly() {
				return invalid("the key %q names an object of another HSM token", b.Name)
			}
			continue
		}
		if len(secret.Blob) != 4 || int(binary.BigEndian.Uint32(secret.Blob)) != used || used >= len(wrapped) {
			return invalid("the secrets of the key %q are not complete", b.Name)
		}
		came := wrapped[used]
		used++
		if came.Type != secret.Type || came.Place != token.PlaceWrapped {
			return invalid("a secret of the key %q is of type %s, not %s", b.Name, came.Type, secret.Type)
		}
		r := recordOf(came)
		r.Public, r.Size = secret.Public, secret.Size
		*secret = r
	}
	if used != len(wrapped) {
		return invalid("the key %q has %d wrapped secrets, and %d came", b.Name, used, len(wrapped))
	}
	return nil
}
