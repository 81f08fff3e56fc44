package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/httpwire"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options tune the front. The zero value is good.
type Options struct {
	// MaxBody is the largest body in bytes; default 512 KiB. The largest is that
	// of finalize, with a certificate request.
	MaxBody int64
	// RequestTimeout is how long a request may take; default 90 s.
	RequestTimeout time.Duration
	// Logger takes what callers are not told; default slog.Default().
	Logger *slog.Logger
}

type handler struct {
	Options
	door guard.Door
	next http.Handler
}

// New returns a handler that serves ACME and hands all else to next.
func New(door guard.Door, next http.Handler, o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 512 << 10
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 90 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &handler{o, door, next}
}

const prefix = "/v1/"

// resource matches the paths that may be ACME's. What they are the guard knows.
var resource = regexp.MustCompile(`^/v1/.+/acme/(directory|new-nonce|new-account|new-order|orders|revoke-cert|key-change|account/[^/]+|` +
	`order/[^/]+(/finalize|/cert)?|authorization/[^/]+|challenge/[^/]+/[^/]+|renewal-info/[^/]+)$`)

func mayBeACME(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return false
	}
	path := r.URL.Path
	return resource.MatchString(path) && utf8.ValidString(path) &&
		!strings.HasPrefix(path, prefix+"sys/") && !strings.HasPrefix(path, prefix+"auth/") && r.URL.Query().Get("help") == ""
}

// ServeHTTP answers one request, whatever happens.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !mayBeACME(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	defer h.recoverPanic(w, r)
	c := &call{handler: h, w: w, r: r}
	ctx, cancel := context.WithTimeout(r.Context(), h.RequestTimeout)
	defer cancel()
	req := &guard.Request{Verb: op.Read, Path: strings.TrimPrefix(r.URL.Path, prefix), Remote: r.RemoteAddr, Decode: c.decode}
	if r.Method == http.MethodPost {
		req.Verb = op.Write
	}
	answer, err := h.door.Handle(ctx, req)
	switch {
	case !c.isACME:
		// Sealed, or a path of something else that looks like ours: nothing was done.
		h.next.ServeHTTP(w, r)
	case err != nil:
		h.refuse(w, r, err)
	default:
		h.answer(w, r, answer)
	}
}

// call is one request on its way.
type call struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	isACME bool
}

// errOther is a path that is not ACME's.
var errOther = fault.New(fault.NotFound, "unsupported path")

// decode fills the request of an operation; it is guard.Request.Decode.
func (c *call) decode(req any) ([]string, error) {
	post, signed := req.(*api.ACMEPost)
	if _, plain := req.(*api.ACMEGet); !plain && !signed {
		return nil, errOther
	}
	c.isACME = true
	if _, err := url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return nil, fault.New(fault.Invalid, "the query can't be read")
	}
	if !signed {
		return nil, nil
	}
	if text := c.r.Header.Get("Content-Type"); text != "" {
		if t, _, err := mime.ParseMediaType(text); err != nil || t != "application/jose+json" {
			return nil, fault.New(fault.MediaType, "the Content-Type is %q; requests to an ACME server are application/jose+json", text)
		}
	}
	body, err := httpwire.Body(c.w, c.r, c.MaxBody)
	if err != nil {
		return nil, err
	}
	return nil, parseJWS(body, post)
}

