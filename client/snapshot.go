package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/claviger/claviger/api"
)

// TakeSnapshot takes a snapshot of the store and writes it to w; progress, if it is
// not nil, is told how many bytes came of how many. It ends with ctx only, not with
// the client's time for a call, and is never sent twice. After an error what w got is
// no snapshot.
func (c *Client) TakeSnapshot(ctx context.Context, r api.TakeSnapshot, w io.Writer, progress func(done, total int64)) error {
	query := url.Values{}
	if r.Proofs != "" {
		query.Set("proofs", r.Proofs)
	}
	to := c.servers.all[c.servers.first()]
	req, err := c.prepare(ctx, to, request{method: http.MethodGet, path: "sys/storage/raft/snapshot", query: query.Encode()}, nil)
	if err != nil {
		return err
	}
	resp, err := to.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	if resp.ContentLength < 0 {
		return fmt.Errorf("the server does not say how long the snapshot is; is a proxy between that changes answers?")
	}
	n, err := io.Copy(w, &told{r: resp.Body, total: resp.ContentLength, tell: progress})
	if err == nil && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("the snapshot did not arrive whole (%d of %d bytes): %w", n, resp.ContentLength, err)
	}
	return nil
}

// LastSnapshot tells when the last snapshot was taken.
func (c *Client) LastSnapshot(ctx context.Context) (*api.SnapshotStatus, error) {
	return call[api.SnapshotStatus](ctx, c, request{method: http.MethodGet, path: "sys/snapshot", repeat: true})
}

// refused makes an error of an answer that is none.
func refused(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var f frame
	if resp.StatusCode < 400 || json.Unmarshal(body, &f) != nil || f.Errors == nil {
		return notOurs(resp.StatusCode, body)
	}
	return &api.Error{Status: resp.StatusCode, Errors: *f.Errors}
}

// told tells how much was read.
type told struct {
	r           io.Reader
	done, total int64
	tell        func(done, total int64)
}

func (t *told) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	t.done += int64(n)
	if t.tell != nil {
		t.tell(t.done, t.total)
	}
	return n, err
}
