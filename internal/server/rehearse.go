package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/custody"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/snapshot"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/sqlite"
	"github.com/claviger/claviger/internal/token"
	"github.com/claviger/claviger/internal/token/soft"
)

// Rehearsing says how to rehearse the restoring of a snapshot.
type Rehearsing struct {
	File SnapshotFile
	// TokenDir is a backup of the HSM token's files: the embedded token's directory,
	// or a token directory of SoftHSM2. It is copied, and the copy used. "" copies the
	// embedded token that the configuration names; a PKCS#11 token is used as it is,
	// for a login and for the use of keys, nothing else.
	TokenDir string
	// Scratch is where the copies lie for a while; "" is the system's directory for
	// temporary files.
	Scratch string
	// NewToken takes the configured HSM token, which has got the KEK of the snapshot's
	// token, in the place of that one, as Restoring does; PIN asks for its user PIN. A
	// token that is not copied gets the system keys that it lacks.
	NewToken bool
	PIN      func(ctx context.Context) ([]byte, error)
	// Share asks for share n of as many as are needed. The share is wiped after use.
	Share func(ctx context.Context, n, needed int) ([]byte, error)
	// Checked is told each version of a key; it may be nil.
	Checked func(keys.Checked)
	Logger  *slog.Logger
}

// Rehearsal is what a rehearsal showed.
type Rehearsal struct {
	Report     *snapshot.Report
	Keys       int
	Versions   int
	Proved     int // versions with the right secret: a test ciphertext opened, a signature verified
	Worked     int // versions that could be used, and have no test ciphertext
	PublicOnly int // versions without a secret
	Failed     []keys.Checked

	newest string // the key of the newest version
}

// Run restores a snapshot into a scratch directory, unseals it there, and uses every
// key. Neither the store nor, with a copy, the HSM token of the configuration is
// touched. The error says that the rehearsal could not be done; keys that failed are
// in the Rehearsal.
func (r Rehearsing) Run(ctx context.Context, cfg *config.Config) (_ *Rehearsal, err error) {
	dir, err := os.MkdirTemp(r.Scratch, "claviger-rehearsal-")
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "no directory can be made for the rehearsal")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	scratch, err := r.config(cfg, dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: scratch, log: r.Logger, metrics: newMetrics()}
	defer s.close()
	given := &givenShares{ask: r.Share}
	defer given.wipe()
	out := &Rehearsal{}
	var proofs [][]byte
	out.Report, err = r.rebuild(ctx, scratch, given.share, func(b []byte) error {
		proofs = append(proofs, b)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	service, err := s.openRehearsal(ctx, given.share)
	if err != nil {
		return nil, err
	}
	return out, service.CheckProofs(ctx, proofs, func(c keys.Checked) error {
		out.add(c)
		if r.Checked != nil {
			r.Checked(c)
		}
		return nil
	})
}

// rebuild restores the snapshot to the place that a configuration names.
func (r Rehearsing) rebuild(ctx context.Context, cfg *config.Config, share func(context.Context, int, int) ([]byte, error), proof func([]byte) error) (report *snapshot.Report, err error) {
	restoring := Restoring{File: r.File, NewToken: r.NewToken, PIN: r.PIN, Share: share}
	rebind, err := restoring.rebinding(ctx, cfg, func(*snapshot.Manifest) error { return ctx.Err() })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rebind.close()) }()
	_, err = sqlite.Build(ctx, cfg.Store.Path, false, func(put func(store.Record) error) (err error) {
		report, err = r.File.read(snapshot.Reading{Proof: proof, Record: func(rec store.Record) error {
			rec, err := rebind.record(ctx, rec)
			if err != nil {
				return err
			}
			return put(rec)
		}})
		return err
	})
	return report, err
}

// givenShares asks for each share once, although they are needed twice for a new HSM
// token: to seal its PIN, and to unseal with it.
type givenShares struct {
	ask   func(ctx context.Context, n, needed int) ([]byte, error)
	given [][]byte
}

func (g *givenShares) share(ctx context.Context, n, needed int) ([]byte, error) {
	if n <= len(g.given) {
		return bytes.Clone(g.given[n-1]), nil
	}
	b, err := g.ask(ctx, n, needed)
	if err == nil {
		g.given = append(g.given, bytes.Clone(b))
	}
	return b, err
}

func (g *givenShares) wipe() {
	for _, b := range g.given {
		clear(b)
	}
}

