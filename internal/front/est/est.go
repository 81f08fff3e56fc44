package est

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/httpwire"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// Options are what the front needs; MaxBody, RequestTimeout and Logger may be zero.
type Options struct {
	Door guard.Door
	// As makes the calls of clients that show no client token; Policy is its.
	As *guard.Identity
	// Mount finds the mount of a label, "" for none: its path with a trailing
	// slash. An error is a *fault.Error.
	Mount func(ctx context.Context, label string) (string, error)
	// MaxBody is the largest body in bytes; default 512 KiB.
	MaxBody int64
	// RequestTimeout is how long a request may take; default 90 s.
	RequestTimeout time.Duration
	// Logger takes what callers are not told; default slog.Default().
	Logger *slog.Logger
}

// maxDepth is how many segments the path of a mount may have for Policy to reach
// its EST server.
const maxDepth = 8

// Policy is what clients without a client token may do: enroll, at mounts whose
// path has up to 8 segments.
func Policy() string {
	var b strings.Builder
	for depth := 1; depth <= maxDepth; depth++ {
		mount := strings.Repeat("+/", depth)
		for _, label := range []string{"", "+/"} {
			for _, name := range []string{enroll, reenroll} {
				fmt.Fprintf(&b, "path \"%sest/%s%s\" { capabilities = [\"update\"] }\n", mount, label, name)
			}
		}
	}
	return b.String()
}

type handler struct {
	Options
	next http.Handler
}

// New returns a handler that serves EST and hands all else to next.
func New(next http.Handler, o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 512 << 10
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 90 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &handler{o, next}
}

const (
	prefix   = "/.well-known/est/"
	enroll   = "simpleenroll"
	reenroll = "simplereenroll"
)

// verbs are the operations of RFC 7030 section 3.2.2 that are here.
var verbs = map[string]op.Verb{"cacerts": op.Read, "csrattrs": op.Read, enroll: op.Write, reenroll: op.Write}

// absent are those that are not, with the reason.
var absent = map[string]string{
	"serverkeygen": "serverkeygen is not offered: a device makes its own key and sends a certificate request to simpleenroll",
	"fullcmc":      "fullcmc is not offered: use simpleenroll and simplereenroll",
}

// ServeHTTP answers one request, whatever happens.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok {
		h.next.ServeHTTP(w, r)
		return
	}
	defer h.recoverPanic(w, r)
	ctx, cancel := context.WithTimeout(r.Context(), h.RequestTimeout)
	defer cancel()
	c := &call{handler: h, w: w, r: r}
	a, err := c.do(ctx, rest)
	if err != nil {
		c.refuse(err)
		return
	}
	c.deliver(a)
}

// call is one request on its way.
type call struct {
	*handler
	w        http.ResponseWriter
	r        *http.Request
	password string // of HTTP Basic: a client token
}

// failure is a refusal with a status that no kind of fault has.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

// answer is what the operations of EST answer with.
type answer interface {
	Raw() (contentType string, body []byte)
}

func (c *call) do(ctx context.Context, rest string) (answer, error) {
	label, name := "", rest
	if before, after, ok := strings.Cut(rest, "/"); ok {
		label, name = before, after
		if label == "" {
			return nil, fault.New(fault.NotFound, "the path has an empty label")
		}
	}
	if why, ok := absent[name]; ok {
		return nil, &failure{http.StatusNotImplemented, why}
	}
	verb, ok := verbs[name]
	if !ok {
		return nil, fault.New(fault.NotFound, "EST has no operation %.64q here; there are cacerts, csrattrs, simpleenroll and simplereenroll", name)
	}
	if err := c.checkMethod(verb); err != nil {
		return nil, err
	}
	mount, err := c.Mount(ctx, label)
	if err != nil {
		return nil, err
	}
	path := mount + "est/" + name
	if label != "" {
		path = mount + "est/" + label + "/" + name
	}
	req := &guard.Request{Verb: verb, Path: path, Remote: c.r.RemoteAddr, Decode: c.decode}
	if verb == op.Write {
		c.identify(req)
	}
	a, err := c.Door.Handle(ctx, req)
	if err != nil {
		return nil, err
	}
	data, ok := a.Data.(answer)
	if !ok {
		return nil, fault.New(fault.Internal, "the operation has no answer of EST")
	}
	return data, nil
}

func (c *call) checkMethod(verb op.Verb) error {
	methods := []string{http.MethodGet, http.MethodHead}
	if verb == op.Write {
		methods = []string{http.MethodPost}
	}
	if slices.Contains(methods, c.r.Method) {
		return nil
	}
	c.w.Header().Set("Allow", strings.Join(methods, ", "))
	return &failure{http.StatusMethodNotAllowed, "this operation is a " + methods[0]}
}

