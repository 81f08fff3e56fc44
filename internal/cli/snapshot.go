package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
)

func (a *app) snapshotCommand() *cobra.Command {
	cmd := a.group("snapshot", "Save the store, restore it, and rehearse that",
		a.snapshotSaveCommand(), a.snapshotStatusCommand(), a.snapshotVerifyCommand(), a.snapshotRestoreCommand(), a.snapshotRehearseCommand())
	cmd.Long = `A snapshot is one file with everything that the server's database holds at one
moment, signed by the HSM token. Secrets in it are sealed: it is worthless without
the HSM token, or one that got its keys, and without the custodians.

save and status call the server; verify, restore and rehearse work on files of this
machine. docs/operations/disaster.md is the run-book for the loss of a machine.`
	cmd.Example = "  claviger snapshot save /backup/claviger.snap\n  claviger snapshot verify --public-key audit.pem /backup/claviger.snap\n" +
		"  claviger snapshot rehearse --config /etc/claviger/claviger.toml /backup/claviger.snap"
	return cmd
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	var r api.TakeSnapshot
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Take a snapshot while the server is in use",
		Long: `Take a snapshot of the store and keep it as FILE, which must not exist. It appears
whole or not at all. Its SHA-256 is shown, so that a copy can be compared.

With it come test ciphertexts of all keys, by which a rehearsal shows that the keys
open. --proofs latest makes them of the newest version of each key only, where there
are very many.`,
		Example: "  claviger snapshot save /backup/claviger.snap\n  claviger snapshot save --proofs latest /backup/claviger.snap",
		Args:    takes("FILE"),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, args []string) error {
			p := newProgress(&a.ui, "Saved")
			saved, err := saveSnapshot(ctx, c, r, args[0], p)
			if err != nil {
				return err
			}
			return a.show(saved, func(t *table) {
				t.field("File", saved.File)
				t.field("Bytes", saved.Size)
				t.field("SHA-256", saved.SHA256)
			})
		}),
	}
	cmd.Flags().StringVar(&r.Proofs, "proofs", api.ProofsAll, "versions of keys that get a test ciphertext: all, latest or none")
	complete(cmd, "proofs", api.ProofsAll, api.ProofsLatest, api.ProofsNone)
	return cmd
}

