package vault

import (
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/front/httpwire"
	"github.com/claviger/claviger/internal/guard"
)

// What response types may say of themselves.
type (
	// statused chooses its HTTP status; one that is no answer's status, such as
	// 0, leaves the choice to the front.
	statused interface{ HTTPStatus() int }
	// list tells whether it is empty, which Vault answers as "not found".
	list interface{ IsEmpty() bool }
	// raw is written as it is.
	raw interface {
		Raw() (contentType string, body []byte)
	}
	// streamed is raw with a body that is too large for memory; whoever calls Stream
	// closes it.
	streamed interface {
		raw
		Stream() (size int64, body io.ReadCloser)
	}
)

// Values of the header Content-Type. Their slices are shared, never changed.
var (
	jsonText  = []string{"application/json"}
	plainText = []string{"text/plain; charset=utf-8"}
	noStore   = []string{"no-store"}
)

// answer writes what an operation returned.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, a *guard.Answer) error {
	if a == nil || isNothing(a.Data) && len(a.Warnings) == 0 {
		w.Header()["Cache-Control"] = noStore
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if l, ok := a.Data.(list); ok && !isNothing(a.Data) && l.IsEmpty() {
		return fault.New(fault.NotFound, "")
	}
	if s, ok := a.Data.(streamed); ok && !isNothing(a.Data) {
		h.stream(w, s)
		return nil
	}
	if file, ok := a.Data.(raw); ok && !isNothing(a.Data) {
		contentType, body := file.Raw()
		status := statusOf(a.Data)
		if httpwire.Headers(w, r, a.Data, status, body, time.Now()) {
			status = http.StatusNotModified
		}
		h.deliver(w, status, []string{contentType}, body)
		return nil
	}
	buf := buffers.get()
	body, err := appendAnswer(*buf, a)
	*buf = body
	if err != nil {
		buffers.put(buf)
		return fault.Wrap(fault.Internal, err, "encoding the answer")
	}
	if h.deliver(w, statusOf(a.Data), jsonText, body) {
		buffers.put(buf)
	}
	return nil
}

// deliver writes an answer and tells whether its body may be reused: after a
// failed write an HTTP/2 connection may still hold it.
func (h *handler) deliver(w http.ResponseWriter, status int, contentType []string, body []byte) bool {
	err := write(w, status, contentType, body)
	if err != nil {
		h.Logger.Debug("answer not delivered", "error", err)
	}
	return err == nil
}

// stream sends a body piece by piece. A connection that ends early shows the client
// by the length that not all came.
func (h *handler) stream(w http.ResponseWriter, s streamed) {
	contentType, _ := s.Raw()
	size, body := s.Stream()
	defer body.Close()
	header := w.Header()
	header["Cache-Control"], header["Content-Type"] = noStore, []string{contentType}
	header["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	w.WriteHeader(http.StatusOK)
	if _, err := io.Copy(w, body); err != nil {
		h.Logger.Debug("answer not delivered", "error", err)
	}
}

// write sends an answer in one piece.
func write(w http.ResponseWriter, status int, contentType []string, body []byte) error {
	header := w.Header()
	if _, chosen := header["Cache-Control"]; !chosen || status != http.StatusOK && status != http.StatusNotModified {
		header["Cache-Control"] = noStore
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.WriteHeader(status)
		return nil
	}
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

func isNothing(data any) bool {
	if data == nil {
		return true
	}
	v := reflect.ValueOf(data)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// statusOf returns the status that data asks for, else 200. Callers choose some
// of them (partial_failure_response_code), so what is no final status is not sent.
func statusOf(data any) int {
	if s, ok := data.(statused); ok && !isNothing(data) {
		if status := s.HTTPStatus(); 200 <= status && status <= 599 {
			return status
		}
	}
	return http.StatusOK
}

// appendAnswer appends the body of an answer.
func appendAnswer(b []byte, a *guard.Answer) ([]byte, error) {
	var err error
	if a.Op != nil && a.Op.Bare && !isNothing(a.Data) {
		b, err = appendJSON(b, a.Data)
	} else {
		b, err = appendEnvelope(b, a)
	}
	return append(b, '\n'), err
}

// appendEnvelope appends Vault's envelope: always the same keys, null where empty.
func appendEnvelope(b []byte, a *guard.Answer) ([]byte, error) {
	var err error
	b = append(b, `{"request_id":`...)
	if _, wrapped := a.Data.(*api.WrapInfo); wrapped {
		b = append(b, `""`...) // as Vault does: the answer proper is elsewhere
	} else {
		b = appendString(b, a.RequestID)
	}
	b = append(b, `,"lease_id":"","renewable":false,"lease_duration":0,"data":`...)
	start := len(b)
	data, auth, wrap := parts(a.Data)
	if isNothing(data) {
		b = append(b, "null"...)
	} else if b, err = appendJSON(b, data); err != nil {
		return b, err
	}
	end := len(b)
	b = append(b, `,"wrap_info":`...)
	if b, err = appendJSON(b, wrap); err != nil {
		return b, err
	}
	b = append(b, `,"warnings":`...)
	if b, err = appendWarnings(b, a.Warnings); err != nil {
		return b, err
	}
	b = append(b, `,"auth":`...)
	if b, err = appendJSON(b, auth); err != nil {
		return b, err
	}
	if a.Op != nil && a.Op.TopLevel {
		b, err = appendCopies(b, start, end)
	}
	return append(b, '}'), err
}

func appendWarnings(b []byte, warnings []string) ([]byte, error) {
	if len(warnings) == 0 {
		return append(b, "null"...), nil
	}
	return appendJSON(b, warnings)
}

// appendCopies repeats the members of the object b[start:end] for clients that
// look for them beside "data". The envelope's own names stay its own.
func appendCopies(b []byte, start, end int) ([]byte, error) {
	s := scanner{in: b[start:end], levels: end - start}
	if s.peek() != '{' {
		return b, nil
	}
	more, err := s.begin('}')
	for more && err == nil {
		from := s.pos
		var name []byte
		if name, err = s.key(); err != nil {
			break
		}
		own := ownNames[string(name)]
		if err = s.skip(); err != nil {
			break
		}
		if !own {
			b = append(b, ',')
			b = append(b, s.in[from:s.pos]...)
		}
		more, err = s.more('}')
	}
	return b, err
}

var ownNames = func() map[string]bool {
	names := map[string]bool{}
	for _, m := range members(reflect.TypeFor[api.Envelope]()) {
		names[m.name] = true
	}
	return names
}()
