package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/server"
)

// defaultConfig is where the configuration is looked for.
const defaultConfig = "/etc/claviger/claviger.toml"

type serverFlags struct {
	config string
	dev    bool
	devID  string
	listen []string
}

func (a *app) serverCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the server",
		Long: `Run the server in the foreground. SIGHUP makes it read its TLS certificates
again, SIGTERM and SIGINT end it once the requests under way are done.

--dev starts a server for a try: initialised and unsealed, on the embedded
software token, with everything in a directory that is deleted at the end.`,
		Example: "  claviger server --config /etc/claviger/claviger.toml\n  claviger server --dev --listen 127.0.0.1:0",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runServer(cmd.Context(), cmd, f)
		},
	}
	cmd.Flags().StringVar(&f.config, "config", defaultConfig, "configuration file; CLAVIGER_CONFIG is its default")
	cmd.Flags().BoolVar(&f.dev, "dev", false, "run a server for a try, which keeps nothing")
	cmd.Flags().StringVar(&f.devID, "dev-root-token-id", "", "root token of --dev; CLAVIGER_DEV_ROOT_TOKEN_ID is its default")
	cmd.Flags().StringArrayVar(&f.listen, "listen", nil, `address instead of the configured ones: "host:port" or "unix:/path"; may be repeated`)
	return cmd
}

func (a *app) runServer(ctx context.Context, cmd *cobra.Command, f serverFlags) error {
	options := server.Options{Version: version}
	var cfg *config.Config
	var err error
	if f.dev {
		if cmd.Flags().Changed("config") {
			return usagef("--dev and --config exclude each other: --dev has its own configuration")
		}
		dir, err := os.MkdirTemp("", "claviger-dev-")
		if err != nil {
			return fmt.Errorf("make a directory for the development server: %w", err)
		}
		defer os.RemoveAll(dir)
		cfg = config.Dev(dir)
		options.Dev = &server.Dev{RootTokenID: f.devID}
		if f.devID == "" {
			options.Dev.RootTokenID = client.Getenv("DEV_ROOT_TOKEN_ID")
		}
	} else {
		if f.devID != "" {
			return usagef("--dev-root-token-id is for --dev only")
		}
		if cfg, err = config.Load(configPath(cmd, f.config)); err != nil {
			return err
		}
	}
	if err := listenAt(cfg, f.listen); err != nil {
		return err
	}
	options.Logger = newLogger(cfg.Log, a)
	return a.serve(ctx, cfg, options, func(s *server.Server) {
		if options.Dev != nil {
			a.devBanner(s)
		}
	})
}

// configPath returns the file of --config or of the environment.
func configPath(cmd *cobra.Command, flag string) string {
	if env := os.Getenv("CLAVIGER_CONFIG"); env != "" && !cmd.Flags().Changed("config") {
		return env
	}
	return flag
}

// listenAt replaces the configured listeners.
func listenAt(cfg *config.Config, addresses []string) error {
	if len(addresses) == 0 {
		return nil
	}
	cfg.Listeners = nil
	for _, address := range addresses {
		l := config.Listener{Address: address}
		if path, ok := l.Socket(); ok {
			absolute, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("--listen %s: %w", address, err)
			}
			l.Address, l.Mode = "unix:"+absolute, "0600"
		}
		cfg.Listeners = append(cfg.Listeners, l)
	}
	if err := cfg.Validate(); err != nil {
		return usagef("--listen: %v", err)
	}
	return nil
}

// serve runs the server until ctx ends. ready is told of it when it listens.
func (a *app) serve(ctx context.Context, cfg *config.Config, o server.Options, ready func(*server.Server)) error {
	for _, w := range append(cfg.Warnings(), cfg.CertificateWarnings(time.Now())...) {
		o.Logger.Warn(w)
	}
	s, err := server.New(cfg, o)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go reload(running, hangup, s, o.Logger)
	ready(s)
	if err := s.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// reload answers SIGHUP until ctx ends.
func reload(ctx context.Context, hangup <-chan os.Signal, s *server.Server, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if err := s.Reload(); err != nil {
				log.Error("reload failed, the old certificates stay in force", "error", err)
				continue
			}
			log.Info("reloaded")
		}
	}
}

// devBanner tells how to use a development server.
func (a *app) devBanner(s *server.Server) {
	root, unseal := s.DevInfo()
	var address string
	if all := s.Addresses(); len(all) > 0 {
		address = all[0]
	}
	fmt.Fprintf(a.out, `Claviger development server. Whatever it keeps is lost when it stops.

    export CLAVIGER_ADDR=%s
    export CLAVIGER_TOKEN=%s

Unseal key: %s
Listening at: %s

`, address, root, unseal, strings.Join(s.Addresses(), " "))
}

// newLogger makes the server's own log. Validate has seen to it that level and
// format are known.
func newLogger(cfg config.Log, a *app) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[cfg.Level]}
	if cfg.Format == "console" {
		return slog.New(slog.NewTextHandler(a.err, options))
	}
	return slog.New(slog.NewJSONHandler(a.err, options))
}
