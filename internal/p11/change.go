package p11

import (
	"context"
	"crypto/x509"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// Set changes attributes of an object: label, CKA_ID and subject of a key, what the
// standard lets be changed of others.
func (s *Service) Set(ctx context.Context, c *Caller, handle uint64, template Attributes) (*Object, error) {
	e, err := s.resolve(ctx, c, handle, CKR_OBJECT_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	now := e.show().Attributes
	var changed Attributes
	for i := range template {
		if !now.Matches(template[i : i+1]) {
			changed = append(changed, template[i])
		}
	}
	switch {
	case len(changed) == 0:
		return e.show(), nil
	case !now.Flag(CKA_MODIFIABLE, false):
		return nil, fail(CKR_ACTION_PROHIBITED, "the object can't be changed, or no policy of the client token allows it")
	case e.object != nil:
		return s.setStored(ctx, c, e, changed)
	}
	return s.setKey(ctx, c, e, changed)
}

// settings reads the attributes of a key that can be set.
func settings(template Attributes) (*api.P11Settings, error) {
	q := &api.P11Settings{}
	for i := range template {
		a := &template[i]
		switch {
		case a.Form == FormBytes && a.Type == CKA_LABEL:
			label := string(a.Value)
			q.Label = &label
		case a.Form == FormBytes && a.Type == CKA_ID:
			id := append([]byte{}, a.Value...) // the service keeps it, the frame goes
			q.ID = &id
		case a.Form == FormBytes && a.Type == CKA_SUBJECT:
			subject := append([]byte{}, a.Value...)
			q.Subject = &subject
		default:
			return nil, fail(CKR_ATTRIBUTE_READ_ONLY, "attribute 0x%x of a key can't be changed: CKA_LABEL, CKA_ID and CKA_SUBJECT can", a.Type)
		}
	}
	return q, nil
}

func (s *Service) setKey(ctx context.Context, c *Caller, e *entry, template Attributes) (*Object, error) {
	q, err := settings(template)
	if err != nil {
		return nil, err
	}
	if q.ID != nil && e.version != &e.key.Versions[0] {
		return nil, fail(CKR_ATTRIBUTE_READ_ONLY, "CKA_ID of an older version can't be changed")
	}
	return s.settle(ctx, c, e, q)
}

// settle changes the settings of a key, and returns the object as it is then.
func (s *Service) settle(ctx context.Context, c *Caller, e *entry, q *api.P11Settings) (*Object, error) {
	key := &api.P11Key{}
	q.KeyID = e.record
	err := s.call(ctx, c, Call{Verb: Write, Path: e.mount + "pkcs11/" + e.key.Name + "/settings"}, q, key)
	if err != nil {
		return nil, ofObject(s.failed(ctx, c, e, err, CKR_ATTRIBUTE_VALUE_INVALID))
	}
	for _, n := range s.view(c).keep(entriesOf(e.mount, key, 0)) {
		if n.class == e.class && n.chain == e.chain && n.version.Version == e.version.Version {
			return n.show(), nil
		}
	}
	return nil, fail(CKR_OBJECT_HANDLE_INVALID, "the key, or this version of it, is gone")
}

// ofObject is the error of a function that takes objects, not keys only.
func ofObject(err error) error {
	if e, ok := err.(*Error); ok && e.Code == CKR_KEY_HANDLE_INVALID {
		return &Error{CKR_OBJECT_HANDLE_INVALID, e.Msg}
	}
	return err
}

// fixed are attributes of stored objects that are what they were made with.
var fixed = []uint64{CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_KEY_TYPE, CKA_CERTIFICATE_TYPE, CKA_CERTIFICATE_CATEGORY, CKA_TRUSTED, CKA_LOCAL,
	CKA_MODULUS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT, CKA_PUBLIC_KEY_INFO, CKA_CHECK_VALUE,
	CKA_MODIFIABLE, CKA_DESTROYABLE, CKA_COPYABLE, CKA_UNIQUE_ID}

func (s *Service) setStored(ctx context.Context, c *Caller, e *entry, template Attributes) (*Object, error) {
	as := slices.Clone(Attributes(e.object.Attributes))
	for _, a := range template {
		if slices.Contains(fixed, a.Type) || a.Type == CKA_VALUE && e.class != CKO_DATA {
			return nil, fail(CKR_ATTRIBUTE_READ_ONLY, "attribute 0x%x of a stored object can't be changed", a.Type)
		}
		as.Set(a)
	}
	return s.put(ctx, c, e.mount, e.object.ID, as)
}

// put stores an object.
func (s *Service) put(ctx context.Context, c *Caller, mount, id string, as Attributes) (*Object, error) {
	as = slices.Clone(as)
	for i := range as {
		if as[i].Form > FormNumber {
			return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "attribute 0x%x of a stored object can't be an array", as[i].Type)
		}
		as[i].Value = append([]byte{}, as[i].Value...) // the service keeps it, the frame goes
	}
	stored := &api.P11Object{}
	err := s.call(ctx, c, Call{Verb: Write, Path: mount + "pkcs11-objects/" + id}, &api.P11PutObject{Attributes: as}, stored)
	if err != nil {
		return nil, s.explain(ctx, c, err, CKR_ATTRIBUTE_VALUE_INVALID)
	}
	e := entryOf(mount, stored, 0)
	s.view(c).keep([]*entry{e})
	return e.show(), nil
}

// Copy copies an object: what is stored and public to a stored object, and a key of
// a session to one that stays, which ends its life as one of the session.
func (s *Service) Copy(ctx context.Context, c *Caller, handle uint64, template Attributes) (*Object, error) {
	e, err := s.resolve(ctx, c, handle, CKR_OBJECT_HANDLE_INVALID)
	if err != nil {
		return nil, err
	}
	if !template.Flag(CKA_TOKEN, !(e.key != nil && e.key.Session)) {
		return nil, fail(CKR_TEMPLATE_INCONSISTENT, "a copy must have CKA_TOKEN true")
	}
	if e.key != nil && (e.class == CKO_PRIVATE_KEY || e.class == CKO_SECRET_KEY) {
		return s.keepKey(ctx, c, e, template)
	}
	as := storable(e.show().Attributes)
	for _, a := range template {
		if as.Find(a.Type) != nil && slices.Contains(fixed, a.Type) && !as.Matches(Attributes{a}) && a.Type != CKA_MODIFIABLE && a.Type != CKA_DESTROYABLE {
			return nil, fail(CKR_ATTRIBUTE_READ_ONLY, "attribute 0x%x of a copy can't be another", a.Type)
		}
		as.Set(a)
	}
	return s.put(ctx, c, s.slots[c.Slot].Mounts[0], randomHex(16), as)
}

// storable are the attributes of an object that a stored copy has too.
func storable(as Attributes) Attributes {
	return slices.DeleteFunc(slices.Clone(as), func(a api.P11Attribute) bool {
		return a.Form > FormNumber || a.Type == CKA_UNIQUE_ID || a.Type == CKA_MODIFIABLE || a.Type == CKA_DESTROYABLE
	})
}

// keepKey gives a key of a session a name for good.
func (s *Service) keepKey(ctx context.Context, c *Caller, e *entry, template Attributes) (*Object, error) {
	if !e.key.Session {
		return nil, fail(CKR_ACTION_PROHIBITED, "a key of the token can't be copied: its secret does not leave it")
	}
	var set Attributes
	for _, a := range template {
		if a.Type == CKA_LABEL || a.Type == CKA_ID || a.Type == CKA_SUBJECT {
			set = append(set, a)
		} else if a.Type != CKA_TOKEN && !e.show().Attributes.Matches(Attributes{a}) {
			return nil, fail(CKR_ATTRIBUTE_READ_ONLY, "attribute 0x%x of a copy can't be another", a.Type)
		}
	}
	q, err := settings(set)
	if err != nil {
		return nil, err
	}
	label, id := e.key.Label, e.key.ID
	if q.Label != nil {
		label = *q.Label
	}
	if q.ID != nil {
		id = *q.ID
	}
	var o *Object
	for _, name := range nameFor(label, id, false) {
		q.Keep = name
		if o, err = s.settle(ctx, c, e, q); err == nil {
			s.view(c).dropRecord(e)
			return o, nil
		}
		if e, ok := err.(*Error); !ok || e.Code != CKR_ATTRIBUTE_VALUE_INVALID {
			break
		}
	}
	return nil, err
}

// Destroy deletes an object. With its private key the whole key goes, and the
// public one with it; to destroy that alone changes nothing. A key with several
// versions is not deleted by destroying one of them.
func (s *Service) Destroy(ctx context.Context, c *Caller, handle uint64) error {
	if e := s.view(c).get(handle); e != nil && e.gone {
		return nil
	}
	e, err := s.resolve(ctx, c, handle, CKR_OBJECT_HANDLE_INVALID)
	if err != nil {
		return err
	}
	switch {
	case e.object != nil:
		err = s.call(ctx, c, Call{Verb: Delete, Path: e.mount + "pkcs11-objects/" + e.object.ID, Repeatable: true}, nil, nil)
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return s.explain(ctx, c, err, CKR_ACTION_PROHIBITED)
		}
		s.view(c).drop(handle)
		return nil
	case e.issuer != nil || e.class == CKO_CERTIFICATE:
		return fail(CKR_ACTION_PROHIBITED, "the certificate belongs to an authority or a key; it can't be destroyed alone")
	case e.class == CKO_PUBLIC_KEY:
		return nil
	case len(e.key.Versions) > 1:
		return fail(CKR_ACTION_PROHIBITED, "the key %s has %d versions, and all would go with this one: delete it with the CLI or the API", e.key.Name, len(e.key.Versions))
	case !e.key.Deletable:
		return fail(CKR_ACTION_PROHIBITED, "the key %s is not one that may be deleted: its deletion_allowed is false", e.key.Name)
	}
	return s.destroyKey(ctx, c, e)
}

