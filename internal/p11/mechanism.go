package p11

// Forms of the parameter of a mechanism.
const (
	ParamNone   = 0
	ParamRaw    = 1
	ParamNumber = 2
	ParamPSS    = 3
	ParamOAEP   = 4
	ParamGCM    = 5
	ParamECDH   = 6
	ParamCTR    = 7
	ParamCCM    = 8
	ParamEdDSA  = 9
	ParamString = 10
	ParamRSAAES = 11
)

// Mechanism is a mechanism with its parameter, of which only the fields of its
// form are set.
type Mechanism struct {
	Number uint64
	Form   uint8
	Raw    []byte // of ParamRaw and ParamString
	Value  uint64 // of ParamNumber
	PSS    PSS
	OAEP   OAEP
	GCM    GCM
	ECDH   ECDH
	EdDSA  EdDSA
}

// PSS is CK_RSA_PKCS_PSS_PARAMS.
type PSS struct{ Hash, MGF, Salt uint64 }

// OAEP is CK_RSA_PKCS_OAEP_PARAMS.
type OAEP struct {
	Hash, MGF, Source uint64
	Label             []byte
}

// GCM is CK_GCM_PARAMS.
type GCM struct {
	IV      []byte
	IVBits  uint64
	AAD     []byte
	TagBits uint64
}

// ECDH is CK_ECDH1_DERIVE_PARAMS.
type ECDH struct {
	KDF            uint64
	Shared, Public []byte
}

// EdDSA is CK_EDDSA_PARAMS.
type EdDSA struct {
	Prehash bool
	Context []byte
}

// Mechanism takes a mechanism. Parameters of mechanisms that are not offered are
// checked for their form and forgotten.
func (r *Reader) Mechanism() Mechanism {
	m := Mechanism{Number: r.U64(), Form: r.U8()}
	switch m.Form {
	case ParamNone:
	case ParamRaw, ParamString:
		m.Raw = r.Bytes()
	case ParamNumber:
		m.Value = r.U64()
	case ParamPSS:
		m.PSS = PSS{r.U64(), r.U64(), r.U64()}
	case ParamOAEP:
		m.OAEP = r.oaep()
	case ParamGCM:
		m.GCM = GCM{r.Bytes(), r.U64(), r.Bytes(), r.U64()}
	case ParamECDH:
		m.ECDH = ECDH{r.U64(), r.Bytes(), r.Bytes()}
	case ParamCTR:
		r.U64()
		r.Bytes()
	case ParamCCM:
		r.U64()
		r.Bytes()
		r.Bytes()
		r.U64()
	case ParamEdDSA:
		m.EdDSA = EdDSA{r.Bool(), r.Bytes()}
	case ParamRSAAES:
		r.U64()
		r.oaep()
	default:
		r.Fail("the mechanism's parameter has the form %d, which is none", m.Form)
	}
	return m
}

func (r *Reader) oaep() OAEP { return OAEP{r.U64(), r.U64(), r.U64(), r.Bytes()} }

// want refuses a parameter of another form than the mechanism's.
func (m *Mechanism) want(form uint8, what string) error {
	if m.Form != form {
		return fail(CKR_MECHANISM_PARAM_INVALID, "mechanism 0x%x needs %s as its parameter, it came with form %d", m.Number, what, m.Form)
	}
	return nil
}

// plain refuses a parameter where the mechanism has none. An empty one is none.
func (m *Mechanism) plain() error {
	if m.Form == ParamNone || m.Form == ParamRaw && len(m.Raw) == 0 {
		return nil
	}
	return fail(CKR_MECHANISM_PARAM_INVALID, "mechanism 0x%x has no parameter", m.Number)
}
