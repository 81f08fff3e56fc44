package server

import (
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/config"
)

// sudoPaths are the paths that need sudo in Vault's API ("Policies",
// "Root-protected API endpoints"), a last * standing for any rest, so far as they
// may have operations here.
var sudoPaths = []string{
	"auth/token/accessors", "auth/token/revoke-orphan",
	"sys/audit", "sys/audit/*", "sys/auth/*", "sys/config/auditing/*", "sys/config/cors", "sys/config/ui/headers*",
	"sys/internal/inspect/*", "sys/leases", "sys/leases/lookup/*", "sys/leases/revoke-force/*", "sys/leases/revoke-prefix/*",
	"sys/plugins/catalog/*", "sys/raw*", "sys/remount", "sys/replication/*", "sys/revoke-force/*", "sys/revoke-prefix/*", "sys/rotate",
	"sys/seal", "sys/step-down", "sys/storage/raft/snapshot-auto/*",
}

// TestSudoPaths: what needs sudo in Vault's API needs it here.
func TestSudoPaths(t *testing.T) {
	t.Parallel()
	s := running(t, config.Dev(t.TempDir()), Options{})
	found := map[string]bool{}
	for _, o := range s.guard.Table() {
		path := o.Mount + "/" + o.Path
		for _, protected := range sudoPaths {
			prefix, below := strings.CutSuffix(protected, "*")
			if path != protected && (!below || !strings.HasPrefix(path, prefix)) {
				continue
			}
			found[protected] = true
			if !o.Sudo {
				t.Errorf("%s: %s needs no sudo", o.Name, path)
			}
		}
	}
	for _, path := range []string{"sys/seal", "sys/step-down", "sys/leases/revoke-prefix/*", "auth/token/accessors"} {
		if !found[path] {
			t.Errorf("%s: no operation was looked at", path)
		}
	}
}
