package pki

import (
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// A role that is in use while it is patched stays what it was for its users.
func TestPatchRole(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.makeRole("web", nil)
	before, err := e.state(bg, "pki/")
	must(t, err)
	old := before.roles["web"].value
	_, err = e.patchRole(bg, call(), &api.SetPKIRole{Name: "web", AllowAnyName: new(true)})
	must(t, err)
	if old.AllowAnyName {
		t.Error("the old role was changed")
	}
	e.restart()
	got, err := e.readRole(bg, call(), &api.PKIRoleName{Name: "web"})
	if err != nil || !got.AllowAnyName || !got.AllowSubdomains || got.KeyType != "any" {
		t.Errorf("%v %+v", err, got)
	}
	_, err = e.patchRole(bg, call(), &api.SetPKIRole{Name: "web", KeyType: new("dsa")})
	wantFault(t, err, fault.Invalid, "unknown key type dsa")
	_, err = e.patchRole(bg, call(), &api.SetPKIRole{Name: "none"})
	wantFault(t, err, fault.NotFound, "unknown role: none")
}

// What a request of sign-verbatim says about usages does not stay in its role.
func TestVerbatimLeavesRole(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.root("ec", 0)
	e.makeRole("web", nil)
	csr, _ := newCSR(t, nil)
	_, err := e.signVerbatim(bg, call(), &api.PKISign{Role: "web", CSR: csr, KeyUsage: &[]string{"KeyAgreement"}})
	must(t, err)
	got, err := e.readRole(bg, call(), &api.PKIRoleName{Name: "web"})
	if err != nil || len(got.KeyUsage) != 3 {
		t.Errorf("%v %v", err, got.KeyUsage)
	}
}
