package pki

import "testing"

func FuzzParseIssuer(f *testing.F) {
	root := offlineRoot(f, ecKey(f), nil)
	f.Add(pemCert(root.Certificate().Raw))
	f.Add(pemCert(root.Certificate().Raw) + pemCert(root.Certificate().Raw))
	f.Fuzz(func(t *testing.T, text string) {
		if i, err := ParseIssuer(text); err == nil && !i.Certificate().IsCA {
			t.Error("the issuer is no authority")
		}
	})
}

func FuzzParseCRL(f *testing.F) {
	key := ecKey(f)
	root := offlineRoot(f, key, nil)
	d, err := DraftCRL(&OfflineCRL{Number: 1, ThisUpdate: start, NextUpdate: start.AddDate(0, 1, 0)}, root, start)
	must(f, err)
	der, err := d.Sign(key)
	must(f, err)
	f.Add(der)
	f.Add([]byte(pemCRL(der)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := ParseCRL(text, root); err == nil && list.CheckSignatureFrom(root.Certificate()) != nil {
			t.Error("a CRL of somebody else is taken")
		}
	})
}

func FuzzRequestFacts(f *testing.F) {
	csr, _ := newCSR(f, nil)
	f.Add(csr)
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := RequestFacts(text); err == nil && r.CheckSignature() != nil {
			t.Error("a request that is not signed by its key is taken")
		}
	})
}