// identify says who calls: the client token in the password of HTTP Basic, whose
// user name is no matter (RFC 7030 section 3.2.3); else the front itself for
// somebody with a certificate; else nobody, which the guard refuses and records.
func (c *call) identify(req *guard.Request) {
	_, c.password, _ = c.r.BasicAuth()
	switch {
	case c.password != "":
		req.Token = c.password
	case c.r.TLS != nil && len(c.r.TLS.PeerCertificates) > 0:
		req.As = c.As
	}
}

// decode fills the request of an operation; it is guard.Request.Decode.
func (c *call) decode(req any) ([]string, error) {
	into, ok := req.(*api.ESTEnroll)
	if !ok {
		return nil, nil
	}
	if text := c.r.Header.Get("Content-Type"); text != "" {
		if t, _, err := mime.ParseMediaType(text); err != nil || t != "application/pkcs10" {
			return nil, fault.New(fault.MediaType, "the Content-Type is %.100q; a certificate request is application/pkcs10, in base64", text)
		}
	}
	body, err := httpwire.Body(c.w, c.r, c.MaxBody)
	if err != nil {
		return nil, err
	}
	into.CSR = string(body)
	return nil, c.takeConnection(into)
}

// bindingLabel and bindingSize are those of tls-exporter (RFC 9266 section 2).
const (
	bindingLabel = "EXPORTER-Channel-Binding"
	bindingSize  = 32
)

// takeConnection adds what TLS knows of the client.
func (c *call) takeConnection(into *api.ESTEnroll) error {
	if c.r.TLS == nil {
		return nil
	}
	for _, cert := range c.r.TLS.PeerCertificates {
		into.Certificates = append(into.Certificates, cert.Raw)
	}
	binding, err := c.r.TLS.ExportKeyingMaterial(bindingLabel, nil, bindingSize)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "can't get the channel binding of the connection")
	}
	into.ChannelBinding = binding
	return nil
}

// deliver answers a request that succeeded. What has no body is 204.
func (c *call) deliver(a answer) {
	header := c.w.Header()
	header.Set("Cache-Control", "no-store")
	contentType, body := a.Raw()
	if len(body) == 0 {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	header.Set("Content-Type", contentType)
	header.Set("Content-Transfer-Encoding", "base64")
	c.write(http.StatusOK, body)
}

func (c *call) write(status int, body []byte) {
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return
	}
	if _, err := c.w.Write(body); err != nil {
		c.Logger.Debug("answer not delivered", "path", c.r.URL.Path, "error", err)
	}
}

var statuses = map[fault.Kind]int{
	fault.Invalid:     http.StatusBadRequest,
	fault.Denied:      http.StatusUnauthorized,
	fault.NotFound:    http.StatusNotFound,
	fault.Unsupported: http.StatusMethodNotAllowed,
	fault.TooLarge:    http.StatusRequestEntityTooLarge,
	fault.MediaType:   http.StatusUnsupportedMediaType,
	fault.Conflict:    http.StatusConflict,
	fault.Exhausted:   http.StatusTooManyRequests,
	fault.Sealed:      http.StatusServiceUnavailable,
	fault.Unavailable: http.StatusServiceUnavailable,
}

// retryAfter is what clients are told who come while the server is sealed or
// the HSM token does not answer, in seconds.
const retryAfter = "30"

// refuse answers a failed request with a text for people (RFC 7030 section 4.2.3).
func (c *call) refuse(err error) {
	status, text := http.StatusInternalServerError, fault.Message(err)
	if f, ok := errors.AsType[*failure](err); ok {
		status, text = f.status, f.text
	} else if known, ok := statuses[fault.KindOf(err)]; ok {
		status = known
	}
	header := c.w.Header()
	switch status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", `Basic realm="EST", charset="UTF-8"`)
		text = c.whyDenied(text)
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter)
	}
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	c.write(status, []byte(text+"\n"))
}

// whyDenied completes what the guard says, which is the same for all callers.
func (c *call) whyDenied(text string) string {
	switch {
	case text != "permission denied":
		return text
	case c.password != "":
		return text + ": the password of HTTP Basic must be a client token whose policies allow this"
	}
	return text + ": show a client certificate in TLS, or use HTTP Basic with a client token as password"
}

// recoverPanic turns a panic into an answer, so that the connection lives on.
func (h *handler) recoverPanic(w http.ResponseWriter, r *http.Request) {
	if v := recover(); v != nil {
		h.Logger.Error("panic while serving a request", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		(&call{handler: h, w: w, r: r}).refuse(fault.New(fault.Internal, "panic"))
	}
}
