package vault

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/guard"
)

// sentDoor asks for the names of the fields that were sent.
type sentDoor struct {
	want bool
	sent []string
}

type sentRequest struct {
	Name  string   `json:"name"`
	Count int      `json:"count"`
	Items []nested `json:"items"`
}

type nested struct {
	Name string `json:"name"`
}

func (d *sentDoor) Handle(_ context.Context, r *guard.Request) (*guard.Answer, error) {
	r.WantSent = d.want
	_, err := r.Decode(&sentRequest{})
	d.sent = slices.Sorted(slices.Values(r.Sent))
	return &guard.Answer{}, err
}

// The guard is told which fields were sent, even without a value, if it asks.
func TestSentFields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, target, body string
		form                 bool
		want                 string
	}{
		{"PUT", "x", `{"name":"","items":[{"name":"a"}],"Count":0,"other":1}`, false, "count items name"},
		{"PUT", "x", `{"items":[{"name":"a"}]}`, false, "items"},
		{"PUT", "x", `{"name":null}`, false, "name"},
		{"PUT", "x", `{}`, false, ""},
		{"PUT", "x?name=a", ``, false, ""},
		{"PUT", "x", "count=0&Name=", true, "Name count"},
		{"GET", "x?count=0&help=false&name=", "", false, "count name"},
		{"GET", "x", "", false, ""},
	} {
		for _, want := range []bool{true, false} {
			d := &sentDoor{want: want}
			r := httptest.NewRequest(c.method, "/v1/"+c.target, strings.NewReader(c.body))
			if c.form {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			w := httptest.NewRecorder()
			New(d, Options{}).ServeHTTP(w, r)
			if w.Code >= 300 {
				t.Errorf("%+v: status %d %s", c, w.Code, w.Body)
			}
			if got := strings.Join(d.sent, " "); want && got != c.want || !want && got != "" {
				t.Errorf("%+v: asked %v: sent %q", c, want, got)
			}
		}
	}
}
