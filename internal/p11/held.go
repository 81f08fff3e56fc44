package p11

import (
	"slices"

	"github.com/claviger/claviger/api"
)

// Held completes a public object of a session, which only its caller has: a
// certificate, a public key or data. Its handle is 0.
func Held(template Attributes) (*Object, error) {
	as := slices.Clone(template)
	as.Set(api.P11Attribute{Type: CKA_TOKEN, Form: FormBool, Value: flagValues[0]})
	class, _ := as.Number(CKA_CLASS)
	var err error
	switch class {
	case CKO_CERTIFICATE:
		as, err = completeCertificate(as)
	case CKO_PUBLIC_KEY:
		as, err = completePublic(as)
	case CKO_DATA:
	default:
		err = fail(CKR_TEMPLATE_INCONSISTENT, "objects of class %d are not kept for a session: only public ones are", class)
	}
	if err != nil {
		return nil, err
	}
	var def Attributes
	def.addFlag(CKA_PRIVATE, false)
	def.addFlag(CKA_MODIFIABLE, true)
	def.addFlag(CKA_COPYABLE, true)
	def.addFlag(CKA_DESTROYABLE, true)
	def.addBytes(CKA_LABEL, nil)
	return &Object{Attributes: as.with(def)}, nil
}