func (r *Rehearsal) add(c keys.Checked) {
	r.Versions++
	if name := c.Mount + c.Name; name != r.newest {
		r.Keys++
		r.newest = name
	}
	switch {
	case c.Err != nil:
		r.Failed = append(r.Failed, c)
	case c.PublicOnly:
		r.PublicOnly++
	case c.Proved:
		r.Proved++
	default:
		r.Worked++
	}
}

// config is the configuration of the rehearsal: another state directory and, where
// there is one to copy, another token.
func (r Rehearsing) config(cfg *config.Config, dir string) (*config.Config, error) {
	c := *beforeStart(cfg)
	c.DataDir = dir
	c.Store.Path = filepath.Join(dir, "store", "claviger.db")
	c.Audit.Path = filepath.Join(dir, "audit.log")
	from, to := r.TokenDir, filepath.Join(dir, "token")
	if c.Token.Driver == config.DriverSoft {
		if from == "" {
			from = cfg.Token.Soft.Dir
		}
		c.Token.Soft.Dir = to
	}
	if from == "" {
		return &c, nil
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return nil, (&fault.Error{Kind: fault.NotFound, Msg: "the backup of the HSM token cannot be copied", Err: err}).
			WithHint("--hsm-backup names the directory itself, with the token's files in it")
	}
	if err := onlyOurs(to); err != nil {
		return nil, err
	}
	if c.Token.Driver == config.DriverPKCS11 {
		return &c, r.softHSM(&c, dir, to)
	}
	return &c, nil
}

// onlyOurs closes a copy to others.
func onlyOurs(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		return os.Chmod(path, mode)
	})
}

// softHSM points SoftHSM2 to a copy of its tokens.
func (r Rehearsing) softHSM(c *config.Config, dir, tokens string) error {
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the rehearsal's configuration of SoftHSM2 cannot be written")
	}
	p := &c.Token.PKCS11
	p.Env = maps.Clone(p.Env)
	if p.Env == nil {
		p.Env = map[string]string{}
	}
	p.Env["SOFTHSM2_CONF"] = conf
	p.LockFile = ""
	return nil
}

// openRehearsal unseals the restored store, with shares or the configured PIN, and
// starts nothing but the use of keys: what the server does by itself after unsealing
// might remove objects of the HSM token that newer records name.
func (s *Server) openRehearsal(ctx context.Context, share func(context.Context, int, int) ([]byte, error)) (*keys.Service, error) {
	if err := s.openStore(ctx, false); err != nil {
		return nil, err
	}
	d, err := custody.Describe(ctx, s.db)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fault.New(fault.Invalid, "the snapshot holds no seal record: the store was never initialised")
	}
	s.cfg.Custody.Kind = d.Kind
	device, err := s.device(false)
	if err != nil {
		return nil, err
	}
	if s.custody, err = custody.New(s.rehearsalCustody(device, d)); err != nil {
		return nil, err
	}
	service, err := keys.New(keys.Options{Store: s.records, Token: &s.hsm, Software: soft.Engine{}, Logger: s.log})
	if err != nil {
		return nil, err
	}
	if d.Kind == custody.KindPIN {
		return service, s.custody.OpenByPIN(ctx)
	}
	for n := 1; ; n++ {
		b, err := share(ctx, n, d.Threshold)
		if err != nil {
			return nil, err
		}
		st, err := s.custody.Unseal(ctx, string(b))
		clear(b)
		if err != nil {
			return nil, err
		}
		if !st.Sealed {
			return service, nil
		}
	}
}

func (s *Server) rehearsalCustody(device token.Device, d *custody.Description) custody.Options {
	return custody.Options{
		Store: s.db, Records: s.records, Device: device, Kind: d.Kind, PIN: s.pinProvider(),
		Version: "0.0.0", StorageType: s.cfg.Store.Driver, Logger: s.log,
		Hooks: custody.Hooks{
			Unsealed: func(_ context.Context, t token.Token, keys store.Keyring) error {
				s.hsm.Set(t)
				return s.records.UnsealAll(keys)
			},
			Sealed:    func() { s.records.Seal(); s.hsm.Set(nil) },
			Genesis:   func(context.Context) (string, []store.Change, error) { return "", nil, errRehearsal },
			RootToken: func(context.Context) (string, error) { return "", errRehearsal },
		},
	}
}

var errRehearsal = errors.New("a rehearsal makes nothing")
