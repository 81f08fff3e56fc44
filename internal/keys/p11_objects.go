package keys

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// tableObjects has one p11ObjectRecord for each object of PKCS#11 that is no key.
const tableObjects = "p11_objects"

const (
	maxObjectBytes      = 64 << 10 // of all values together
	maxObjectAttributes = 64
	maxStoredObjects    = 10_000 // of a mount
)

// Attributes that are looked at, of PKCS#11 v2.40 section 4.
const (
	attrClass uint64 = 0x000
	attrLabel uint64 = 0x003
	attrID    uint64 = 0x102
)

// Forms of values, as the protocol of the module numbers them.
const (
	formBytes  = 0
	formBool   = 1
	formNumber = 2
)

// p11ObjectRecord is a stored object.
type p11ObjectRecord struct {
	Format     int            `json:"format"`
	Attributes []p11Attribute `json:"attributes"`
}

type p11Attribute struct {
	Type  uint64 `json:"type"`
	Form  uint8  `json:"form"`
	Value []byte `json:"value"`
}

func objectPath(id string) string { return "pkcs11-objects/" + id }

func (s *Service) p11ObjectExists(ctx context.Context, c *op.Call, r *api.P11PutObject) (bool, error) {
	_, version, err := s.objectRecord(ctx, c.Mount, r.ID)
	return version > 0, err
}

// objectRecord reads an object and the version of its record, 0 if there is none.
func (s *Service) objectRecord(ctx context.Context, mount, id string) (p11ObjectRecord, int64, error) {
	var r p11ObjectRecord
	version, err := s.store.Get(ctx, tableObjects, mount+id, &r)
	if errors.Is(err, store.ErrNotFound) {
		return r, 0, nil
	}
	if err == nil {
		err = checkFormat(r.Format)
	}
	return r, version, storeFault(err, "read the object")
}

func (s *Service) p11PutObject(ctx context.Context, c *op.Call, r *api.P11PutObject) (*api.P11Object, error) {
	if !isObjectID(r.ID) {
		return nil, invalid("%q is no identifier of an object: it is 32 random hex digits, in lower case", r.ID)
	}
	record := p11ObjectRecord{Format: recordFormat, Attributes: make([]p11Attribute, len(r.Attributes))}
	for i, a := range r.Attributes {
		record.Attributes[i] = p11Attribute(a)
	}
	if err := record.check(); err != nil {
		return nil, err
	}
	_, version, err := s.objectRecord(ctx, c.Mount, r.ID)
	if err == nil && version == 0 {
		err = s.roomForObject(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	put, err := s.store.Put(tableObjects, c.Mount+r.ID, version, record)
	if err == nil {
		err = s.store.Apply(ctx, put)
	}
	s.objectChanged(c.Mount, r.ID) // even after an error: it may be there
	if err != nil {
		return nil, objectFault(err, "store the object")
	}
	return s.p11Object(ctx, c, r.ID)
}

func (s *Service) roomForObject(ctx context.Context, c *op.Call) error {
	ix, err := s.ready(ctx, c.Mount, c.At)
	if err != nil {
		return err
	}
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if len(ix.objects) >= maxStoredObjects {
		return invalid("the mount has %d stored objects, the most that are possible", maxStoredObjects).
			WithHint("delete some with pkcs11-objects/:id; pkcs11-find lists them")
	}
	return nil
}

func objectFault(err error, doing string) error {
	if errors.Is(err, store.ErrConflict) {
		return fault.Wrap(fault.Conflict, err, "the object is being changed by others; try again")
	}
	return storeFault(err, doing)
}

func (s *Service) p11DeleteObject(ctx context.Context, c *op.Call, r *api.P11ObjectName) (*api.Empty, error) {
	_, version, err := s.objectRecord(ctx, c.Mount, r.ID)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		return nil, errNoStored(r.ID)
	}
	err = s.store.Apply(ctx, s.store.Remove(tableObjects, c.Mount+r.ID, version))
	s.objectChanged(c.Mount, r.ID)
	return nil, objectFault(err, "delete the object")
}

func errNoStored(id string) error { return fault.New(fault.NotFound, "there is no object %s", id) }

func (s *Service) objectChanged(mount, id string) { s.indexes.note(mount, place{true, id}) }

// p11Object describes a stored object to a caller.
func (s *Service) p11Object(ctx context.Context, c *op.Call, id string) (*api.P11Object, error) {
	r, version, err := s.objectRecord(ctx, c.Mount, id)
	if err == nil && version == 0 {
		err = errNoStored(id)
	}
	if err != nil {
		return nil, err
	}
	out := &api.P11Object{ID: id, Attributes: make([]api.P11Attribute, len(r.Attributes))}
	for i, a := range r.Attributes {
		out.Attributes[i] = api.P11Attribute(a)
	}
	if c.May(op.Write, objectPath(id)) {
		out.May = append(out.May, "change")
	}
	if c.May(op.Delete, objectPath(id)) {
		out.May = append(out.May, "delete")
	}
	return out, nil
}

func isObjectID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == 16 && id == strings.ToLower(id)
}

