package vault

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// kinds says how each kind of fault is answered: the status, and the text where
// the fault has none.
var kinds = [...]struct {
	status int
	text   string
}{
	fault.Internal:    {http.StatusInternalServerError, "internal error"},
	fault.Invalid:     {http.StatusBadRequest, "the request is not valid"},
	fault.Denied:      {http.StatusForbidden, "permission denied"},
	fault.NotFound:    {http.StatusNotFound, ""}, // no text: the route is there, the object is not
	fault.Unsupported: {http.StatusMethodNotAllowed, "unsupported operation"},
	fault.TooLarge:    {http.StatusRequestEntityTooLarge, "the body is too large"},
	fault.MediaType:   {http.StatusUnsupportedMediaType, "the Content-Type is not understood"},
	fault.Conflict:    {http.StatusBadRequest, "the thing exists already or was changed meanwhile"},
	// 429 would make clients try again, but what is used up stays used up.
	fault.Exhausted:     {http.StatusBadRequest, "a limit of use is reached"},
	fault.Sealed:        {http.StatusServiceUnavailable, "Vault is sealed"},
	fault.Uninitialized: {http.StatusServiceUnavailable, "Vault is not initialized"},
	fault.Unavailable:   {http.StatusServiceUnavailable, "the service does not answer; try again"},
	fault.Uncertain:     {http.StatusInternalServerError, "whether the operation took effect is unknown"},
}

// refuse answers a failed request. The guard has logged what is ours of it.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	kind := fault.KindOf(err)
	if int(kind) >= len(kinds) {
		kind = fault.Internal
	}
	status := kinds[kind].status
	if errors.Is(err, errSlow) {
		status = http.StatusRequestTimeout
	}
	body := appendErrors(nil, messages(kind, err))
	if err := write(w, status, jsonText, body); err != nil {
		h.Logger.Debug("answer not delivered", "path", r.URL.Path, "error", err)
	}
}

// messages returns what the caller reads: the message, and what to do next as
// an element of its own. Of an internal error only the latter is shown.
func messages(kind fault.Kind, err error) []string {
	text, hint := kinds[kind].text, ""
	if e, ok := errors.AsType[*fault.Error](err); ok {
		hint = e.Hint
		if kind != fault.Internal {
			text = cmp.Or(e.Msg, text)
		}
	}
	var list []string
	if text != "" {
		list = append(list, text)
	}
	if hint != "" {
		list = append(list, api.HintPrefix+hint)
	}
	return list
}

func appendErrors(b []byte, list []string) []byte {
	b = append(b, `{"errors":[`...)
	for i, text := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, text)
	}
	return append(b, "]}\n"...)
}
