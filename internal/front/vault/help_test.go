package vault

import (
	"net/http"
	"testing"

	"github.com/claviger/claviger/internal/op"
)

func TestHelpIsAskedForWithGet(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{})
	for _, c := range []struct {
		method, query string
		status        int // 0: reaches the door
		help          bool
		verb          op.Verb
	}{
		{"GET", "?help=1", 0, true, op.Read},
		{"GET", "?list=true&help=1", 0, true, op.Read},
		{"LIST", "?help=1", 0, true, op.Read},
		{"GET", "?help=", 0, false, op.Read},
		{"GET", "?helpful=1", 0, false, op.Read},
		{"DELETE", "?help=1", 405, false, 0},
		{"POST", "?help=1", 405, false, 0},
	} {
		s.door.last.Store(nil)
		req, err := http.NewRequest(c.method, s.URL+"/v1/some/path"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		last := s.door.last.Load()
		if c.status != 0 {
			if resp.StatusCode != c.status || last != nil {
				t.Errorf("%s %s: status %d, door %v", c.method, c.query, resp.StatusCode, last)
			}
			continue
		}
		if last == nil || last.Help != c.help || last.Verb != c.verb {
			t.Errorf("%s %s: status %d, door %+v", c.method, c.query, resp.StatusCode, last)
		}
	}
}
