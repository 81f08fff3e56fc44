package unsealer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/daemon"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/harden"
)

// Options are what an unsealer needs.
type Options struct {
	Config *config.Unsealer // valid
	Log    *slog.Logger
	Stdin  io.Reader // for the share, if it comes from there
}

// Unsealer gives its share to the configured servers.
type Unsealer struct {
	log      *slog.Logger
	share    *share
	watchers []*watcher
	metrics  *metrics
	listener net.Listener // nil without metrics
}

// New reads the share once, to see that it can be had, and prepares the calls. It
// calls no server. Errors are *fault.Error; those of a TPM that would refuse again
// are tpm.Refused.
func New(o Options) (*Unsealer, error) {
	s, err := newShare(o.Config.Share, o.Stdin)
	if err != nil {
		return nil, err
	}
	u := &Unsealer{log: o.Log, share: s, metrics: newMetrics()}
	for i := range o.Config.Servers {
		c, err := newClient(o.Config, &o.Config.Servers[i])
		if err != nil {
			return nil, err
		}
		address := o.Config.Servers[i].Address
		u.metrics.watch(address)
		u.watchers = append(u.watchers, &watcher{
			address: address, client: c, share: s, interval: o.Config.Interval.Duration,
			log: o.Log, metrics: u.metrics, now: time.Now,
		})
	}
	if address := o.Config.Metrics.Address; address != "" {
		if u.listener, err = net.Listen("tcp", address); err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "listen for the metrics")
		}
	}
	return u, nil
}

// Protect does what the system allows to keep what this process knows in it, and
// logs what it refuses.
func Protect(log *slog.Logger) {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"core dumps stay possible", harden.NoCoreDumps},
		{"other processes of this user may read the unsealer's memory", harden.NotDumpable},
		{"the memory may be swapped, all but the share itself", harden.LockMemory},
	} {
		if err := step.do(); err != nil {
			log.Warn(step.what, "error", err)
		}
	}
}

// Run looks after the servers until ctx ends, each on its own. It ends with an
// error only if the TPM refuses the share for a reason that trying again would
// not change.
func (u *Unsealer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := daemon.ServeMetrics(u.listener, u.metrics.registry, u.log)
	defer stop()
	defer u.share.close()
	u.log.Info("The unsealer runs", "servers", len(u.watchers), "interval", u.watchers[0].interval.String(), "share", u.share.source)
	var fatal error
	var once sync.Once
	var all sync.WaitGroup
	for _, w := range u.watchers {
		all.Go(func() {
			if err := w.run(ctx); err != nil {
				once.Do(func() { fatal = err })
				cancel(err)
			}
		})
	}
	all.Wait()
	u.log.Info("The unsealer ends")
	return fatal
}

// MetricsAddress is the URL of the metrics, "" without.
func (u *Unsealer) MetricsAddress() string { return daemon.MetricsAddress(u.listener) }

// Once looks at each server one time, all at once. Its error names the servers
// that were not reached or refused the share.
func (u *Unsealer) Once(ctx context.Context) error {
	defer u.share.close()
	outcomes, errs := make([]string, len(u.watchers)), make([]error, len(u.watchers))
	var all sync.WaitGroup
	for i, w := range u.watchers {
		all.Go(func() { outcomes[i], errs[i] = w.look(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var bad []string
	for i, out := range outcomes {
		if out == outUnreachable || out == outRefused || out == outNoShare {
			bad = append(bad, fmt.Sprintf("%s: %s", u.watchers[i].address, out))
		}
	}
	if len(bad) > 0 {
		return fault.New(fault.Unavailable, "%s", strings.Join(bad, "; ")).WithHint("the log says more")
	}
	return nil
}
