package p11

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"slices"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// wish is what a template asks of a new key of the server.
type wish struct {
	session   bool
	label     string
	id        []byte
	subject   []byte
	deletable bool
}

// wishOf reads templates; the first that has an attribute counts.
func wishOf(class, ckk uint64, templates ...Attributes) (*wish, error) {
	w := &wish{session: true, deletable: true}
	for i, t := range templates {
		if c, ok := t.Number(CKA_CLASS); ok && i == 0 && c != class {
			return nil, fail(CKR_TEMPLATE_INCONSISTENT, "CKA_CLASS %d is not the class of what the mechanism makes, %d", c, class)
		}
		if k, ok := t.Number(CKA_KEY_TYPE); ok && k != ckk {
			return nil, fail(CKR_TEMPLATE_INCONSISTENT, "CKA_KEY_TYPE 0x%x is not the type of what the mechanism makes, 0x%x", k, ckk)
		}
		if t.Flag(CKA_TOKEN, false) {
			w.session = false
		}
		if w.label == "" {
			w.label = string(t.Bytes(CKA_LABEL))
		}
		if w.id == nil {
			w.id = slices.Clone(t.Bytes(CKA_ID)) // the service keeps it, the frame goes
		}
		if w.subject == nil {
			w.subject = slices.Clone(t.Bytes(CKA_SUBJECT))
		}
		if !t.Flag(CKA_DESTROYABLE, true) {
			w.deletable = false
		}
	}
	return w, nil
}

// create is the request that makes such a key.
func (w *wish) create(k *kind) *api.P11Create {
	return &api.P11Create{Type: k.name, Session: w.session, Label: w.label, ID: w.id, Subject: w.subject, Deletable: w.deletable || w.session}
}

// GeneratePair makes a pair of keys in the server.
func (s *Service) GeneratePair(ctx context.Context, c *Caller, m *Mechanism, public, private Attributes) (pub, priv *Object, err error) {
	sl, err := s.slot(c)
	if err != nil {
		return nil, nil, err
	}
	if err := m.plain(); err != nil {
		return nil, nil, err
	}
	k, err := pairKind(m.Number, public)
	if err != nil {
		return nil, nil, err
	}
	w, err := wishOf(CKO_PRIVATE_KEY, k.ckk, private, public)
	if err != nil {
		return nil, nil, err
	}
	q := w.create(k)
	if k.ckk == CKK_EC {
		q.Uses = uses(private)
	}
	es, err := s.make(ctx, c, sl.Mounts[0], q)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range es {
		switch e.class {
		case CKO_PUBLIC_KEY:
			pub = e.show()
		case CKO_PRIVATE_KEY:
			priv = e.show()
		}
	}
	if pub == nil || priv == nil {
		return nil, nil, fail(CKR_FUNCTION_FAILED, "the server made a key of type %s that is no pair", k.name)
	}
	return pub, priv, nil
}

// uses are what an EC key is for: signatures, unless the template wants it to
// derive and does not want it to sign.
func uses(private Attributes) []string {
	derive := private.Flag(CKA_DERIVE, false)
	var all []string
	if private.Flag(CKA_SIGN, !derive) {
		all = append(all, "sign")
	}
	if derive {
		all = append(all, "agree")
	}
	return all
}

