package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/server"
)

// onKeys makes a command that works on the daemon's keys: through the daemon that
// runs, else through one that lives as long as the command.
func (a *app) onKeys(f *hsmdaemonFlags, run func(ctx context.Context, d *daemon, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		d, err := a.openDaemon(f)
		if err != nil {
			return err
		}
		defer d.close()
		return d.withAPI(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			return run(ctx, d, c, args)
		})
	}
}

// withAPI calls use with a client of the daemon.
func (d *daemon) withAPI(ctx context.Context, use func(context.Context, *client.Client) error) error {
	s := &server.Standalone{Dir: d.file.Server.State}
	if c, err := apiClient(s); err == nil {
		if _, err := c.Health(ctx); err == nil {
			return use(ctx, c)
		}
	}
	s, cfg, err := d.alone(ctx)
	if err != nil {
		return err
	}
	if d.file.PKCS11.Slot != nil {
		d.log.Debug("openHSMSession", "slotID", *d.file.PKCS11.Slot)
	}
	running, err := server.New(cfg, server.Options{Standalone: s, Logger: d.quiet(), Version: version})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	c, err := apiClient(s)
	if err == nil {
		err = use(ctx, c)
	}
	stop()
	return errors.Join(err, <-ended)
}

// apiClient returns a client of the API at the daemon's socket.
func apiClient(s *server.Standalone) (*client.Client, error) {
	token, err := os.ReadFile(s.RootTokenFile())
	if err != nil {
		return nil, fmt.Errorf("read the root token: %w", err)
	}
	return client.New(client.Config{Address: "unix://" + s.Socket(), Token: strings.TrimSpace(string(token)), Retries: -1})
}

func (a *app) genKeyCommand(f *hsmdaemonFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "genkey LABEL",
		Short:   "Make an RSA-2048 key pair in the HSM token",
		Long:    "Make an RSA-2048 key pair in the HSM token, and print its id and its public key.",
		Example: "  claviger hsmdaemon genkey test",
		Args:    takes("LABEL"),
		RunE: a.onKeys(f, func(ctx context.Context, d *daemon, c *client.Client, args []string) error {
			id, err := uuid.NewRandom()
			if err != nil {
				return fmt.Errorf("make a key's UUID: %w", err)
			}
			key, err := c.CreateLegacyKey(ctx, api.CreateLegacyKey{Name: id.String(), Type: "rsa-2048", Label: args[0], ID: hex.EncodeToString(id[:])})
			if err != nil {
				return err
			}
			d.log.Debug("generated keypair", "tokenID", key.Name)
			return a.lines(fmt.Sprintf("Id: %s, label: %s\n%s", key.Name, key.Label, key.PublicKey))
		}),
	}
}

func (a *app) showKeyCommand(f *hsmdaemonFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "showkey ID",
		Short:   "Print the public key of a key pair",
		Example: "  claviger hsmdaemon showkey 9bac3719-2b8d-11e9-aeab-0242b5ece4c3",
		Args:    takes("ID"),
		RunE: a.onKeys(f, func(ctx context.Context, d *daemon, c *client.Client, args []string) error {
			key, err := d.publicKey(ctx, c, args[0])
			if err != nil {
				return err
			}
			der, err := x509.MarshalPKIXPublicKey(key)
			if err != nil {
				return fmt.Errorf("encode the public key: %w", err)
			}
			return a.lines(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		}),
	}
}