// parseJWS reads a JWS in the flattened form without an unprotected header (RFC
// 8555 section 6.2).
func parseJWS(body []byte, post *api.ACMEPost) error {
	var parts struct {
		Protected *string `json:"protected"`
		Payload   *string `json:"payload"`
		Signature *string `json:"signature"`
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&parts); err != nil {
		return fault.New(fault.Invalid, "the body is no JWS in the flattened form: an object of protected, payload and signature, without other members")
	}
	if _, err := d.Token(); err != io.EOF {
		return fault.New(fault.Invalid, "something follows the JWS in the body")
	}
	if parts.Protected == nil || parts.Payload == nil || parts.Signature == nil {
		return fault.New(fault.Invalid, "the body lacks one of protected, payload and signature")
	}
	post.Protected, post.Payload, post.Signature = *parts.Protected, *parts.Payload, *parts.Signature
	return nil
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request, answer *guard.Answer) {
	a, ok := answer.Data.(*api.ACMEAnswer)
	if !ok {
		h.refuse(w, r, fault.New(fault.Internal, "the operation has no answer"))
		return
	}
	header := w.Header()
	for _, l := range a.Links {
		header.Add("Link", l)
	}
	setHeaders(header, a.Nonce, a.Location, a.RetryAfter)
	status := a.Status
	if status == 0 || status == http.StatusNoContent && r.Method == http.MethodHead {
		status = http.StatusOK // RFC 8555 section 7.2
	}
	contentType, body := a.Raw()
	h.write(w, r, status, contentType, body)
}

func setHeaders(header http.Header, nonce, location string, retryAfter int) {
	header.Set("Cache-Control", "no-store")
	if nonce != "" {
		header.Set("Replay-Nonce", nonce)
	}
	if location != "" {
		header.Set("Location", location)
	}
	if retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	if len(body) > 0 {
		w.Header().Set("Content-Type", contentType)
	}
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead || status == http.StatusNoContent {
		return
	}
	if _, err := w.Write(body); err != nil {
		h.Logger.Debug("answer not delivered", "path", r.URL.Path, "error", err)
	}
}

// problems says how faults that are no problems of ACME are answered.
var problems = map[fault.Kind]struct {
	status     int
	kind, text string
}{
	fault.Invalid:     {http.StatusBadRequest, "malformed", "the request is not valid"},
	fault.Denied:      {http.StatusForbidden, "unauthorized", "permission denied"},
	fault.Unsupported: {http.StatusMethodNotAllowed, "malformed", "unsupported operation"},
	fault.TooLarge:    {http.StatusRequestEntityTooLarge, "malformed", "the body is too large"},
	fault.MediaType:   {http.StatusUnsupportedMediaType, "malformed", "the Content-Type is not understood"},
	fault.Conflict:    {http.StatusConflict, "malformed", "this was changed meanwhile"},
	fault.Sealed:      {http.StatusServiceUnavailable, "serverInternal", "the server is sealed"},
	fault.Unavailable: {http.StatusServiceUnavailable, "serverInternal", "the service does not answer; try again"},
}

// refuse answers a failed request with a problem document (RFC 8555 section
// 6.7). Where there is no ACME server, there is nothing.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*api.ACMEProblem](err)
	if !ok {
		kind := fault.KindOf(err)
		if kind == fault.NotFound {
			h.write(w, r, http.StatusNotFound, "", nil)
			return
		}
		known, ok := problems[kind]
		if !ok {
			known.status, known.kind, known.text = http.StatusInternalServerError, "serverInternal", "internal error"
		}
		if e, ok := errors.AsType[*fault.Error](err); ok && kind != fault.Internal && e.Msg != "" {
			known.text = e.Msg
		}
		p = &api.ACMEProblem{Type: "urn:ietf:params:acme:error:" + known.kind, Detail: known.text, Status: known.status}
	}
	body, err := json.Marshal(p)
	if err != nil {
		h.Logger.Error("encoding a problem", "error", err)
	}
	setHeaders(w.Header(), p.Nonce, p.Location, p.RetryAfter)
	h.write(w, r, p.Status, "application/problem+json", body)
}

// recoverPanic turns a panic into an answer, so that the connection lives on.
func (h *handler) recoverPanic(w http.ResponseWriter, r *http.Request) {
	if v := recover(); v != nil {
		h.Logger.Error("panic while serving a request", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		h.refuse(w, r, fault.New(fault.Internal, "panic"))
	}
}
