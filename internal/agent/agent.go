package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/daemon"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/harden"
	"github.com/claviger/claviger/internal/p11"
	"github.com/claviger/claviger/internal/p11/p11kit"
)

// shutdownTime is how long requests under way may take when the agent ends.
const shutdownTime = 10 * time.Second

// Options are what an agent needs.
type Options struct {
	Config  *config.Agent // valid
	Version string
	Log     *slog.Logger
}

// Agent serves PKCS#11 modules.
type Agent struct {
	cfg     *config.Agent
	log     *slog.Logger
	client  *client.Client
	own     *ownToken
	server  *p11.Server
	metrics *metrics
	socket  net.Listener
	kit     *p11.Server // for p11-kit-client.so; nil without
	door    net.Listener
	extra   net.Listener // of the metrics; nil without
}

// New reads the client token, opens the socket and prepares the calls. It calls no
// server. Errors are *fault.Error.
func New(o Options) (*Agent, error) {
	a := &Agent{cfg: o.Config, log: o.Log, metrics: newMetrics()}
	var err error
	if a.client, err = newClient(&o.Config.Server); err != nil {
		return nil, err
	}
	if a.own, err = newOwnToken(o.Config.Token, o.Log); err != nil {
		return nil, err
	}
	po := p11.Options{
		Backend: &backend{a.client, a.own}, Own: a.own != nil, Version: o.Version, Observe: a.metrics.observe, Logger: o.Log,
	}
	for _, s := range o.Config.Slots {
		po.Slots = append(po.Slots, p11.Slot{Label: s.Label, Mounts: s.Mounts, Issuers: s.Issuers})
	}
	service, err := p11.New(po)
	if err != nil {
		return nil, err
	}
	peers := p11.Peers{UIDs: o.Config.UIDs, GIDs: o.Config.GIDs}
	a.server = p11.NewServer(service, peers)
	if o.Config.P11KitSocket != "" {
		a.kit = p11kit.NewServer(p11kit.Options{Service: service, Observe: a.metrics.observe, Logger: o.Log}, peers)
	}
	a.metrics.connections(a.connections)
	if err := a.listen(); err != nil {
		return nil, err
	}
	return a, nil
}

// connections are those of both sockets.
func (a *Agent) connections() int {
	n := a.server.Connections()
	if a.kit != nil {
		n += a.kit.Connections()
	}
	return n
}

// listen opens the sockets.
func (a *Agent) listen() (err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			if err != nil {
				l.Close()
			}
		}
	}()
	if a.socket, err = a.unix(a.cfg.Socket); err != nil {
		return err
	}
	open = append(open, a.socket)
	if a.kit != nil {
		if a.door, err = a.unix(a.cfg.P11KitSocket); err != nil {
			return err
		}
		open = append(open, a.door)
	}
	if address := a.cfg.Metrics.Address; address != "" {
		if a.extra, err = net.Listen("tcp", address); err != nil {
			return fault.Wrap(fault.Unavailable, err, "listen for the metrics")
		}
	}
	return nil
}

// unix opens a socket for programs.
func (a *Agent) unix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "make the directory of the socket")
	}
	gid, err := config.GroupID(a.cfg.Group)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "find the group of the socket")
	}
	l, err := daemon.Listen(path, os.FileMode(a.cfg.FileMode()))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "listen at %s", path)
	}
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			l.Close()
			return nil, fault.Wrap(fault.Invalid, err, "give the socket to group %d", gid)
		}
	}
	return daemon.Limit(l, a.cfg.MaxConnections), nil
}

// Protect does what the system allows to keep what this process knows in it, and
// logs what it refuses.
func Protect(log *slog.Logger) {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"core dumps stay possible", harden.NoCoreDumps},
		{"other processes of this user may read the agent's memory", harden.NotDumpable},
	} {
		if err := step.do(); err != nil {
			log.Warn(step.what, "error", err)
		}
	}
}

// Run serves until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	if a.own != nil {
		work.Go(func() { a.own.run(ctx, a.client) })
	}
	stop := daemon.ServeMetrics(a.extra, a.metrics.registry, a.log)
	defer stop()
	ended := make(chan error, 2)
	servers := []*p11.Server{a.server}
	go func() { ended <- a.server.Serve(a.socket) }()
	a.log.Info("The agent serves PKCS#11", "socket", a.cfg.Socket, "servers", len(a.cfg.Server.Addresses), "own_token", a.own != nil)
	if a.kit != nil {
		servers = append(servers, a.kit)
		go func() { ended <- a.kit.Serve(a.door) }()
		a.log.Info("The agent serves p11-kit's protocol too", "socket", a.cfg.P11KitSocket, "own_token", a.own != nil)
	}
	daemon.Ready(a.log)
	var err error
	select {
	case err = <-ended:
		err = fmt.Errorf("serve the socket: %w", err)
		servers = servers[:len(servers)-1]
	case <-ctx.Done():
	}
	cancel()
	a.shutdown()
	for range servers {
		if e := <-ended; err == nil && !errors.Is(e, http.ErrServerClosed) {
			err = e
		}
	}
	if err == nil {
		a.log.Info("The agent ends")
	}
	return err
}

// shutdown lets requests under way end.
func (a *Agent) shutdown() {
	late, done := context.WithTimeout(context.Background(), shutdownTime)
	defer done()
	var work sync.WaitGroup
	defer work.Wait()
	for _, s := range []*p11.Server{a.server, a.kit} {
		if s == nil {
			continue
		}
		work.Go(func() {
			if err := s.Shutdown(late); err != nil {
				a.log.Warn("requests were cut off", "error", err)
			}
		})
	}
}

// Check reads the client token and asks the servers whether it is one, or, without
// a token, whether they answer.
func Check(ctx context.Context, c *config.Agent) error {
	cl, err := newClient(&c.Server)
	if err != nil {
		return err
	}
	own, err := newOwnToken(c.Token, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if own == nil {
		_, err = cl.SealStatus(ctx)
		return explain(err)
	}
	if _, err = cl.WithToken(own.get()).LookupSelf(ctx); fault.KindOf(explain(err)) == fault.Denied && err != nil {
		return fault.New(fault.Denied, "the server does not accept the client token, or it may not look at itself (auth/token/lookup-self)")
	}
	return explain(err)
}
