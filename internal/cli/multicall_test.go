package cli

import (
	"slices"
	"testing"
)

func TestCalledAs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want []string }{
		{[]string{"claviger", "key", "list"}, []string{"key", "list"}},
		{[]string{"/usr/local/bin/hsmdaemon", "genkey", "x"}, []string{"hsmdaemon", "genkey", "x"}},
		{[]string{"hsmdaemon"}, []string{"hsmdaemon"}},
		{[]string{"./cryptoserver", "--index", "current"}, []string{"cryptoserver", "--index", "current"}},
		{[]string{"/opt/cryptech_backup", "export", "-i", "x"}, []string{"cryptech_backup", "export", "-i", "x"}},
		{[]string{"hsmdaemon-0.0.8"}, []string{}},
		{[]string{""}, []string{}},
	} {
		if got := calledAs(c.args); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
	a, _, _ := testApp(t)
	for _, p := range programs {
		if cmd, _, err := a.root().Find([]string{p.name}); err != nil || cmd.Name() != p.name {
			t.Errorf("%s is no command: %v", p.name, err)
		}
	}
}
