package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/server"
)

// hsmdaemonFlags are those of hsmdaemon and its commands.
type hsmdaemonFlags struct {
	config   string
	insecure bool
}

// hsmdaemonCommand is ownCloud's hsmdaemon: alone it runs the daemon.
func (a *app) hsmdaemonCommand() *cobra.Command {
	f := &hsmdaemonFlags{}
	cmd := &cobra.Command{
		Use:   "hsmdaemon",
		Short: "Serve ownCloud's encryption in the place of hsmdaemon",
		Long: `Run the daemon that makes and uses the keys of ownCloud's encryption in an HSM,
in the foreground, with the configuration file of hsmdaemon. Called as hsmdaemon
(through a link: ln -s claviger hsmdaemon) this program behaves the same.

The first start adopts the HSM token that the file names; the daemon's records
are in the directory server.state of the file (default /var/lib/hsmdaemon). Keys
that hsmdaemon made are usable at once. The keys are also at the API socket
claviger.sock there, with the token in the file root-token.`,
		Example: "  claviger hsmdaemon --config /etc/hsmdaemon/hsmdaemon.toml\n  claviger hsmdaemon listslots",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runHSMDaemon(cmd.Context(), f)
		},
	}
	pf := cmd.PersistentFlags()
	file := config.DefaultHSMDaemonFile
	if env := os.Getenv("HSMDAEMON_CONFIG"); env != "" {
		file = env
	}
	pf.StringVar(&f.config, "config", file, "configuration file; HSMDAEMON_CONFIG is its default")
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, `take the JWT secret "secret" that ownCloud has by default`)
	cmd.AddCommand(
		a.listSlotsCommand(f), a.genKeyCommand(f), a.showKeyCommand(f), a.legacyEncryptCommand(f), a.legacyDecryptCommand(f),
		a.installCommand(f), a.uninstallCommand(),
		a.serviceCommand("start", "Start the service"), a.serviceCommand("stop", "Stop the service"),
		a.serviceCommand("status", "Show the service's state"),
	)
	return cmd
}

// daemon is hsmdaemon's configuration, ready for use.
type daemon struct {
	file *config.HSMDaemonFile
	log  *slog.Logger
	out  io.Closer // the log file, nil if it is a stream
}

func (a *app) openDaemon(f *hsmdaemonFlags) (*daemon, error) {
	file, err := config.LoadHSMDaemonFile(f.config)
	if err != nil {
		return nil, err
	}
	d := &daemon{file: file}
	var out io.Writer
	switch path, _ := file.LogFile(); path {
	case "stderr":
		out = a.err
	case "stdout":
		out = a.out
	default:
		w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		out, d.out = w, w
	}
	d.log = slog.New(newDaemonLog(out, file.Logger.Level, file.Logger.Encoding))
	if info, err := os.Stat(f.config); err == nil && info.Mode().Perm()&0o007 != 0 && (file.PKCS11.PIN != "" || file.JWT.Secret != "") {
		d.log.Warn("the configuration holds secrets and is open to every user; chmod 640 closes it", "file", f.config)
	}
	return d, nil
}

// quiet is the log of a server that lives as long as one command: what is wrong
// only.
func (d *daemon) quiet() *slog.Logger {
	h, ok := d.log.Handler().(*daemonLog)
	if !ok {
		return d.log
	}
	c := *h
	c.level = max(c.level, slog.LevelWarn)
	return slog.New(&c)
}

func (d *daemon) close() {
	if d.out != nil {
		d.out.Close()
	}
}

// alone describes the server that takes the daemon's place. Of the HSM tokens it
// takes the one that the file names.
func (d *daemon) alone(ctx context.Context) (*server.Standalone, *config.Config, error) {
	s := &server.Standalone{Dir: d.file.Server.State, Module: d.file.PKCS11.Module, PIN: d.pin()}
	var err error
	if s.Label, s.Serial, err = d.token(ctx); err != nil {
		return nil, nil, err
	}
	cfg, err := s.Config()
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the settings can't be used: %v", err)
	}
	return s, cfg, nil
}

