package httpwire

import (
	"errors"
	"io"
	"net/http"

	"github.com/claviger/claviger/internal/fault"
)

// Body reads the body of a request of at most limit bytes. One that is larger is a
// fault.TooLarge; one that does not come whole a fault.Invalid.
func Body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, fault.New(fault.TooLarge, "the body is larger than %d bytes", limit)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the body was not received")
	}
	return body, nil
}
