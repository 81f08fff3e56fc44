package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claviger/claviger/internal/config"
)

const (
	serviceName = "hsmdaemon"
	unitDir     = "/etc/systemd/system"
	// systemdRuns exists where systemd is the init system (sd_booted(3)).
	systemdRuns = "/run/systemd/system"
)

func (a *app) installCommand(f *hsmdaemonFlags) *cobra.Command {
	var dir, user string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the daemon as a service of systemd",
		Long: `Write a systemd unit that runs this program as hsmdaemon with the configuration
file, confined to what it needs, and enable it. Start it with hsmdaemon start or
service hsmdaemon start. --unit-dir only writes the unit, for packages and for
systems where systemd does not run now.`,
		Example: "  claviger hsmdaemon install\n  claviger hsmdaemon install --unit-dir ./debian/lib/systemd/system",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.install(cmd.Context(), f.config, dir, user)
		},
	}
	cmd.Flags().StringVar(&dir, "unit-dir", "", "write the unit into this directory, and nothing else")
	cmd.Flags().StringVar(&user, "user", "root", "user of the service; must be able to read the configuration and the token")
	return cmd
}

func (a *app) install(ctx context.Context, file, dir, user string) error {
	written := dir != ""
	if !written {
		if err := needSystemd("run `" + serviceName + " --config " + file + "` from the init system that this machine has"); err != nil {
			return err
		}
		dir = unitDir
	}
	cfg, err := config.LoadHSMDaemonFile(file)
	if err != nil {
		return err
	}
	unit, err := serviceUnit(cfg, file, user)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, serviceName+".service")
	if err := writeFile(path, []byte(unit), 0o644); err != nil {
		return fmt.Errorf("write the unit: %w", err)
	}
	if !written {
		for _, args := range [][]string{{"daemon-reload"}, {"enable", "--quiet", serviceName}} {
			if err := systemctl(ctx, a.err, args...); err != nil {
				return err
			}
		}
	}
	return a.lines("Install HSM Daemon:                                        [  OK  ]")
}

func (a *app) uninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "uninstall",
		Short:   "Stop the service and remove its unit",
		Long:    "Stop and disable the service and remove its unit. Configuration, records and keys stay.",
		Example: "  claviger hsmdaemon uninstall",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needSystemd("end the process and remove it from the init system that this machine has"); err != nil {
				return err
			}
			if err := systemctl(cmd.Context(), a.err, "disable", "--now", "--quiet", serviceName); err != nil {
				return err
			}
			if err := os.Remove(filepath.Join(unitDir, serviceName+".service")); err != nil {
				return fmt.Errorf("remove the unit: %w", err)
			}
			if err := systemctl(cmd.Context(), a.err, "daemon-reload"); err != nil {
				return err
			}
			return a.lines("Remove HSM Daemon:                                         [  OK  ]")
		},
	}
}

// serviceCommand hands over to systemctl.
func (a *app) serviceCommand(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:     verb,
		Short:   short,
		Example: "  claviger hsmdaemon " + verb,
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needSystemd("use the init system that this machine has"); err != nil {
				return err
			}
			args := []string{verb, serviceName}
			if verb == "status" {
				args = []string{verb, "--no-pager", serviceName}
			}
			return systemctl(cmd.Context(), a.out, args...)
		},
	}
}

// needSystemd refuses on machines that another init system runs.
func needSystemd(instead string) error {
	if _, err := os.Stat(systemdRuns); err == nil {
		return nil
	}
	e := usagef("systemd does not run this machine, so there is no service of it")
	e.hint = instead
	return e
}

func systemctl(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && args[0] == "status" {
		return &statusError{status: exit.ExitCode()}
	}
	if err != nil {
		return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// serviceUnit is the systemd unit of the daemon: it can write its state, its log
// and the directories of software tokens, and nothing else.
func serviceUnit(f *config.HSMDaemonFile, file, user string) (string, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("the path of the configuration: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("the path of this program: %w", err)
	}
	command := unitQuote(program)
	if filepath.Base(program) != serviceName {
		command += " " + serviceName
	}
	writable := []string{"-/var/lib/softhsm", "-/var/lib/opencryptoki", f.Server.State}
	if path, err := f.LogFile(); err == nil && filepath.IsAbs(path) {
		writable = append(writable, filepath.Dir(path))
	}
	if f.Line.Socket != "" {
		writable = append(writable, filepath.Dir(f.Line.Socket))
	}
	for _, text := range append([]string{file, user, program}, writable...) {
		if strings.ContainsAny(text, "\n\r\"\\%") {
			return "", usagef("%q can't stand in a systemd unit", text)
		}
	}
	state := ""
	if name, ok := strings.CutPrefix(f.Server.State, "/var/lib/"); ok && !strings.Contains(name, "/") {
		state = "StateDirectory=" + name + "\nStateDirectoryMode=0700\n"
	}
	var paths []string
	for _, path := range writable {
		paths = append(paths, unitQuote(path))
	}
	return fmt.Sprintf(unitText, command, unitQuote(file), user, state, strings.Join(paths, " ")), nil
}

func unitQuote(s string) string {
	if strings.ContainsAny(s, " \t'") {
		return `"` + s + `"`
	}
	return s
}

const unitText = `[Unit]
Description=HSM daemon: keys of ownCloud's encryption in an HSM
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=%s --config %s
ExecReload=/bin/kill -HUP $MAINPID
User=%s
%sReadWritePaths=%s
UMask=0077
Restart=on-failure
RestartSec=2
LimitCORE=0
LimitMEMLOCK=infinity
LimitNOFILE=65536

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @memlock landlock_create_ruleset landlock_add_rule landlock_restrict_self

# A module of a vendor may need more: a device (DeviceAllow=/dev/tpmrm0 rw, with
# DevicePolicy=closed) or a directory of its own (ReadWritePaths=).

[Install]
WantedBy=multi-user.target
`
