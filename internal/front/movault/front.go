package movault

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// keys is what a front needs of the keys. Without the key every call but create is a
// fault.NotFound; remote is the caller's address.
type keys interface {
	// create makes a key; fault.Conflict if it is there.
	create(ctx context.Context, remote string, k *key) error
	// encrypt and decrypt take an iv of 16 bytes for AES, and none for RSA.
	encrypt(ctx context.Context, remote string, k *key, iv, plaintext []byte) ([]byte, error)
	decrypt(ctx context.Context, remote string, k *key, iv, ciphertext []byte) ([]byte, error)
	// sign and verify take the SHA-256 of the data, and RSA keys only.
	sign(ctx context.Context, remote string, k *key, digest []byte) ([]byte, error)
	verify(ctx context.Context, remote string, k *key, digest, signature []byte) (bool, error)
}

// Front is the front; it is an http.Handler.
type Front struct {
	keys    keys
	token   *[sha256.Size]byte // SHA-256 of the token; nil if callers show none
	timeout time.Duration
	log     *slog.Logger
	sites   *http.CrossOriginProtection
}

func newFront(k keys, token []byte, timeout time.Duration, log *slog.Logger) *Front {
	f := &Front{keys: k, timeout: timeout, log: log, sites: http.NewCrossOriginProtection()}
	if len(token) > 0 {
		sum := sha256.Sum256(token)
		f.token = &sum
	}
	return f
}

// ServeHTTP answers one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer f.recoverPanic(w, r)
	if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		send(w, http.StatusOK, "text/html; charset=utf-8", []byte("Weclome!"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.timeout)
	defer cancel()
	answer, err := f.admit(r)
	if err == nil && answer == nil {
		answer, err = f.route(ctx, w, r)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	sendJSON(w, http.StatusOK, answer)
}

// errToken is the answer to a caller without the token.
var errToken = errors.New("the token of this server is missing or wrong: send it as Authorization: Bearer …, or as X-Vault-Token")

// admit refuses callers who may not ask at all. A web page of another site can make its
// reader's browser send forms to a server that asks for no token.
func (f *Front) admit(r *http.Request) (answer, error) {
	if err := f.sites.Check(r); err != nil {
		return nil, fault.Wrap(fault.Denied, err, "a web page of another site may not call this server")
	}
	if f.token == nil {
		return nil, nil
	}
	shown := r.Header.Get("X-Vault-Token")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		shown = strings.TrimSpace(token)
	}
	sum := sha256.Sum256([]byte(shown))
	if subtle.ConstantTimeCompare(sum[:], f.token[:]) != 1 {
		return nil, errToken
	}
	return nil, nil
}

// refuse tells the caller what is wrong.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, fault.Message(err)
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Exhausted:
		status = http.StatusBadRequest
	case fault.Denied:
		status = http.StatusForbidden
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.Unsupported:
		status = http.StatusMethodNotAllowed
		w.Header().Set("Allow", "GET, HEAD, POST")
	case fault.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case fault.MediaType:
		status = http.StatusUnsupportedMediaType
	case fault.Conflict:
		status = http.StatusConflict
	case fault.Sealed, fault.Uninitialized, fault.Unavailable:
		status = http.StatusServiceUnavailable
	}
	if errors.Is(err, errToken) {
		status, text = http.StatusUnauthorized, errToken.Error()
		w.Header().Set("WWW-Authenticate", `Bearer realm="Mo-Vault"`)
	}
	f.log.Warn("request refused", "path", r.URL.Path, "status", status, "error", err.Error(), "remote", r.RemoteAddr)
	sendJSON(w, status, answer{"Error": text})
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
	sendJSON(w, http.StatusInternalServerError, answer{"Error": "internal error"})
}