// pairKind is the kind of pair that a mechanism and the public template name.
func pairKind(gen uint64, public Attributes) (*kind, error) {
	switch gen {
	case CKM_RSA_PKCS_KEY_PAIR_GEN:
		bits, ok := public.Number(CKA_MODULUS_BITS)
		if !ok {
			return nil, fail(CKR_TEMPLATE_INCOMPLETE, "an RSA pair needs CKA_MODULUS_BITS")
		}
		if e := public.Bytes(CKA_PUBLIC_EXPONENT); e != nil && !bytes.Equal(bytes.TrimLeft(e, "\x00"), []byte{1, 0, 1}) {
			return nil, fail(CKR_ATTRIBUTE_VALUE_INVALID, "CKA_PUBLIC_EXPONENT must be 65537")
		}
		if bits >= 2048 && bits <= 4096 {
			if k := kindFor(gen, int(bits), nil); k != nil {
				return k, nil
			}
		}
		return nil, fail(CKR_KEY_SIZE_RANGE, "RSA keys of %d bits are not made: use 2048, 3072 or 4096", bits)
	case CKM_EC_KEY_PAIR_GEN, CKM_EC_EDWARDS_KEY_PAIR_GEN:
		params := public.Bytes(CKA_EC_PARAMS)
		if params == nil {
			return nil, fail(CKR_TEMPLATE_INCOMPLETE, "an EC pair needs CKA_EC_PARAMS, the name of its curve")
		}
		c, err := curveOf(params)
		if err != nil {
			return nil, err
		}
		if (c == edwards) != (gen == CKM_EC_EDWARDS_KEY_PAIR_GEN) {
			return nil, fail(CKR_CURVE_NOT_SUPPORTED, "the curve of CKA_EC_PARAMS is not one of mechanism 0x%x", gen)
		}
		for i := range kinds {
			if kinds[i].curve == c {
				return &kinds[i], nil
			}
		}
	}
	return nil, fail(CKR_MECHANISM_INVALID, "mechanism 0x%x does not make pairs here", gen)
}

// Generate makes a secret key: in the server, or, if it is one of a session that is
// to be extractable, here. The caller keeps that: its handle is 0.
func (s *Service) Generate(ctx context.Context, c *Caller, m *Mechanism, template Attributes) (*Object, error) {
	sl, err := s.slot(c)
	if err != nil {
		return nil, err
	}
	var ckk uint64
	switch m.Number {
	case CKM_AES_KEY_GEN:
		ckk = CKK_AES
	case CKM_GENERIC_SECRET_KEY_GEN:
		ckk = CKK_GENERIC_SECRET
	default:
		return nil, fail(CKR_MECHANISM_INVALID, "mechanism 0x%x does not make secret keys here", m.Number)
	}
	if err := m.plain(); err != nil {
		return nil, err
	}
	size, ok := template.Number(CKA_VALUE_LEN)
	if !ok {
		return nil, fail(CKR_TEMPLATE_INCOMPLETE, "a secret key needs CKA_VALUE_LEN")
	}
	w, err := wishOf(CKO_SECRET_KEY, ckk, template)
	if err != nil {
		return nil, err
	}
	if w.session && stays(template) {
		return generateHere(ckk, size, template, m.Number)
	}
	k := kindFor(m.Number, int(min(size, maxSecret))*8, nil)
	if k == nil || size > maxSecret {
		return nil, fail(CKR_KEY_SIZE_RANGE, "keys of %d bytes are not made with mechanism 0x%x", size, m.Number)
	}
	q := w.create(k)
	if k.bits == 0 {
		q.KeySize = int(size)
	}
	es, err := s.make(ctx, c, sl.Mounts[0], q)
	if err != nil {
		return nil, err
	}
	return es[0].show(), nil
}

// stays tells whether a template of a session's secret key wants its value with the
// caller.
func stays(template Attributes) bool {
	return template.Flag(CKA_EXTRACTABLE, false) && !template.Flag(CKA_SENSITIVE, false)
}

func generateHere(ckk, size uint64, template Attributes, gen uint64) (*Object, error) {
	if size == 0 || size > maxSecret || ckk == CKK_AES && size != 16 && size != 24 && size != 32 {
		return nil, fail(CKR_KEY_SIZE_RANGE, "secret keys of %d bytes are not made", size)
	}
	value := make([]byte, size)
	rand.Read(value)
	return secretObject(ckk, value, template, gen), nil
}

