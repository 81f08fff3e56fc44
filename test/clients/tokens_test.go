package clients

import (
	"testing"

	"github.com/claviger/claviger/test/harness"
)

// onTokens runs a test against a new server on the embedded token, and against
// one on SoftHSM2.
func onTokens(t *testing.T, use func(t *testing.T, s *harness.Server)) {
	t.Helper()
	for name, start := range map[string]func(t *testing.T) *harness.Server{
		"embedded": func(t *testing.T) *harness.Server { return harness.Dev(t) },
		"softhsm":  func(t *testing.T) *harness.Server { return harness.SoftHSM(t, harness.Options{}) },
	} {
		t.Run(name, func(t *testing.T) { use(t, start(t)) })
	}
}

// onTokensParallel is onTokens for tests that change nothing of the process.
func onTokensParallel(t *testing.T, use func(t *testing.T, s *harness.Server)) {
	t.Helper()
	t.Parallel()
	onTokens(t, func(t *testing.T, s *harness.Server) {
		t.Parallel()
		use(t, s)
	})
}

// onNewTokens is onTokensParallel with a server on SoftHSM2 that is not
// initialised yet: programs do that, too. A development server always is.
func onNewTokens(t *testing.T, use func(t *testing.T, s *harness.Server)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		use(t, harness.Dev(t))
	})
	t.Run("softhsm", func(t *testing.T) {
		t.Parallel()
		use(t, harness.SoftHSM(t, harness.Options{Sealed: true}))
	})
}
