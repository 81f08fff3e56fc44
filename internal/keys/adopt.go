package keys

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/token"
)

// objectOperations are about keys that others made in the HSM token. Both need
// sudo: they reach any object there.
func (s *Service) objectOperations() []*op.Operation {
	adopt := meta("keys.adopt", "keys/{name}/adopt", op.Write, "Make a named key of a key that lies in the HSM token already.")
	adopt.Sudo = true
	return []*op.Operation{
		op.Define(adopt, s.adoptKey),
		op.Define(op.Meta{Name: "sys.hsm.objects", Mount: "sys", Path: "hsm/objects", Verb: op.Read, Sudo: true,
			Help: "List the private and secret keys that lie in the HSM token."}, s.listObjects),
	}
}

func (s *Service) adoptKey(ctx context.Context, c *op.Call, r *api.AdoptKey) (*api.Key, error) {
	like, err := objectName(r.Label, r.ID, r.Class)
	if err != nil {
		return nil, err
	}
	like.Keep = !r.DeleteObject
	return s.adoptAs(ctx, c, r.Name, like)
}

// adoptAs is AdoptObject for a caller of the API.
func (s *Service) adoptAs(ctx context.Context, c *op.Call, name string, like token.ObjectName) (*api.Key, error) {
	warnings, err := s.AdoptObject(ctx, c.Mount, name, like)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		c.Warn("%s", w)
	}
	k, err := s.key(ctx, keyName{c.Mount, name})
	if err != nil {
		return nil, orMissing(err, "key not found")
	}
	return s.describe(ctx, k)
}

// objectName reads the name of an object as the API has it.
func objectName(label, id, class string) (token.ObjectName, error) {
	n := token.ObjectName{Label: label}
	switch class {
	case "":
	case classPrivate:
		n.Class = token.PrivateObject
	case classSecret:
		n.Class = token.SecretObject
	default:
		return n, invalid("unknown class %q: it is private or secret", class)
	}
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) > token.MaxObjectID {
		return n, invalid("id is not the hex form of a CKA_ID of up to %d bytes", token.MaxObjectID)
	}
	if len(label) > token.MaxObjectLabel {
		return n, invalid("label has %d bytes; a CKA_LABEL has up to %d", len(label), token.MaxObjectLabel)
	}
	n.ID = raw
	return n, nil
}

const (
	classPrivate = "private"
	classSecret  = "secret"
)

// AdoptObject makes the named key name of mount (its path with the slash) of the
// one object of the HSM token that fits like; an empty part of like fits all.
// like.Keep says whether the object stays when the key is deleted. The key has
// protection token and one version. If it exists and is of that object, nothing
// happens; if the object of one of its versions is gone and this one has the same public
// key, it takes that one's place. warnings say where the object is weaker than keys that are made here.
func (s *Service) AdoptObject(ctx context.Context, mount, name string, like token.ObjectName) (warnings []string, err error) {
	return s.adoptObject(ctx, mount, name, like, nil)
}

// adoptObject is AdoptObject; public, if not nil, must be the object's public key
// in PKIX DER.
func (s *Service) adoptObject(ctx context.Context, mount, name string, like token.ObjectName, public []byte) (warnings []string, err error) {
	n := keyName{mount, name}
	if err := checkName(name); err != nil {
		return nil, err
	}
	stored, err := s.findObject(ctx, like)
	if err != nil {
		return nil, err
	}
	if public != nil && !bytes.Equal(stored.Public, public) {
		return nil, invalid("the key object is another key: its public key is not the one that was expected")
	}
	tok, err := s.token.Get()
	if err != nil {
		return nil, tokenFault(err, "adopt a key")
	}
	switch done, again, err := s.adoptedAlready(ctx, n, tok, &stored); {
	case err != nil:
		return nil, err
	case again:
		return weaknesses(ctx, tok, stored), nil
	case done:
		return nil, nil
	}
	if err := s.placeObject(ctx, n, tok, stored); err != nil {
		return nil, err
	}
	return weaknesses(ctx, tok, stored), nil
}

