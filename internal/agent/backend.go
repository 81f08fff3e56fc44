package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"crypto/tls"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/client"
	"github.com/claviger/claviger/internal/config"
	"github.com/claviger/claviger/internal/daemon"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/p11"
)

const (
	dialTimeout = 5 * time.Second
	// idleConnections to a server are kept; as many calls go at once, further ones
	// wait, which is cheaper than a handshake for each.
	idleConnections = 256
)

// newClient makes a client of the servers, without a client token.
func newClient(s *config.AgentServer) (*client.Client, error) {
	conf, err := daemon.TLS(s.UnsealerTLS, tls.VersionTLS13)
	if err != nil {
		return nil, err
	}
	var sockets []string
	for _, address := range s.Addresses {
		if path, ok := strings.CutPrefix(address, "unix://"); ok {
			sockets = append(sockets, path)
		}
	}
	if len(sockets) > 0 && len(s.Addresses) > 1 {
		return nil, fault.New(fault.Invalid, "the address of a Unix socket can't be one of several")
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	transport := &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: idleConnections, MaxConnsPerHost: idleConnections, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
	if len(sockets) > 0 {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", sockets[0])
		}
	}
	return client.New(client.Config{
		Addresses: s.Addresses, Timeout: -1, Retries: 1, HTTPClient: &http.Client{Transport: transport},
	})
}

// backend performs operations on the servers.
type backend struct {
	client *client.Client
	own    *ownToken // nil if there is none
}

var methods = map[p11.Verb]string{p11.Read: http.MethodGet, p11.List: "LIST", p11.Write: http.MethodPost, p11.Delete: http.MethodDelete}

// Call sends the operation, with the caller's client token or the agent's.
func (b *backend) Call(ctx context.Context, c *p11.Call, in, out any) error {
	token := c.Token
	if token == "" && b.own != nil {
		token = b.own.get()
	}
	cl := b.client.WithToken(token)
	if status, ok := out.(*api.SealStatus); ok {
		s, err := cl.SealStatus(ctx)
		if err == nil {
			*status = *s
		}
		return explain(err)
	}
	send := cl.Send
	if c.Repeatable {
		send = cl.SendAgain
	}
	env, err := send(ctx, methods[c.Verb], c.Path, in)
	if err != nil || out == nil || env == nil || len(env.Data) == 0 {
		return explain(err)
	}
	defer clear(env.Data)
	if err := json.Unmarshal(env.Data, out); err != nil {
		return fault.Wrap(fault.Internal, err, "the server's answer can't be read")
	}
	return nil
}

// explain gives an error of a call its kind.
func explain(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		return unreachable(err)
	}
	kind := fault.Internal
	switch e.Status {
	case http.StatusBadRequest:
		kind = fault.Invalid
	case http.StatusForbidden:
		kind = fault.Denied
	case http.StatusNotFound:
		kind = fault.NotFound
	case http.StatusMethodNotAllowed:
		kind = fault.Unsupported
	case http.StatusRequestEntityTooLarge:
		kind = fault.TooLarge
	case http.StatusUnsupportedMediaType:
		kind = fault.MediaType
	case http.StatusServiceUnavailable:
		if kind = fault.Unavailable; strings.Contains(e.Error(), "is sealed") {
			kind = fault.Sealed
		}
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		kind = fault.Unavailable
	}
	return fault.New(kind, "%s", e.Error())
}

// unreachable is the error of a call that had no answer.
func unreachable(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fault.Wrap(fault.Unavailable, err, "the server did not answer in time")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = errors.Join(p11.ErrNotSent, err)
	}
	return fault.Wrap(fault.Unavailable, err, "the server can't be reached")
}
