package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
)

// create makes the HSM token that the flags name. Its PINs are random, and the first
// two lines of a new PIN file: that of the user, that of the SO.
func (f *hsmFlags) create(ctx context.Context, a *app) error {
	if f.hsm.label == "" || f.pin.file == "" {
		return usagef("--create needs --label for the new HSM token, and --pin-file for a new file with its PINs")
	}
	e, err := f.hsm.examination()
	if err != nil {
		return err
	}
	keep := func(user, so []byte) error { return newPINFile(f.pin.file, user, so) }
	drop := func() error { return os.Remove(f.pin.file) }
	token := &config.Token{Driver: config.DriverPKCS11, Label: e.Label, PKCS11: e.Module}
	if err := server.CreateModuleToken(ctx, token, a.quietLog(), keep, drop); err != nil {
		return err
	}
	a.say("Made the HSM token %q. Its PINs are in %s: keep it apart from the token.", e.Label, f.pin.file)
	return nil
}

// newPINFile makes a file that only its owner reads, on the disk before it returns.
func newPINFile(path string, user, so []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the file for the PINs: %w", err)
	}
	text := make([]byte, 0, len(user)+len(so)+2)
	text = append(append(append(append(text, user...), '\n'), so...), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the file for the PINs: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