// findObject returns how to use the one object that fits like, if no key of
// Claviger's own has it.
func (s *Service) findObject(ctx context.Context, like token.ObjectName) (stored token.Stored, err error) {
	if like.Label == "" && len(like.ID) == 0 {
		return stored, errNoObject()
	}
	tok, err := s.token.Get()
	if err != nil {
		return stored, tokenFault(err, "adopt a key")
	}
	if stored, err = tok.Adopt(ctx, like); err != nil {
		return stored, adoptFault(err, &like)
	}
	object := *stored.Name
	object.Keep = like.Keep
	stored.Name = &object
	owner, err := s.ownerOf(ctx, &object)
	if err == nil && owner != "" {
		err = invalid("the object can't be adopted: it belongs to the key %s", owner)
	}
	return stored, err
}

func errNoObject() error {
	return invalid("label or id must say which object to adopt").WithHint("sys/hsm/objects lists them")
}

func adoptFault(err error, like *token.ObjectName) error {
	text := fmt.Sprintf("label %q, id %x", like.Label, like.ID)
	switch {
	case errors.Is(err, token.ErrNotFound):
		return invalid("no private or secret key in the HSM token has %s", text).WithHint("sys/hsm/objects lists what is there")
	case errors.Is(err, token.ErrAmbiguous):
		return invalid("more than one key in the HSM token has %s", text).
			WithHint("give label, id and class; two objects that are alike in all three can't be told apart")
	case errors.Is(err, token.ErrUnsupported):
		return invalid("the key object can't be adopted: %v", err)
	}
	return tokenFault(err, "adopt the key object")
}

// placeObject makes a key whose secret is an object that is there. Its HMAC secret
// is not put beside it: the token is others' too.
func (s *Service) placeObject(ctx context.Context, n keyName, tok token.Token, stored token.Stored) error {
	p := plan{name: n, typ: stored.Type, size: stored.Size, protection: api.ProtectionToken, adopted: true}
	m, err := s.objectMaterial(ctx, p, tok, stored)
	if err != nil {
		return err
	}
	_, existed, err := s.place(ctx, p, m)
	if err == nil && existed {
		err = fault.New(fault.Conflict, "the key %s was made by another call meanwhile", n.name)
	}
	return err
}

// objectMaterial is what a version of an object that is there consists of.
func (s *Service) objectMaterial(ctx context.Context, p plan, tok token.Token, stored token.Stored) (*material, error) {
	m := &material{main: recordOf(stored)}
	if err := s.macBeside(ctx, m, p, tok); err != nil {
		s.discard(ctx, m)
		return nil, tokenFault(err, "adopt the key object")
	}
	return m, nil
}

// macBeside makes the HMAC secret of a version whose main secret is an object of
// others, if the token can wrap it.
func (s *Service) macBeside(ctx context.Context, m *material, p plan, tok token.Token) error {
	if p.typ == token.HMAC || !tok.Info().Holds[token.HMAC].Wrapped {
		return nil
	}
	mac, err := s.makeSecret(ctx, m, p.name, token.HMAC, macSize, api.ProtectionWrapped)
	m.mac = &mac
	return err
}

// weaknesses says where an adopted object is weaker than keys that are made here.
func weaknesses(ctx context.Context, tok token.Token, stored token.Stored) (ws []string) {
	list, err := tok.Objects(ctx, *stored.Name, 1)
	if err != nil || len(list) == 0 {
		return nil // it was adopted all the same
	}
	o := &list[0]
	if stored.Type.Class() == token.ClassRSA && stored.Type.Bits() < 2048 {
		ws = append(ws, fmt.Sprintf("an RSA key of %d bits is too short for new use; rotate to another key", stored.Type.Bits()))
	}
	if o.Extractable {
		ws = append(ws, "the object is extractable: whoever has the PIN of the HSM token can take the key out")
	}
	if !o.Sensitive {
		ws = append(ws, "the object is not sensitive: whoever has the PIN of the HSM token can read the key")
	}
	if !o.Private {
		ws = append(ws, "the object is not private: it can be used without a login")
	}
	return ws
}

