package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
)

type initFlags struct {
	req        api.Init
	pgpKeys    []string
	rootPGPKey string
	pinFile    string
	setFile    string
	recovery   bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Initialise a server: its HSM token, the shares, the root token",
		Long: `Initialise a server once. It makes a new HSM token or adopts one that is
initialised (--hsm-token), splits the unseal secret into shares of which the
threshold opens it, and makes the root token. The answer is shown once and
kept nowhere.

With --pgp-key, given once a share, each share is encrypted to one custodian
and nobody else sees it. The PIN of a token to adopt is asked for without echo,
taken from the first line of standard input, or from --pin-file; an empty one
leaves it to the pin_file of the server's configuration. A server whose
configuration says custody "pin" has no shares: --shares 0 --threshold 0. One that
a provider opens (custody "auto") has recovery shares: --recovery.`,
		Example: "  claviger init -n 5 -t 3 --hsm-token create\n  claviger init -n 2 -t 2 --pgp-key ada.asc --pgp-key grace.asc --hsm-token adopt --pin-file pin\n  claviger init --recovery -n 5 -t 3 --hsm-token create",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			return a.init(ctx, c, f)
		}),
	}
	fl := cmd.Flags()
	fl.IntVarP(&f.req.SecretShares, "shares", "n", 5, "number of shares, 1 to 255; 0 for custody by a PIN")
	fl.IntVarP(&f.req.SecretThreshold, "threshold", "t", 3, "number of shares that unseal")
	fl.BoolVar(&f.recovery, "recovery", false, "the shares are recovery shares of a server that opens by itself")
	fl.StringArrayVar(&f.pgpKeys, "pgp-key", nil, "file of a custodian's OpenPGP public key; once a share")
	fl.StringVar(&f.rootPGPKey, "root-token-pgp-key", "", "file of the OpenPGP public key to which the root token is encrypted")
	fl.StringVar(&f.req.HSMToken, "hsm-token", "", "create or adopt; default is what the server's configuration says")
	fl.StringVar(&f.pinFile, "pin-file", "", "file with the user PIN of the HSM token to adopt")
	fl.StringVar(&f.setFile, "set-file", "", "new file for the share set, with which custodians check their shares")
	fl.BoolVar(&f.req.TransferableKEK, "transferable-kek", false, "let the KEK be wrapped for another HSM later; fixed for ever")
	complete(cmd, "hsm-token", "create", "adopt")
	return cmd
}

// check finds what the server would refuse, before a PIN is asked for.
func (f *initFlags) check() error {
	req := f.req
	switch {
	case req.SecretShares == 0 && req.SecretThreshold == 0 && len(f.pgpKeys) == 0: // a server that a PIN opens
	case req.SecretShares < 1 || req.SecretShares > 255:
		return usagef("--shares %d: must be 1 to 255", req.SecretShares)
	case req.SecretThreshold < 1 || req.SecretThreshold > req.SecretShares:
		return usagef("--threshold %d: must be 1 to the number of shares, %d", req.SecretThreshold, req.SecretShares)
	case len(f.pgpKeys) != 0 && len(f.pgpKeys) != req.SecretShares:
		return usagef("%d --pgp-key for %d shares: give one a share, or none", len(f.pgpKeys), req.SecretShares)
	case req.HSMToken != "" && req.HSMToken != "create" && req.HSMToken != "adopt":
		return usagef("--hsm-token %s: must be create or adopt", req.HSMToken)
	case f.pinFile != "" && req.HSMToken != "adopt":
		return usagef("--pin-file is for --hsm-token adopt only")
	}
	return nil
}

func (a *app) init(ctx context.Context, c *client.Client, f initFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	req, err := f.request()
	if err != nil {
		return err
	}
	if req.HSMToken == "adopt" {
		pin, err := a.pin(ctx, f.pinFile)
		if err != nil {
			return err
		}
		req.HSMPIN = string(pin)
		clear(pin)
	}
	result, err := c.Init(ctx, req)
	if err != nil {
		return err
	}
	if err := a.showInit(req, result); err != nil || f.setFile == "" {
		return err
	}
	set, err := c.ShareSet(ctx)
	if err != nil {
		return err
	}
	return writeShareSet(f.setFile, set)
}

// request returns the request with the OpenPGP keys, without the PIN.
func (f *initFlags) request() (api.Init, error) {
	req := f.req
	for _, file := range f.pgpKeys {
		key, err := publicKey(file)
		if err != nil {
			return req, err
		}
		req.PGPKeys = append(req.PGPKeys, key)
	}
	if f.recovery {
		req.RecoveryShares, req.RecoveryThreshold, req.RecoveryPGPKeys = req.SecretShares, req.SecretThreshold, req.PGPKeys
		req.SecretShares, req.SecretThreshold, req.PGPKeys = 0, 0, nil
	}
	if f.rootPGPKey == "" {
		return req, nil
	}
	var err error
	req.RootTokenPGPKey, err = publicKey(f.rootPGPKey)
	return req, err
}

// publicKey returns an OpenPGP key file as the API takes it: armored text as it
// is, the binary form as base64.
func publicKey(file string) (string, error) {
	b, err := readFile(file)
	if err != nil {
		return "", fmt.Errorf("read an OpenPGP key: %w", err)
	}
	if bytes.Contains(b, []byte("PRIVATE KEY BLOCK")) {
		return "", usagef("%s holds a private key; export the public one (gpg --export --armor)", file)
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		return string(b), nil
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

// pin returns the PIN of an HSM token. The caller wipes it.
func (a *app) pin(ctx context.Context, file string) ([]byte, error) {
	if file == "" {
		return a.secret(ctx, "User PIN of the HSM token")
	}
	b, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the PIN: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

func (a *app) showInit(req api.Init, r *api.InitResult) error {
	if a.format == "json" {
		return a.showJSON(r)
	}
	kind, shares, threshold := "Unseal", r.Keys, req.SecretThreshold
	if len(r.KeysBase64) > 0 {
		shares = r.KeysBase64
	}
	if len(r.RecoveryKeysBase64) > 0 {
		kind, shares, threshold = "Recovery", r.RecoveryKeysBase64, req.RecoveryThreshold
	}
	for i, share := range shares {
		fmt.Fprintf(a.out, "%s Key %d: %s\n", kind, i+1, printable(share))
		if i < len(r.PGPFingerprints) {
			fmt.Fprintf(a.out, "  for %s\n", printable(r.PGPFingerprints[i]))
		}
	}
	fmt.Fprintf(a.out, "\nInitial Root Token: %s\n", printable(r.RootToken))
	if len(shares) == 0 {
		return nil
	}
	fmt.Fprintln(a.err)
	a.say("Give each share to one custodian: %d of %d unseal the server. They are shown only now.", threshold, len(shares))
	return nil
}
