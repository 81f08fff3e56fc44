package custody

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/custody/sss"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/pgp"
	"github.com/claviger/claviger/internal/token"
)

// ceremonyPIN is the length of the PINs of a Ceremony, in hexadecimal digits.
const ceremonyPIN = 64

// Ceremony makes an HSM token as Mo-Vault does: its user PIN and its SO PIN are
// random, and what is left of them is shares in the format of package sss, each
// encrypted to the OpenPGP key of one custodian, in files KEYID.pin.gpg and
// KEYID.sopin.gpg. What is shared is the PIN and the end of its line.
type Ceremony struct {
	Device token.Device
	// Shares is the number of custodians, Threshold how many of them have a PIN
	// together. There must be more shares than the threshold.
	Shares, Threshold int
	// Keys are the custodians' public keys (RFC 9580), binary or armored, one each
	// for Shares; Names say where each is from, for errors.
	Keys  [][]byte
	Names []string
	// Dir is the directory for the files. None of them may exist.
	Dir string
	Now func() time.Time // nil: time.Now
}

// Run makes the token and returns its user PIN, which the caller wipes, and the paths
// of the files, those with the user PIN first. After an error there are no files; a
// token that the HSM left half-made is named by the error.
func (c *Ceremony) Run(ctx context.Context) (pin []byte, files []string, err error) {
	keys, err := c.keys()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := deviceContext(ctx)
	defer cancel()
	st, err := c.Device.State(ctx)
	switch {
	case err != nil:
		return nil, nil, deviceFault(err, "look at the HSM token")
	case !st.Present:
		return nil, nil, fault.New(fault.Unavailable, "the PKCS#11 module shows no token and no free slot for one; nothing was changed")
	case st.Initialized:
		return nil, nil, ceremonyExists(st.Label, nil)
	case st.MaxPIN > 0 && st.MaxPIN < ceremonyPIN:
		return nil, nil, fault.New(fault.Invalid, "the HSM token takes PINs of at most %d bytes, and the ceremony makes them of %d", st.MaxPIN, ceremonyPIN)
	}
	ps := &pins{user: NewPIN(max(ceremonyPIN, st.MinPIN)), so: NewPIN(max(ceremonyPIN, st.MinPIN))}
	defer ps.wipe()
	made := &newFileSet{dir: c.Dir}
	// The shares come first: a token without them would be lost at the next start.
	if err := c.handOut(made, keys, ps); err != nil {
		made.remove()
		return nil, nil, err
	}
	if err := c.Device.Create(ctx, ps.so, ps.user); err != nil {
		made.remove()
		if errors.Is(err, token.ErrExists) {
			return nil, nil, ceremonyExists(st.Label, err)
		}
		e, _ := errors.AsType[*fault.Error](deviceFault(err, "create the HSM token"))
		return nil, nil, e.WithHint("if the HSM shows a new token now, it was left half-made: %s", removal(""))
	}
	return append([]byte(nil), ps.user...), made.paths, nil
}

func ceremonyExists(label string, cause error) error {
	e := fault.New(fault.Conflict, "%s is there already; nothing was changed", tokenName(label))
	e.Err = cause
	return e.WithHint("start with its PIN. If an interrupted ceremony left it: %s", removal(label))
}

// keys checks the numbers, and reads the custodians' keys.
func (c *Ceremony) keys() ([]*pgpKey, error) {
	n, t := c.Shares, c.Threshold
	if t < sss.MinThreshold || n > sss.MaxShares || n <= t {
		return nil, fault.New(fault.Invalid, "%d shares with threshold %d: the threshold must be %d or more, and the shares more than the threshold, at most %d", n, t, sss.MinThreshold, sss.MaxShares)
	}
	if len(c.Keys) != n {
		return nil, fault.New(fault.Invalid, "there are %d OpenPGP public keys for %d shares; give one for each share", len(c.Keys), n)
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	keys := make([]*pgpKey, n)
	seen := map[string]string{}
	for i, data := range c.Keys {
		key, err := pgp.Parse(base64.StdEncoding.EncodeToString(data), now())
		if err != nil {
			return nil, fault.New(fault.Invalid, "%s: %v", c.Names[i], err)
		}
		id := key.ID()
		if other, again := seen[id]; again {
			return nil, fault.New(fault.Invalid, "%s and %s are the same OpenPGP key %s; each custodian needs a key of his own", other, c.Names[i], id)
		}
		keys[i], seen[id] = key, c.Names[i]
	}
	return keys, nil
}

// handOut writes the shares of both PINs.
func (c *Ceremony) handOut(made *newFileSet, keys []*pgpKey, ps *pins) error {
	for _, p := range []struct {
		pin  []byte
		kind string
	}{{ps.user, "pin"}, {ps.so, "sopin"}} {
		secret := append(append(make([]byte, 0, len(p.pin)+1), p.pin...), '\n')
		lines, err := sss.Split(secret, c.Shares, c.Threshold)
		clear(secret)
		if err != nil {
			return fmt.Errorf("share the PIN: %w", err)
		}
		for i, key := range keys {
			message, err := key.Encrypt([]byte(lines[i] + "\n"))
			if err != nil {
				return err
			}
			if err := made.write(key.ID()+"."+p.kind+".gpg", message); err != nil {
				return err
			}
		}
	}
	return made.sync()
}

// newFileSet writes files that must not exist, and can take them back.
type newFileSet struct {
	dir   string
	paths []string
}

func (s *newFileSet) write(name string, data []byte) error {
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fault.New(fault.Conflict, "%s exists; nothing was changed", path).
			WithHint("it is a share of another token: move the files *.%s away", strings.SplitN(name, ".", 2)[1])
	}
	if err != nil {
		return fmt.Errorf("write a share: %w", err)
	}
	s.paths = append(s.paths, path)
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write a share: %w", err)
	}
	return nil
}

func (s *newFileSet) sync() error {
	d, err := os.Open(s.dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("write the shares: %w", err)
	}
	return nil
}

func (s *newFileSet) remove() {
	for _, path := range s.paths {
		os.Remove(path)
	}
}