// ownerOf returns the name of the key that an object of Claviger's own belongs to,
// "" if it is none. Such objects have the key's record name for a label, and the
// identity of the secret for an ID.
func (s *Service) ownerOf(ctx context.Context, object *token.ObjectName) (string, error) {
	if len(object.ID) != len(token.ID{}) || !strings.Contains(object.Label, "/") {
		return "", nil
	}
	id := hex.EncodeToString(object.ID)
	var intent intentRecord
	if found, err := s.stored(ctx, tableIntents, id, &intent); found || err != nil {
		return object.Label, err
	}
	var wrapping wrappingRecord
	if mount, ok := strings.CutSuffix(object.Label, wrappingName); ok {
		if found, err := s.stored(ctx, tableWrapping, mount, &wrapping); err != nil || found && wrapping.Secret.ID == id {
			return object.Label, err
		}
	}
	var r keyRecord
	if found, err := s.stored(ctx, tableKeys, object.Label, &r); !found || err != nil {
		return "", err
	}
	at := strings.LastIndexByte(object.Label, '/') + 1
	n := keyName{object.Label[:at], object.Label[at:]}
	for v := r.Latest; v >= 1; v-- {
		var version versionRecord
		if _, err := s.stored(ctx, tableVersions, n.version(v), &version); err != nil {
			return "", err
		}
		has := version.Main.ID == id || version.MAC != nil && version.MAC.ID == id
		version.wipe()
		if has {
			return object.Label, nil
		}
	}
	return "", nil
}

// stored reads a record if there is one.
func (s *Service) stored(ctx context.Context, table, key string, v any) (bool, error) {
	_, err := s.store.Get(ctx, table, key, v)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, storeFault(err, "look for the owner of the object")
}

const (
	defaultObjects = 1000
	maxObjects     = 10000
)

func (s *Service) listObjects(ctx context.Context, _ *op.Call, r *api.HSMObjects) (*api.HSMObjectList, error) {
	like, err := objectName(r.Label, r.ID, r.Class)
	if err != nil {
		return nil, err
	}
	limit := r.Limit
	if limit == 0 {
		limit = defaultObjects
	}
	if limit < 1 || limit > maxObjects {
		return nil, invalid("limit %d: it is from 1 to %d", limit, maxObjects)
	}
	tok, err := s.token.Get()
	if err != nil {
		return nil, tokenFault(err, "list its objects")
	}
	list, err := tok.Objects(ctx, like, limit+1)
	if err != nil {
		return nil, tokenFault(err, "list its objects")
	}
	out := &api.HSMObjectList{Objects: []api.HSMObject{}, More: len(list) > limit}
	for i := range list[:min(limit, len(list))] {
		o, err := s.describeObject(ctx, &list[i])
		if err != nil {
			return nil, err
		}
		out.Objects = append(out.Objects, o)
	}
	return out, nil
}

func (s *Service) describeObject(ctx context.Context, o *token.Object) (api.HSMObject, error) {
	out := api.HSMObject{
		Label: o.Label, ID: hex.EncodeToString(o.ID), Class: classSecret, Kind: o.Kind, KeySize: o.Size, Note: o.Note, System: o.System,
		Private: o.Private, Sensitive: o.Sensitive, Extractable: o.Extractable, PublicObject: o.Public, Uses: slices.Clone(o.Uses),
	}
	if o.Class == token.PrivateObject {
		out.Class = classPrivate
	}
	if out.Uses == nil {
		out.Uses = []string{}
	}
	var err error
	if out.UsedBy, err = s.ownerOf(ctx, &o.ObjectName); err != nil {
		return out, err
	}
	switch {
	case out.UsedBy != "":
		out.Note = "it belongs to a key of Claviger"
	case o.Type.Valid():
		out.Type = o.Type.String()
	}
	return out, nil
}