func (s *Service) destroyKey(ctx context.Context, c *Caller, e *entry) error {
	// Another key may have the name by now.
	now, err := s.refresh(ctx, c, s.view(c), e)
	if err != nil {
		return s.explain(ctx, c, err, CKR_FUNCTION_FAILED)
	}
	if now == nil || now.key.Name != e.key.Name {
		return fail(CKR_OBJECT_HANDLE_INVALID, "the key is gone")
	}
	err = s.call(ctx, c, Call{Verb: Delete, Path: e.mount + "keys/" + e.key.Name, Repeatable: true}, nil, nil)
	if err != nil {
		return ofObject(s.failed(ctx, c, e, err, CKR_ACTION_PROHIBITED))
	}
	v := s.view(c)
	v.mu.Lock()
	defer v.mu.Unlock()
	for handle, o := range v.entries {
		if o.record == e.record && o.mount == e.mount {
			gone := *o
			gone.gone = true
			v.entries[handle] = &gone
		}
	}
	return nil
}

// Keep lets keys of sessions live on. Its error is that of the first which can't.
func (s *Service) Keep(ctx context.Context, c *Caller, handles []uint64) error {
	var first error
	for _, handle := range handles {
		e, err := s.resolve(ctx, c, handle, CKR_OBJECT_HANDLE_INVALID)
		if err == nil && e.key != nil && e.key.Session {
			path := e.mount + "pkcs11/" + e.key.Name + "/settings"
			err = s.call(ctx, c, Call{Verb: Write, Path: path, Repeatable: true}, &api.P11Settings{KeyID: e.record}, nil)
			if err != nil {
				err = s.failed(ctx, c, e, err, CKR_FUNCTION_FAILED)
			}
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Create stores a certificate, data or a public key, or imports a private or secret
// key.
func (s *Service) Create(ctx context.Context, c *Caller, template Attributes) (*Object, error) {
	sl, err := s.slot(c)
	if err != nil {
		return nil, err
	}
	class, ok := template.Number(CKA_CLASS)
	if !ok {
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "an object needs CKA_CLASS")
	}
	if class == CKO_SECRET_KEY && !template.Flag(CKA_TOKEN, false) && !template.Flag(CKA_SENSITIVE, false) {
		ckk, value := template.keyType(CKK_GENERIC_SECRET), template.Bytes(CKA_VALUE)
		if len(value) == 0 {
			return nil, fail(CKR_TEMPLATE_INCOMPLETE, "the secret key has no CKA_VALUE")
		}
		return secretObject(ckk, value, template, CKM_UNAVAILABLE_INFORMATION), nil
	}
	if !template.Flag(CKA_TOKEN, false) {
		return nil, fail(CKR_TEMPLATE_INCONSISTENT, "the server stores objects with CKA_TOKEN true only")
	}
	switch class {
	case CKO_PRIVATE_KEY, CKO_SECRET_KEY:
		return s.importKey(ctx, c, sl.Mounts[0], class, template)
	case CKO_CERTIFICATE:
		template, err = completeCertificate(template)
	case CKO_PUBLIC_KEY:
		template, err = completePublic(template)
	case CKO_DATA:
		template = slices.Clone(template)
	default:
		err = fail(CKR_ATTRIBUTE_VALUE_INVALID, "objects of class %d can't be made", class)
	}
	if err != nil {
		return nil, err
	}
	return s.put(ctx, c, sl.Mounts[0], randomHex(16), template)
}

// keyType is CKA_KEY_TYPE, or def.
func (as Attributes) keyType(def uint64) uint64 {
	if ckk, ok := as.Number(CKA_KEY_TYPE); ok {
		return ckk
	}
	return def
}

// with returns the template completed by attributes that it lacks.
func (as Attributes) with(more Attributes) Attributes {
	out := slices.Clone(as)
	for _, a := range more {
		if old := out.Find(a.Type); old == nil {
			out = append(out, a)
		} else if len(old.Value) == 0 {
			*old = a
		}
	}
	return out
}

// completeCertificate adds what stands in the certificate.
func completeCertificate(template Attributes) (Attributes, error) {
	if t, ok := template.Number(CKA_CERTIFICATE_TYPE); ok && t != 0 {
		return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "certificates of type %d are not kept: use CKC_X_509", t)
	}
	der := template.Bytes(CKA_VALUE)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "CKA_VALUE is no X.509 certificate in DER")
	}
	if template.Flag(CKA_TRUSTED, false) {
		return nil, fail(CKR_ATTRIBUTE_READ_ONLY, "CKA_TRUSTED can't be set")
	}
	return template.with(certificateAttributes(der, "", idOf(cert.RawSubjectPublicKeyInfo))), nil
}

// completePublic checks a public key and adds what follows from it.
func completePublic(template Attributes) (Attributes, error) {
	public, err := publicOf(template)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "the public key can't be encoded")
	}
	k := kindOfPublic(public)
	var more Attributes
	more.addPublic(k, der)
	more.addFlag(CKA_LOCAL, false)
	more.addFlag(CKA_VERIFY, true)
	more.addFlag(CKA_ENCRYPT, k.ckk == CKK_RSA)
	more.addFlag(CKA_WRAP, false)
	more.addFlag(CKA_DERIVE, false)
	more.addFlag(CKA_TRUSTED, false)
	more.addBytes(CKA_ID, idOf(der))
	more.addBytes(CKA_SUBJECT, nil)
	more.addNumber(CKA_KEY_GEN_MECHANISM, CKM_UNAVAILABLE_INFORMATION)
	return template.with(more), nil
}