// secretObject is an extractable secret key that the caller keeps.
func secretObject(ckk uint64, value []byte, template Attributes, gen uint64) *Object {
	as := slices.Clone(template)
	put := func(t uint64, form uint8, v []byte) { as.Set(api.P11Attribute{Type: t, Form: form, Value: v}) }
	var n Attributes
	n.addNumber(CKA_CLASS, CKO_SECRET_KEY)
	n.addNumber(CKA_KEY_TYPE, ckk)
	n.addNumber(CKA_VALUE_LEN, uint64(len(value)))
	n.addNumber(CKA_KEY_GEN_MECHANISM, gen)
	n.addFlag(CKA_TOKEN, false)
	n.addFlag(CKA_SENSITIVE, false)
	n.addFlag(CKA_EXTRACTABLE, true)
	n.addFlag(CKA_ALWAYS_SENSITIVE, false)
	n.addFlag(CKA_NEVER_EXTRACTABLE, false)
	n.addFlag(CKA_LOCAL, gen == CKM_AES_KEY_GEN || gen == CKM_GENERIC_SECRET_KEY_GEN)
	n.addBytes(CKA_VALUE, value)
	for _, a := range n {
		put(a.Type, a.Form, a.Value)
	}
	var def Attributes
	def.addFlag(CKA_PRIVATE, true)
	def.addFlag(CKA_MODIFIABLE, true)
	def.addFlag(CKA_COPYABLE, true)
	def.addFlag(CKA_DESTROYABLE, true)
	aes := ckk == CKK_AES
	for _, t := range []uint64{CKA_ENCRYPT, CKA_DECRYPT} {
		def.addFlag(t, aes)
	}
	for _, t := range []uint64{CKA_SIGN, CKA_VERIFY} {
		def.addFlag(t, !aes)
	}
	for _, t := range []uint64{CKA_WRAP, CKA_UNWRAP, CKA_DERIVE, CKA_TRUSTED, CKA_WRAP_WITH_TRUSTED} {
		def.addFlag(t, false)
	}
	for _, t := range []uint64{CKA_LABEL, CKA_ID, CKA_START_DATE, CKA_END_DATE} {
		def.addBytes(t, nil)
	}
	for _, a := range def {
		if as.Find(a.Type) == nil {
			as = append(as, a)
		}
	}
	return &Object{Attributes: as}
}

// make makes a named key and remembers its objects. Its name is the label where
// that can be one and is free, else the label with something random behind it.
func (s *Service) make(ctx context.Context, c *Caller, mount string, q *api.P11Create) ([]*entry, error) {
	names := nameFor(q.Label, q.ID, q.Session)
	var err error
	for _, name := range names {
		r := *q
		if r.Label == name {
			r.Label = ""
		}
		made := &api.P11Key{}
		err = s.call(ctx, c, Call{Verb: Write, Path: mount + "pkcs11/" + name + "/create"}, &r, made)
		if err == nil {
			es := s.view(c).keep(entriesOf(mount, made, 0))
			if len(es) == 0 {
				return nil, fail(CKR_FUNCTION_FAILED, "the server made a key of type %q, which is not known here", made.Type)
			}
			return es, nil
		}
		if !taken(err) {
			break
		}
	}
	return nil, s.explain(ctx, c, err, CKR_FUNCTION_REJECTED)
}

// taken tells whether a call may have failed because its name is taken: over HTTP
// that has the status of every wrong request.
func taken(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.Conflict || kind == fault.Invalid
}

// nameFor are names for a key, the best one first. One without a label is named
// by its CKA_ID if that is a word: there Java puts a key's alias.
func nameFor(label string, id []byte, session bool) []string {
	if session {
		return []string{"session-" + randomHex(16)}
	}
	if word := string(id); label == "" && isWord.MatchString(word) {
		label = word
	}
	clean := cleanName(label)
	random := "pkcs11-" + randomHex(8)
	if clean != "" {
		random = clean + "-" + randomHex(4)
	}
	if clean != "" && clean == label {
		return []string{clean, random}
	}
	return []string{random}
}

var isWord = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,98}[a-zA-Z0-9]$`)

// cleanName makes of a label what may begin a key's name: letters, digits, '_',
// '-' and '.', up to 100.
func cleanName(label string) string {
	b := make([]byte, 0, len(label))
	for _, c := range []byte(label[:min(len(label), 100)]) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '-', c == '.':
			b = append(b, c)
		default:
			b = append(b, '_')
		}
	}
	return string(bytes.Trim(b, "-."))
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
