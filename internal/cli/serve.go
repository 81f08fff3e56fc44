package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/claviger/claviger/internal/config"
)

// backend is the few functions of the packages behind the command line. A nil
// one is missing from this build.
var backend struct {
	newServer   func(*config.Config, serverOptions) (runningServer, error)
	verifyAudit func(files []string, publicKeyFile string, w io.Writer) error
	workerMain  func() int
	examine     func(context.Context, examination) (*doctorReport, error)
}

// serverOptions is what a server is told beside its configuration.
type serverOptions struct {
	Dev     *devOptions // nil for a real server
	Logger  *slog.Logger
	Version string
}

// devOptions make a development server.
type devOptions struct {
	RootTokenID string // "" for a random one
}

// runningServer is a server that listens.
type runningServer interface {
	Run(context.Context) error
	Addresses() []string
	Reload() error
	DevInfo() (rootToken, unsealKey string)
}

var errMissing = errors.New("this build of claviger can't do that")

func runWorker() int {
	if backend.workerMain == nil {
		return exitError
	}
	return backend.workerMain()
}

func newServer(cfg *config.Config, o serverOptions) (runningServer, error) {
	if backend.newServer == nil {
		return nil, errMissing
	}
	return backend.newServer(cfg, o)
}

func verifyAudit(files []string, publicKeyFile string, w io.Writer) error {
	if backend.verifyAudit == nil {
		return errMissing
	}
	return backend.verifyAudit(files, publicKeyFile, w)
}

func examine(ctx context.Context, e examination) (*doctorReport, error) {
	if backend.examine == nil {
		return nil, errMissing
	}
	return backend.examine(ctx, e)
}
