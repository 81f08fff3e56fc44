package vault

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// wrapTTL returns how long the caller wants the answer kept, 0 if it wants the
// answer itself.
func wrapTTL(h http.Header) (api.Seconds, error) {
	text := h.Get("X-Vault-Wrap-Ttl")
	if text == "" {
		return 0, nil
	}
	if format := h.Get("X-Vault-Wrap-Format"); format != "" {
		return 0, fault.New(fault.Invalid, "a wrapping token has no other form than that of a client token").
			WithHint("leave the header X-Vault-Wrap-Format out")
	}
	n, err := wholeNumber(text)
	if err != nil {
		n, err = durationSeconds(text)
	}
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "the header X-Vault-Wrap-TTL must be %s", durationWanted)
	}
	return api.Seconds(n), nil
}

// parts says where in the envelope an answer stands.
func parts(answer any) (data any, auth *api.Auth, wrap *api.WrapInfo) {
	switch a := answer.(type) {
	case *api.Auth:
		return nil, a, nil
	case *api.WrapInfo:
		return nil, nil, a
	case *api.Unwrapped:
		if a == nil || len(a.Data) == 0 {
			if a != nil {
				auth = a.Auth
			}
			return nil, auth, nil
		}
		return a.Data, a.Auth, nil
	}
	return answer, nil, nil
}

// rawBody is a request whose body is not JSON; it is taken as it came and must
// be copied by whoever keeps it.
type rawBody interface{ TakeRaw(body []byte) error }

// wholeBody is a request that is the body itself, a JSON object of any form.
type wholeBody interface{ TakeBody(json.RawMessage) }

func (c *call) takeBody(req wholeBody, body []byte) error {
	if isForm(c.r.Header, body) {
		object, err := formObject(body)
		if err != nil {
			return err
		}
		req.TakeBody(object)
		return nil
	}
	s := scanner{in: body, levels: c.h.MaxDepth}
	s.space()
	if s.pos == len(body) {
		return nil
	}
	if s.peek() != '{' {
		return invalid(s.fail("expected a JSON object, such as {}"))
	}
	if err := s.skip(); err != nil {
		return invalid(err)
	}
	if err := s.finish(); err != nil {
		return invalid(err)
	}
	req.TakeBody(bytes.Clone(bytes.TrimSpace(body)))
	return nil
}

// formObject is a form as a JSON object of texts.
func formObject(body []byte) (json.RawMessage, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fault.New(fault.Invalid, "the body is not a form (name=value&name=value in URL encoding)")
	}
	object := make(map[string]string, len(values))
	for name, v := range values {
		object[strings.ToValidUTF8(name, "\uFFFD")] = v[0]
	}
	return json.Marshal(object)
}
