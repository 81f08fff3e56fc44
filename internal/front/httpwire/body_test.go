package httpwire

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/claviger/claviger/internal/fault"
)

func TestBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body io.Reader
		want string
		kind fault.Kind // of the refusal
	}{
		{strings.NewReader(""), "", 0},
		{strings.NewReader("12345678"), "12345678", 0},
		{strings.NewReader("123456789"), "", fault.TooLarge},
		{iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("12"))), "", fault.Invalid},
	} {
		got, err := Body(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", c.body), 8)
		if string(got) != c.want || (err == nil) != (c.kind == 0) || err != nil && fault.KindOf(err) != c.kind {
			t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.kind)
		}
	}
}
