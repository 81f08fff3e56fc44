package hsmdaemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/claviger/claviger/internal/fault"
)

// maxBody bounds a body, in bytes. An RSA ciphertext has at most 1 KiB.
const maxBody = 64 << 10

// ServeHTTP answers one request. It does not use a ServeMux, which answers the
// double slash that one client sends with a redirect.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.recoverPanic(w, r)
	call := f.route(r.URL.Path)
	if call == nil {
		answer(w, http.StatusNotFound, "there is no such path: POST /keys/new or /decrypt/{keyId}")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, "the method must be POST")
		return
	}
	claims, err := f.identify(r)
	if err != nil {
		f.log.Warn("token refused", "reason", err.Error(), "remote", r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", `Bearer realm="hsmdaemon", error="invalid_token"`)
		answer(w, http.StatusUnauthorized, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.o.Timeout)
	defer cancel()
	if err := call(ctx, w, r, claims); err != nil {
		f.refuse(w, r, err)
	}
}

type handler func(ctx context.Context, w http.ResponseWriter, r *http.Request, c *claims) error

// route finds the handler of a path, whose empty segments don't count.
func (f *Front) route(path string) handler {
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(segments) != 2 {
		return nil
	}
	switch {
	case segments[0] == "keys" && segments[1] == "new":
		return f.newKey
	case segments[0] == "decrypt":
		return func(ctx context.Context, w http.ResponseWriter, r *http.Request, _ *claims) error {
			return f.decryptBody(ctx, w, r, segments[1])
		}
	}
	return nil
}

// identify checks the bearer token (RFC 6750 section 2.1).
func (f *Front) identify(r *http.Request) (*claims, error) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, errors.New("there is no bearer token in the header Authorization")
	}
	return f.jwt.verify(strings.TrimSpace(token))
}

func (f *Front) newKey(ctx context.Context, w http.ResponseWriter, r *http.Request, c *claims) error {
	label := ""
	if c.Subject != nil {
		label = *c.Subject
	}
	key, err := f.create(ctx, r.RemoteAddr, label)
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		PublicKey    string `json:"publicKey"`
		PrivateKeyID string `json:"privateKeyId"`
	}{key.PublicKey, key.Name})
	if err != nil {
		return fmt.Errorf("encoding a public key: %w", err)
	}
	send(w, http.StatusOK, "application/json", body)
	return nil
}

func (f *Front) decryptBody(ctx context.Context, w http.ResponseWriter, r *http.Request, name string) error {
	ciphertext, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.TooLarge, "the body has more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return fault.New(fault.Invalid, "the body can't be read")
	}
	if len(ciphertext) == 0 {
		return fault.New(fault.Invalid, "the body must be the ciphertext, as it is")
	}
	plaintext, err := f.decrypt(ctx, r.RemoteAddr, name, ciphertext)
	if err != nil {
		return err
	}
	defer clear(plaintext)
	send(w, http.StatusOK, "application/octet-stream", plaintext)
	return nil
}

// refuse tells the caller what it may know. Whatever is wrong with a ciphertext
// is one status and text.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, fault.Message(err)
	switch fault.KindOf(err) {
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case fault.Denied:
		status = http.StatusForbidden
	case fault.Sealed, fault.Uninitialized, fault.Unavailable:
		status = http.StatusServiceUnavailable
	case fault.Invalid:
		if err != errDecryption {
			status = http.StatusBadRequest
		}
	}
	f.log.Error("request failed", "path", r.URL.Path, "status", status, "error", err.Error())
	answer(w, status, text)
}

func (f *Front) recoverPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	f.log.Error("panic", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	answer(w, http.StatusInternalServerError, "internal error")
}

// answer sends a text for people.
func answer(w http.ResponseWriter, status int, text string) {
	send(w, status, "text/plain; charset=utf-8", []byte(text+"\n"))
}

func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may have gone away; there is nobody left to tell.
	_, _ = w.Write(body)
}
