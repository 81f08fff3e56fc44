package vault

import (
	"net/http"
	"strings"

	"github.com/claviger/claviger/internal/fault"
)

// wantsHelp tells whether the query asks for an explanation of the path instead
// of a call: by help with any value but the empty one. Other methods than GET
// are refused, so that nobody deletes what he wanted explained.
func wantsHelp(r *http.Request) (bool, error) {
	if !strings.Contains(r.URL.RawQuery, "help") || r.URL.Query().Get("help") == "" {
		return false, nil
	}
	switch r.Method {
	case http.MethodGet, "LIST":
		return true, nil
	}
	return false, fault.New(fault.Unsupported, "help is asked for with GET")
}
