package vault

import (
	"bytes"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

const (
	prefix     = "/v1/"
	healthPath = "sys/health"
)

// route finds the verb and the path behind /v1/. The path is percent-decoded,
// as a slash of any form divides segments, and otherwise left as it came: what
// the policy sees is what the operation gets.
func route(r *http.Request) (op.Verb, string, error) {
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok {
		return 0, "", fault.New(fault.NotFound, "")
	}
	if !isText(path) {
		return 0, "", fault.New(fault.Invalid, "the path must be UTF-8 without control characters")
	}
	verb, err := verbOf(r, path)
	if err != nil {
		return 0, "", err
	}
	if verb == op.List && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return verb, path, nil
}

// isText tells whether a path can be shown and recorded as it is.
func isText(path string) bool {
	if plainPrefix(path) == len(path) && !strings.Contains(path, "\x7f") {
		return true
	}
	return utf8.ValidString(path) && !strings.ContainsFunc(path, unicode.IsControl)
}

func verbOf(r *http.Request, path string) (op.Verb, error) {
	switch r.Method {
	case http.MethodGet:
		return readOrList(r)
	case http.MethodPut, http.MethodPost:
		return op.Write, nil
	case http.MethodDelete:
		return op.Delete, nil
	case "LIST":
		return op.List, nil
	case http.MethodHead:
		if path == healthPath {
			return op.Read, nil
		}
	case http.MethodPatch:
		// RFC 7396 section 4.
		if mediaType(r.Header) != "application/merge-patch+json" {
			return 0, fault.New(fault.MediaType, "PATCH requires Content-Type application/merge-patch+json")
		}
		return op.Patch, nil
	}
	return 0, fault.New(fault.Unsupported, "")
}

func readOrList(r *http.Request) (op.Verb, error) {
	if !strings.Contains(r.URL.RawQuery, "list") {
		return op.Read, nil
	}
	text := r.URL.Query().Get("list")
	if text == "" {
		return op.Read, nil
	}
	list, err := strconv.ParseBool(text)
	if err != nil {
		return 0, fault.New(fault.Invalid, "list in the query must be true or false")
	}
	if list {
		return op.List, nil
	}
	return op.Read, nil
}

// clientToken returns the caller's token, "" if there is none.
func clientToken(h http.Header) string {
	if t := h.Get("X-Vault-Token"); t != "" {
		return strings.TrimSpace(t)
	}
	scheme, t, ok := strings.Cut(h.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(t)
	}
	return ""
}

// checkHeaders refuses what would be ignored at the caller's peril: a namespace
// that we do not have.
func checkHeaders(w http.ResponseWriter, r *http.Request) error {
	if ns := r.Header.Get("X-Vault-Namespace"); ns != "" {
		switch strings.Trim(ns, "/") {
		case "", "root":
			w.Header().Set("X-Vault-Namespace", ns)
		default:
			return fault.New(fault.NotFound, "no namespace %s", show(ns)).
				WithHint("this server has the root namespace only: leave the header X-Vault-Namespace out")
		}
	}
	return nil
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// isForm tells a form from JSON. Clients such as curl call everything a form, so
// what looks like JSON is JSON.
func isForm(h http.Header, body []byte) bool {
	switch h.Get("Content-Type") {
	case "", "application/json":
		return false
	}
	if mediaType(h) != "application/x-www-form-urlencoded" {
		return false
	}
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && body[0] != '{' && body[0] != '['
}