func (a *app) legacyEncryptCommand(f *hsmdaemonFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "encrypt ID BASE64",
		Short: "Encrypt a little data to a key pair, for a test",
		Long: `Encrypt data, given in base64, to the public key of a key pair (RSA, PKCS#1 v1.5),
and print the ciphertext in base64. Arguments are seen by every user of this
machine: it is for tests, or with - for data from standard input.`,
		Example: "  claviger hsmdaemon encrypt 9bac3719-2b8d-11e9-aeab-0242b5ece4c3 Zm9vYmFy",
		Args:    takes("ID", "BASE64"),
		RunE: a.onKeys(f, func(ctx context.Context, d *daemon, c *client.Client, args []string) error {
			plaintext, err := a.base64Argument(args[1])
			if err != nil {
				return err
			}
			defer clear(plaintext)
			key, err := d.publicKey(ctx, c, args[0])
			if err != nil {
				return err
			}
			//lint:ignore SA1019 it is what the daemon's clients encrypt with
			ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, key, plaintext)
			if errors.Is(err, rsa.ErrMessageTooLong) {
				return usagef("the data has %d bytes; with this key at most %d can be encrypted", len(plaintext), key.Size()-11)
			}
			if err != nil {
				return fmt.Errorf("encrypt: %w", err)
			}
			return a.lines(base64.StdEncoding.EncodeToString(ciphertext))
		}),
	}
}

func (a *app) legacyDecryptCommand(f *hsmdaemonFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "decrypt ID BASE64",
		Short:   "Decrypt with a key pair",
		Long:    "Decrypt a ciphertext, given in base64 or with - on standard input, and print the data in base64.",
		Example: "  claviger hsmdaemon decrypt 9bac3719-2b8d-11e9-aeab-0242b5ece4c3 \"$ciphertext\"",
		Args:    takes("ID", "BASE64"),
		RunE: a.onKeys(f, func(ctx context.Context, d *daemon, c *client.Client, args []string) error {
			ciphertext, err := a.base64Argument(args[1])
			if err != nil {
				return err
			}
			if err := d.adopt(ctx, c, args[0]); err != nil {
				return err
			}
			answer, err := c.LegacyDecrypt(ctx, api.LegacyDecrypt{Name: args[0], Ciphertext: ciphertext, Scheme: "rsa-pkcs1v15"})
			if err != nil {
				return err
			}
			defer clear(answer.Plaintext)
			d.log.Debug("Decrypted")
			return a.lines(base64.StdEncoding.EncodeToString(answer.Plaintext))
		}),
	}
}

// base64Argument decodes an argument, or with "-" the first line of standard input.
func (a *app) base64Argument(arg string) ([]byte, error) {
	if arg == "-" {
		line, err := firstLine(a.in)
		if err != nil {
			return nil, err
		}
		defer clear(line)
		arg = string(line)
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(arg))
	if err != nil || len(b) == 0 {
		return nil, usagef("the data must be base64, with something in it")
	}
	return b, nil
}

// publicKey returns the public key of a key pair.
func (d *daemon) publicKey(ctx context.Context, c *client.Client, id string) (*rsa.PublicKey, error) {
	d.log.Info("Fetching private key", "keyID", id)
	if err := d.adopt(ctx, c, id); err != nil {
		return nil, err
	}
	public, err := c.PublicKey(ctx, id, 0)
	if err != nil {
		return nil, err
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key %s is not an RSA key", id)
	}
	return key, nil
}

// adopt makes a key that hsmdaemon left in the token one of ours. For a key that
// is ours already it does nothing.
func (d *daemon) adopt(ctx context.Context, c *client.Client, id string) error {
	d.log.Debug("Got uuid", "string", id)
	_, err := c.ReadKey(ctx, id)
	if !isStatus(err, http.StatusNotFound) {
		return err
	}
	u, parseErr := uuid.Parse(id)
	if parseErr != nil || u.String() != id {
		return err
	}
	if _, adoptErr := c.AdoptKey(ctx, api.AdoptKey{Name: id, ID: hex.EncodeToString(u[:]), Class: "private"}); adoptErr != nil {
		if isStatus(adoptErr, http.StatusNotFound) || isStatus(adoptErr, http.StatusBadRequest) {
			return fmt.Errorf("there is no key %s: %w", id, err)
		}
		return adoptErr
	}
	d.log.Debug("found object", "id", string(u[:]))
	return nil
}

func isStatus(err error, status int) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Status == status
}
