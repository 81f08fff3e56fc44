package cli

import (
	"path/filepath"
	"slices"
)

// programs are the older programs in whose place this one can stand under their
// name: called as "cryptoserver" it is "claviger cryptoserver".
var programs = []string{"cryptoserver"}

// arguments returns the arguments of the command line argv, which begins with
// the name that the program was called by.
func arguments(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	if name := filepath.Base(argv[0]); slices.Contains(programs, name) {
		return append([]string{name}, argv[1:]...)
	}
	return argv[1:]
}