// savedSnapshot is what save shows.
type savedSnapshot struct {
	File   string `json:"file"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// saveSnapshot writes a snapshot into a file without a name, and gives it the name
// when it is there whole and on the disk.
func saveSnapshot(ctx context.Context, c *client.Client, r api.TakeSnapshot, path string, p *progress) (*savedSnapshot, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, alreadyThere(path, err)
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", filepath.Dir(path), err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	sum := sha256.New()
	out := &savedSnapshot{File: path}
	err = c.TakeSnapshot(ctx, r, io.MultiWriter(f, sum), func(done, total int64) {
		out.Size = total
		p.bytes(done, total)
	})
	p.end()
	if err != nil {
		return nil, err
	}
	out.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("make the snapshot durable: %w", err)
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return nil, alreadyThere(path, err)
	}
	return out, syncDirectory(filepath.Dir(path))
}

func alreadyThere(path string, err error) error {
	if err == nil || errors.Is(err, fs.ErrExist) {
		return usagef("%s is there already; a snapshot never takes the place of another file", path)
	}
	return fmt.Errorf("make %s: %w", path, err)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (a *app) snapshotStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show when the last snapshot was taken",
		Example: "  claviger snapshot status",
		Args:    takes(),
		RunE: a.with(func(ctx context.Context, c *client.Client, _ *cobra.Command, _ []string) error {
			s, err := c.LastSnapshot(ctx)
			if err != nil {
				return err
			}
			return a.show(s, func(t *table) {
				t.field("ID", s.ID)
				t.field("Taken", s.Created.Format(time.RFC3339))
				t.field("Records", s.Records)
				t.field("Bytes", s.Size)
				t.field("SHA-256", s.SHA256)
			})
		}),
	}
}

// snapshotFlags are the flags of what reads a snapshot.
type snapshotFlags struct{ config, publicKey, pinFile string }

// pin are the flags of what works with another HSM token than the snapshot's.
func (f *snapshotFlags) pin(cmd *cobra.Command, newHSM *bool, help string) {
	cmd.Flags().BoolVar(newHSM, "new-hsm", false, help)
	cmd.Flags().StringVar(&f.pinFile, "pin-file", "", "with --new-hsm: file whose first line is the user PIN of that HSM token")
}

// newHSM returns what asks for the PIN of another HSM token.
func (f *snapshotFlags) newHSM(a *app, ask func(context.Context, string) ([]byte, error), wanted bool) (func(context.Context) ([]byte, error), error) {
	if f.pinFile == "" {
		return func(ctx context.Context) ([]byte, error) { return ask(ctx, "User PIN of the HSM token") }, nil
	}
	if !wanted {
		return nil, usagef("--pin-file is for --new-hsm only")
	}
	return func(ctx context.Context) ([]byte, error) { return a.pin(ctx, f.pinFile) }, nil
}

func (f *snapshotFlags) key(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.publicKey, "public-key", "", "PEM file of the audit key's public half (claviger hsm audit-key); several if the HSM token was replaced")
}

func (f *snapshotFlags) all(cmd *cobra.Command) {
	f.key(cmd)
	cmd.Flags().StringVar(&f.config, "config", defaultConfig, "configuration file of the server; CLAVIGER_CONFIG is its default")
}

func (f *snapshotFlags) file(path string, p *progress) server.SnapshotFile {
	return server.SnapshotFile{Path: path, PublicKey: f.publicKey, Progress: p.bytes}
}

func (a *app) snapshotVerifyCommand() *cobra.Command {
	var f snapshotFlags
	var online bool
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check that a snapshot is whole and genuine",
		Long: `Check the whole file: its form, the digests of its parts, its numbers, and the
signature of the HSM token. With --public-key the signature must be by one of the
keys in that file, with --online by the audit key that the server shows now; else
it shows only that nothing was altered by accident.`,
		Example: "  claviger snapshot verify --public-key audit.pem claviger.snap\n  claviger snapshot verify --online claviger.snap",
		Args:    takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if online {
				if f.publicKey != "" {
					return usagef("--online and --public-key exclude each other")
				}
				path, remove, err := a.serverAuditKey(cmd.Context())
				if err != nil {
					return err
				}
				defer remove()
				f.publicKey = path
			}
			p := newProgress(&a.ui, "Checked")
			report, err := f.file(args[0], p).Verify()
			p.end()
			if err != nil {
				return err
			}
			return a.showSnapshot(report)
		},
	}
	f.key(cmd)
	cmd.Flags().BoolVar(&online, "online", false, "ask the server for the key that must have signed")
	return cmd
}

// serverAuditKey keeps the audit key that the server shows in a file for a while.
func (a *app) serverAuditKey(ctx context.Context) (path string, remove func(), err error) {
	c, err := a.client()
	if err != nil {
		return "", nil, err
	}
	hsm, err := c.HSMStatus(ctx)
	if err != nil {
		return "", nil, err
	}
	file, err := os.CreateTemp("", "claviger-audit-key-")
	if err != nil {
		return "", nil, fmt.Errorf("keep the audit key: %w", err)
	}
	remove = func() { os.Remove(file.Name()) }
	_, err = file.WriteString(hsm.AuditPublicKey)
	if err = errors.Join(err, file.Close()); err != nil {
		remove()
		return "", nil, fmt.Errorf("keep the audit key: %w", err)
	}
	return file.Name(), remove, nil
}

// shownSnapshot is what verify shows as JSON.
type shownSnapshot struct {
	Manifest any    `json:"manifest"`
	Size     int64  `json:"size"`
	SHA256   string `json:"sha256"`
	KeyID    string `json:"key_id"`
	Trusted  bool   `json:"trusted"`
}

func (a *app) showSnapshot(r *server.SnapshotReport) error {
	if !r.Trusted {
		a.warn("the key that signed was not compared with any: --public-key or --online does that")
	}
	m := r.Manifest
	return a.show(shownSnapshot{m, r.Size, r.SHA256, r.KeyID, r.Trusted}, func(t *table) {
		t.field("ID", m.ID)
		t.field("Taken", m.Created.Format(time.RFC3339))
		t.field("Release", m.Release)
		t.field("Store", m.StoreID)
		t.field("Storage key term", m.Term)
		t.field("HSM token", fmt.Sprintf("%s, serial number %s", m.Token.Label, m.Token.Serial))
		t.field("Audit log", fmt.Sprintf("up to record %d", m.Audit.Seq))
		t.field("Records", m.Records)
		t.field("Bytes", r.Size)
		t.field("SHA-256", r.SHA256)
		t.field("Signed by", r.KeyID)
		t.field("Key compared", r.Trusted)
	})
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var f snapshotFlags
	var r server.Restoring
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the store of a stopped server from a snapshot",
		Long: `Make the store that the configuration names from a snapshot. The server must not
run. The whole file is checked before the store appears under its name, and nothing
else is touched. The HSM is asked whether it shows the snapshot's token, without a
PIN.

A store that is there already is refused. --force sets it aside, under another name
in the same directory, if it is the same store at another time.

--new-hsm restores for another HSM token, which has got the KEK of the snapshot's
token and has a user PIN. The PIN is asked for unless --pin-file has it, then shares
of the custodians, as many as unseal; or they are the lines of standard input, in
that order. From then on the same custodians unseal with the new token.`,
		Example: "  claviger snapshot restore --config /etc/claviger/claviger.toml --public-key audit.pem /backup/claviger.snap\n" +
			"  claviger snapshot restore --new-hsm --pin-file spare.pin --public-key audit.pem /backup/claviger.snap",
		Args: takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.NewToken && r.AnyToken {
				return usagef("--new-hsm and --any-token exclude each other")
			}
			ask := a.secretReader()
			var err error
			if r.PIN, err = f.newHSM(a, ask, r.NewToken); err != nil {
				return err
			}
			cfg, err := config.Load(configPath(cmd, f.config))
			if err != nil {
				return err
			}
			p := newProgress(&a.ui, "Restored")
			r.File = f.file(args[0], p)
			r.Share = shares(ask)
			restored, err := r.Run(cmd.Context(), cfg)
			p.end()
			if err != nil {
				return err
			}
			return a.showRestored(cfg, restored)
		},
	}
	f.all(cmd)
	cmd.Flags().BoolVar(&r.Replace, "force", false, "set the store aside that is there already")
	f.pin(cmd, &r.NewToken, "restore for the configured HSM token, which has got the KEK")
	cmd.Flags().BoolVar(&r.AnyToken, "any-token", false, "restore although the HSM shows another token than the snapshot's, or none")
	return cmd
}

func (a *app) showRestored(cfg *config.Config, r *server.Restored) error {
	if err := a.showSnapshot(r.Report); err != nil {
		return err
	}
	a.say("The store is at %s. Start the server and unseal it.", cfg.Store.Path)
	if r.Aside != "" {
		a.say("The store that was there is now %s.", r.Aside)
	}
	if r.NoAuditLog {
		a.warn(fmt.Sprintf("there is no audit log at %s: bring it, or start once with audit.restart = true and a new one goes on with the chain", cfg.Audit.Path))
	}
	return nil
}
