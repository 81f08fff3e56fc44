package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
)

// server is one address.
type server struct {
	base *url.URL
	http *http.Client
}

// servers are the addresses that a client and its copies call.
type servers struct {
	all  []*server
	last atomic.Int32 // index of the one that answered last
}

func (s *servers) first() int { return int(s.last.Load()) }

// servers prepares the configured addresses. TCP addresses share connections.
func (cfg *Config) servers() (*servers, error) {
	addresses := cfg.Addresses
	if cfg.Address != "" || len(addresses) == 0 {
		addresses = append([]string{cfg.Address}, addresses...)
	}
	s := &servers{}
	clients := map[string]*http.Client{} // by socket, "" for TCP
	for i, address := range addresses {
		if address == "" && i > 0 {
			return nil, errors.New("one of several addresses is empty")
		}
		base, socket, err := parseAddress(address)
		if err != nil {
			return nil, err
		}
		if clients[socket] == nil {
			if clients[socket], err = cfg.httpClient(socket); err != nil {
				return nil, err
			}
		}
		s.all = append(s.all, &server{base, clients[socket]})
	}
	return s, nil
}

func (cfg *Config) httpClient(socket string) (*http.Client, error) {
	c := &http.Client{}
	if cfg.HTTPClient != nil {
		*c = *cfg.HTTPClient
	} else {
		transport, err := cfg.transport(socket)
		if err != nil {
			return nil, err
		}
		c.Transport = transport
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// round sends r to the server that answered last and, as long as that is safe
// and may end better, to the others. If none serves it returns the last answer,
// or, where no server answered, the last error.
func (c *Client) round(ctx context.Context, r request, payload []byte) reply {
	all, first := c.servers.all, c.servers.first()
	var best reply
	for i := range all {
		at := (first + i) % len(all)
		a := c.once(ctx, all[at], r, payload)
		if i == 0 || a.err == nil || best.err != nil {
			best = a
		}
		if !worthElsewhere(r, a) {
			if a.err == nil {
				c.servers.last.Store(int32(at))
			}
			return a
		}
		// Without retries only what was not sent at all goes on.
		if ctx.Err() != nil || c.retries < 0 && !neverSent(a.err) {
			break
		}
	}
	return best
}

// worthElsewhere tells whether another server may be asked, and may do better:
// one that is sealed does not serve, others may.
func worthElsewhere(r request, a reply) bool {
	if a.err != nil {
		return neverSent(a.err) || r.repeat && broken(a.err)
	}
	return r.repeat && !r.lenient && a.status == http.StatusServiceUnavailable
}