// check looks at the form of an object. What its attributes mean is for programs.
func (r *p11ObjectRecord) check() error {
	if len(r.Attributes) > maxObjectAttributes {
		return invalid("an object of %d attributes: it has at most %d", len(r.Attributes), maxObjectAttributes)
	}
	size := 0
	for i := range r.Attributes {
		a := &r.Attributes[i]
		size += len(a.Value)
		if err := a.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Attributes[:i], func(b p11Attribute) bool { return b.Type == a.Type }) {
			return invalid("attribute %#x is given twice", a.Type)
		}
	}
	if size > maxObjectBytes {
		return invalid("an object of %d bytes: the values of its attributes have at most %d together", size, maxObjectBytes)
	}
	if _, ok := r.class(); !ok {
		return invalid("attribute 0 (CKA_CLASS) must be a number: %d for data, %d for a certificate, %d for a public key", classData, classCertificate, classPublicKey).
			WithHint("private and secret keys are made with pkcs11/:name/create or imported with keys/:name/import")
	}
	return nil
}

func (a *p11Attribute) check() error {
	switch {
	case a.Form == formBytes,
		a.Form == formBool && (bytes.Equal(a.Value, []byte{0}) || bytes.Equal(a.Value, []byte{1})),
		a.Form == formNumber && len(a.Value) == 8:
		return nil
	case a.Form == formBool:
		return invalid("attribute %#x: the value of form 1 (bool) is one byte, 0 or 1", a.Type)
	case a.Form == formNumber:
		return invalid("attribute %#x: the value of form 2 (number) is 8 bytes, big-endian", a.Type)
	}
	return invalid("attribute %#x: form %d; it is 0 (bytes), 1 (bool) or 2 (number)", a.Type, a.Form)
}

// value is that of an attribute, nil if there is none.
func (r *p11ObjectRecord) value(attribute uint64) *p11Attribute {
	for i := range r.Attributes {
		if r.Attributes[i].Type == attribute {
			return &r.Attributes[i]
		}
	}
	return nil
}

func (r *p11ObjectRecord) class() (p11Class, bool) {
	a := r.value(attrClass)
	if a == nil || a.Form != formNumber || len(a.Value) != 8 {
		return 0, false
	}
	class := p11Class(binary.BigEndian.Uint64(a.Value))
	return class, class <= classPublicKey
}

// listed is the entry of an object in an index.
func (r *p11ObjectRecord) listed(id string) *listed {
	l := &listed{place: place{true, id}, record: id}
	l.class, _ = r.class()
	if a := r.value(attrLabel); a != nil {
		l.label = string(a.Value)
	}
	if a := r.value(attrID); a != nil && len(a.Value) > 0 {
		l.ids = []string{string(a.Value)}
	}
	return l
}

func (s *Service) lookObject(ctx context.Context, mount string, p place) (*listed, error) {
	r, version, err := s.objectRecord(ctx, mount, p.name)
	if errors.Is(err, store.ErrCorrupt) {
		s.log.Error("a stored object was altered; PKCS#11 does not show it", "mount", mount, "object", p.name, "error", err)
		return nil, nil
	}
	if err != nil || version == 0 {
		return nil, err
	}
	return r.listed(p.name), nil
}

func (s *Service) buildObjects(ctx context.Context, mount string, ix *index) error {
	return s.eachRecord(ctx, tableObjects, mount, func(name string, e *store.Entry) error {
		var r p11ObjectRecord
		if err := e.Decode(&r); err != nil {
			return err
		}
		if err := checkFormat(r.Format); err != nil || !isObjectID(name) {
			return err // or of a mount below this one
		}
		ix.objects = append(ix.objects, r.listed(name))
		return nil
	})
}

// dropP11 deletes the stored objects of a mount that is unmounted, and forgets what
// is known of it.
func (s *Service) dropP11(ctx context.Context, mount string) error {
	s.indexes.drop(mount)
	names, err := s.store.Names(ctx, tableObjects, mount, "", 0)
	if err != nil {
		return storeFault(err, "list the objects of the mount")
	}
	for _, name := range names {
		id := strings.TrimPrefix(name, mount)
		if !isObjectID(id) {
			continue // of a mount below this one
		}
		_, version, err := s.objectRecord(ctx, mount, id)
		if err == nil && version > 0 {
			err = s.store.Apply(ctx, s.store.Remove(tableObjects, name, version))
		}
		if err != nil {
			return objectFault(err, "delete the objects of the mount")
		}
	}
	return nil
}
