package tokentest

import (
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// testPIN changes both PINs of a token in use, if the driver can.
func (s *suite) testPIN(t *testing.T) {
	d := s.newDevice(t)
	must(t, d.Create(s.context(t), s.soPIN, s.pin))
	tok := s.open(t, d)
	changer, ok := tok.(token.PINChanger)
	if !ok {
		t.Skip("the driver changes no PINs")
	}
	ctx := s.context(t)
	must(t, tok.Provision(ctx, false))
	sealed, err := tok.SealSecret(ctx, []byte("secret"), nil)
	must(t, err)
	user, so := []byte("user-pin-5678"), []byte("so-pin-4321")
	wantErr(t, "ChangePIN with a wrong user PIN", changer.ChangePIN(ctx, token.UserPIN, user, []byte("user-pin-9999")), token.ErrPIN)
	wantErr(t, "ChangePIN with a wrong SO PIN", changer.ChangePIN(ctx, token.SOPIN, so, []byte("so-pin-9999")), token.ErrPIN)
	if changer.ChangePIN(ctx, token.UserPIN, s.pin, []byte("1")) == nil {
		t.Error("ChangePIN took a PIN that is too short")
	}
	must(t, changer.ProvePIN(ctx, token.UserPIN, s.pin))
	must(t, changer.ProvePIN(ctx, token.SOPIN, s.soPIN))

	must(t, changer.ChangePIN(ctx, token.UserPIN, s.pin, user))
	must(t, changer.ChangePIN(ctx, token.SOPIN, s.soPIN, so))
	must(t, changer.ProvePIN(ctx, token.UserPIN, user))
	must(t, changer.ProvePIN(ctx, token.SOPIN, so))
	wantErr(t, "ProvePIN with the old user PIN", changer.ProvePIN(ctx, token.UserPIN, s.pin), token.ErrPIN)
	wantErr(t, "ProvePIN with the old SO PIN", changer.ProvePIN(ctx, token.SOPIN, s.soPIN), token.ErrPIN)
	// What was open goes on, and later changes of the contents keep the new PIN.
	opened, err := tok.OpenSecret(ctx, sealed, nil)
	must(t, err)
	wantEqual(t, "secret", opened, []byte("secret"))
	stored, err := tok.Generate(ctx, token.Spec{Type: token.AES256, Place: token.PlaceObject, ID: newID()})
	must(t, err)
	must(t, tok.Destroy(ctx, stored))
	must(t, tok.Close())
	wantErr(t, "ProvePIN after Close", changer.ProvePIN(ctx, token.UserPIN, user), token.ErrClosed)

	_, err = d.Open(ctx, s.pin)
	wantErr(t, "Open with the old PIN", err, token.ErrPIN)
	tok, err = d.Open(ctx, user)
	must(t, err)
	must(t, tok.Close())
}
