// Package distribution is the front that hands out what everybody may know of
// certificate authorities: their certificates, CRLs and OCSP answers (RFC 5280,
// RFC 6960), over plain HTTP, as the certificates' own URLs name them.
//
// Promise: it reaches nothing but these reads, below the mounts that its
// configuration names, and passes no client token on, so that what needs one is
// refused whoever asks. What it serves is signed by the authority, and public.
//
// It trusts the guard to admit callers without a client token to public operations
// only.
package distribution

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/httpwire"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options are what the front needs; MaxBody, Timeout and Logger have defaults.
type Options struct {
	Door guard.Door
	// Mounts are the paths of the authorities, each with a slash at its end.
	Mounts []string
	// MaxBody is the largest OCSP request in bytes; default 16 KiB.
	MaxBody int64
	// Timeout is how long a request may take; default 30 s.
	Timeout time.Duration
	// Logger takes what callers are not told; default slog.Default().
	Logger *slog.Logger
}

// Front is the front; it is an http.Handler.
type Front struct{ o Options }

// New makes the front. An error is a *fault.Error of kind Invalid.
func New(o Options) (*Front, error) {
	if o.Door == nil || len(o.Mounts) == 0 {
		return nil, fault.New(fault.Invalid, "the front distribution needs the mount of an authority")
	}
	if o.MaxBody == 0 {
		o.MaxBody = 16 << 10
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Front{o}, nil
}

const (
	prefix       = "/v1/"
	ocspResource = "ocsp"
)

// resources match what may be read below a mount.
var resources = regexp.MustCompile(`^(ca|ca/pem|ca_chain|crl(/delta)?(/pem)?|issuer/[\w.-]{1,128}/(crl/(delta/)?)?(der|pem)|issuer/[\w.-]{1,128}/crl/shard/\d{1,3}/\d{1,3})$`)

// ServeHTTP answers one request, whatever happens.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.recoverPanic(w, r)
	ctx, cancel := context.WithTimeout(r.Context(), f.o.Timeout)
	defer cancel()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := f.serve(ctx, w, r); err != nil {
		f.refuse(w, r, err)
	}
}

var errNothing = fault.New(fault.NotFound, "there is nothing here: this address serves the certificates, CRLs and OCSP answers of authorities, below /v1/ and the path of a mount")

func (f *Front) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	mount, resource := f.split(r.URL.Path)
	if mount == "" {
		return errNothing
	}
	ocsp := resource == ocspResource || strings.HasPrefix(resource, ocspResource+"/")
	req := &guard.Request{Verb: op.Read, Path: mount + resource, Remote: r.RemoteAddr}
	switch {
	case !ocsp && !resources.MatchString(resource):
		return errNothing
	case r.Method == http.MethodPost && resource == ocspResource:
		der, err := f.body(w, r)
		if err != nil {
			return err
		}
		askOCSP(req, mount, der)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return fault.New(fault.Unsupported, "the method must be GET or HEAD, or POST for OCSP")
	case ocsp:
		der, err := inPath(strings.TrimPrefix(strings.TrimPrefix(resource, ocspResource), "/"), f.o.MaxBody)
		if err != nil {
			return err
		}
		askOCSP(req, mount, der)
	}
	answer, err := f.o.Door.Handle(ctx, req)
	if err != nil {
		return err
	}
	return f.answer(w, r, answer)
}

// split finds the mount that a path leads to, and what follows it. The longest
// mount counts.
func (f *Front) split(path string) (mount, resource string) {
	path, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return "", ""
	}
	for _, m := range f.o.Mounts {
		if rest, below := strings.CutPrefix(path, m); below && len(m) > len(mount) {
			mount, resource = m, rest
		}
	}
	return mount, resource
}

// askOCSP makes of a request the operation that takes it as a body. So requests
// whose base64 has what a path can't carry are answered too.
func askOCSP(req *guard.Request, mount string, der []byte) {
	req.Verb, req.Path = op.Write, mount+ocspResource
	req.Decode = func(into any) ([]string, error) {
		r, ok := into.(*api.PKIOCSP)
		if !ok {
			return nil, errNothing
		}
		return nil, r.TakeRaw(der)
	}
}

// inPath reads the OCSP request of a GET (RFC 6960 appendix A.1).
func inPath(text string, most int64) ([]byte, error) {
	if text == "" || int64(len(text)) > most {
		return nil, fault.New(fault.Invalid, "a GET for OCSP ends in a request in base64 of at most %d characters; POST takes larger ones", most)
	}
	der, err := (&api.PKIOCSP{Request: text}).Bytes()
	if err != nil {
		return nil, fault.New(fault.Invalid, "the path ends in no OCSP request in base64: %v", err)
	}
	return der, nil
}

func (f *Front) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(t), "application/ocsp-request") {
		return nil, fault.New(fault.MediaType, "the Content-Type must be application/ocsp-request")
	}
	return httpwire.Body(w, r, f.o.MaxBody)
}

// file is what operations answer whose answer is a file.
type file interface {
	Raw() (contentType string, body []byte)
}

// answer writes a file, which caches may keep as long as it says of itself.
func (f *Front) answer(w http.ResponseWriter, r *http.Request, a *guard.Answer) error {
	data, ok := a.Data.(file)
	if !ok {
		return errNothing
	}
	contentType, body := data.Raw()
	status := http.StatusOK
	if s, ok := a.Data.(interface{ HTTPStatus() int }); ok && s.HTTPStatus() != 0 {
		status = s.HTTPStatus()
	}
	w.Header().Set("Cache-Control", "no-store")
	if httpwire.Headers(w, r, a.Data, status, body, time.Now()) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	f.write(w, r, status, contentType, body)
	return nil
}

func (f *Front) write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(body); err != nil {
		f.o.Logger.Debug("answer not delivered", "path", r.URL.Path, "error", err)
	}
}

var statuses = map[fault.Kind]int{
	fault.Invalid:       http.StatusBadRequest,
	fault.Denied:        http.StatusNotFound, // of what needs a client token there is nothing here
	fault.NotFound:      http.StatusNotFound,
	fault.Unsupported:   http.StatusMethodNotAllowed,
	fault.TooLarge:      http.StatusRequestEntityTooLarge,
	fault.MediaType:     http.StatusUnsupportedMediaType,
	fault.Sealed:        http.StatusServiceUnavailable,
	fault.Uninitialized: http.StatusServiceUnavailable,
	fault.Unavailable:   http.StatusServiceUnavailable,
}

func (f *Front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	kind := fault.KindOf(err)
	status, known := statuses[kind]
	text := fault.Message(err)
	if !known {
		status, text = http.StatusInternalServerError, "internal error"
	}
	if kind == fault.Denied {
		text = errNothing.Error()
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, POST")
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "30")
	}
	w.Header().Set("Cache-Control", "no-store")
	f.write(w, r, status, "text/plain; charset=utf-8", []byte(text+"\n"))
}

// recoverPanic turns a panic into an answer, so that the connection lives on.
func (f *Front) recoverPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	f.o.Logger.Error("panic while serving a request", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	f.refuse(w, r, fault.New(fault.Internal, "panic"))
}