// pin returns what yields the user PIN.
func (d *daemon) pin() func() ([]byte, error) {
	c := &d.file.PKCS11
	env := os.Getenv(c.PINEnv)
	if c.PINEnv != "" {
		os.Unsetenv(c.PINEnv) // the processes that drive the module inherit the rest
	}
	return func() ([]byte, error) {
		switch {
		case c.PIN != "":
			return []byte(c.PIN), nil
		case c.PINEnv != "":
			return []byte(env), nil
		case c.PINFile != "":
			b, err := readFile(c.PINFile)
			if err != nil {
				return nil, fmt.Errorf("read the PIN: %w", err)
			}
			line, _, _ := bytes.Cut(b, []byte("\n"))
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		return nil, errors.New("the configuration has no PIN: set pkcs11.pin, pin_file or pin_env")
	}
}

// token returns label and serial number of the configured token.
func (d *daemon) token(ctx context.Context) (label, serial string, err error) {
	c := &d.file.PKCS11
	if c.Slot == nil && c.Label != "" {
		return c.Label, c.Serial, nil
	}
	slots, err := d.slots(ctx)
	if err != nil {
		return "", "", err
	}
	var found []slot
	for _, s := range slots {
		if c.Slot != nil && s.ID == *c.Slot || c.Slot == nil && s.Initialized && (c.Serial == "" || s.Serial == c.Serial) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0 && c.Slot != nil:
		return "", "", fault.New(fault.NotFound, "the module has no slot %d with a token", *c.Slot).WithHint("hsmdaemon listslots shows them")
	case len(found) == 0:
		return "", "", fault.New(fault.NotFound, "the module has no initialised token").WithHint("softhsm2-util --init-token makes one")
	case len(found) > 1:
		return "", "", fault.New(fault.Invalid, "the module has %d initialised tokens; set pkcs11.slot", len(found)).WithHint("hsmdaemon listslots shows them")
	case !found[0].Initialized:
		return "", "", fault.New(fault.Invalid, "the token in slot %d is not initialised", found[0].ID).WithHint("softhsm2-util --init-token makes one")
	}
	return found[0].Label, found[0].Serial, nil
}

// front adds the front to the configuration.
func (d *daemon) front(cfg *config.Config, insecure bool) error {
	h, file := &cfg.Front.HSMDaemon, d.file
	h.Enabled = true
	h.Listener = config.Listener{
		Address: net.JoinHostPort(file.Server.Hostname, strconv.Itoa(file.Server.Port)),
		TLSCert: file.Server.TLSCert, TLSKey: file.Server.TLSKey, ClientCA: file.Server.ClientCA,
	}
	// The original's file has no word for it: an address that others reach is
	// what its owner wrote. It is warned of at start.
	h.Insecure = !h.TLS() && !h.Local()
	h.JWTSecret, h.JWTSecretFile, h.JWTLeeway, h.InsecureSecret = []byte(file.JWT.Secret), file.JWT.SecretFile, file.JWT.Leeway, insecure
	if file.JWT.Secret == "" && file.JWT.SecretFile == "" {
		return fault.New(fault.Invalid, "the configuration has no JWT secret: set jwt.secret").
			WithHint("make one with cat /proc/sys/kernel/random/uuid, and give it to ownCloud too: occ config:app:set encryption hsm.jwt.secret --value …")
	}
	l := &file.Line
	h.LineKey, h.LineTokenURL = l.Key, l.TokenURL
	if l.TokenFile != "" {
		h.LineTokenFile = l.TokenFile
	}
	if l.Socket != "" {
		h.Lines = append(h.Lines, line(config.Listener{Address: "unix:" + l.Socket, Mode: l.Mode}))
	}
	if l.Address != "" {
		tcp := config.Listener{Address: l.Address}
		tcp.Insecure = !tcp.Local()
		h.Lines = append(h.Lines, line(tcp))
	}
	if err := cfg.Validate(); err != nil {
		return fault.New(fault.Invalid, "the settings can't be used: %v", err)
	}
	return nil
}

func line(l config.Listener) config.HSMDaemonLine {
	return config.HSMDaemonLine{Front: config.Front{Enabled: true, Listener: l}}
}

// runHSMDaemon is the daemon in the foreground.
func (a *app) runHSMDaemon(ctx context.Context, f *hsmdaemonFlags) error {
	d, err := a.openDaemon(f)
	if err != nil {
		return err
	}
	defer d.close()
	s, cfg, err := d.alone(ctx)
	if err == nil {
		err = d.front(cfg, f.insecure)
	}
	if err != nil {
		d.log.Error("the daemon can't start", "error", err)
		return err
	}
	return a.serve(ctx, cfg, server.Options{Standalone: s, Logger: d.log, Version: version}, func(s *server.Server) {
		d.log.Info("Server listening", "host", d.file.Server.Hostname, "address", s.FrontAddress("hsmdaemon"),
			"port", d.file.Server.Port, "version", version, "build", thisBuild().Revision)
	})
}
