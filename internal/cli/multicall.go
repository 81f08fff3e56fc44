package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

// programs are the older programs that this one takes the place of: called by
// such a name (a link to it, or a copy), it is that program. Each is a command of
// claviger as well.
var programs = []struct {
	name    string
	command func(*app) *cobra.Command
}{
	{"hsmdaemon", (*app).hsmdaemonCommand},
	{"cryptoserver", (*app).cryptoserverCommand},
	{"movault", (*app).movaultCommand},
	{"cryptech_backup", (*app).cryptechBackupCommand},
}

// programCommands returns the commands of all programs.
func (a *app) programCommands() []*cobra.Command {
	var all []*cobra.Command
	for _, p := range programs {
		all = append(all, p.command(a))
	}
	return all
}

// calledAs returns the arguments with the command in front that the name stands
// for under which the program was called. args is as os.Args.
func calledAs(args []string) []string {
	name := filepath.Base(args[0])
	for _, p := range programs {
		if p.name == name {
			return append([]string{name}, args[1:]...)
		}
	}
	return args[1:]
}
