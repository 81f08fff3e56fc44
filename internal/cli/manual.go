package cli

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// version is the release, a semantic version without "v" in front: clients
// parse it. The build may set it with -ldflags "-X …/internal/cli.version=1.2.3".
var version = "0.1.0"

// helpCommand takes the place of cobra's, which shows the help of the whole
// program for a command that does not exist.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND…]",
		Short:   "Show the help of a command",
		Example: "  claviger help key create",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			named, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return subNames(named), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			named, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return usagef("help: %v", err)
			case len(rest) == 0:
				return named.Help()
			case named.HasSubCommands():
				return named.RunE(named, rest)
			}
			return usagef("%s has no commands, got %q", named.CommandPath(), rest[0])
		},
	}
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for bash, zsh or fish",
		Example: `  claviger completion bash > /etc/bash_completion.d/claviger
  claviger completion zsh > "${fpath[1]}/_claviger"
  claviger completion fish > ~/.config/fish/completions/claviger.fish`,
		Args:      takes("bash|zsh|fish"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return usagef("completion for %q is unknown: must be bash, zsh or fish", args[0])
		},
	}
}

func (a *app) manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "man",
		Short:   "Write manual pages",
		Long:    "Write a manual page for every command into a directory.",
		Example: "  claviger man --dir /usr/local/share/man/man1",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("man needs --dir DIR")
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "Claviger " + version, Manual: "Claviger"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to write to")
	return cmd
}

// build is what this program was made of.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  claviger version --format json",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			return a.show(b, func(t *table) {
				t.add("Claviger", b.Version)
				if b.Revision != "" {
					t.add("Revision", b.Revision)
				}
				t.add("Go", b.Go)
				t.add("Platform", b.Platform)
			})
		},
	}
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}
