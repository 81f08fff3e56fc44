package movault

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/claviger/claviger/internal/fault"
)

const (
	// maxBody bounds a body, in bytes.
	maxBody = 16 << 20
	// maxField and maxParts bound a form: the bytes of a field, and its parts.
	maxField = 64 << 10
	maxParts = 64
)

// fileEndings are the names that a file may end in after its last dot.
var fileEndings = []string{"png", "jpg", "jpeg", "gif", "pdf", "word", "ppt", "txt"}

// readBody reads a body of JSON; the caller wipes it.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && (!strings.HasPrefix(kind, "application/") || !strings.HasSuffix(kind, "+json")) {
		return nil, fault.New(fault.MediaType, "the body must be JSON, with the header Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	return body, readError(err)
}

// readError says why a body could not be read; a fault says it itself.
func readError(err error) error {
	if err == nil || fault.KindOf(err) != fault.Internal {
		return err
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fault.New(fault.TooLarge, "the body has more than %d bytes", tooLarge.Limit)
	}
	return fault.Wrap(fault.Invalid, err, "the body can't be read: it is cut off or malformed")
}

// fields are the members of a JSON object, or the fields of a form. What is not asked
// for is ignored.
type fields map[string]json.RawMessage

func parseFields(body []byte) (fields, error) {
	var f fields
	if err := json.Unmarshal(body, &f); err != nil || f == nil {
		return nil, invalid("the body must be a JSON object such as {\"secret_path\": \"a/b\", \"secret_version\": \"1\"}")
	}
	return f, nil
}

func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	if !ok {
		return "", invalid("%s is missing", name)
	}
	return parseString(name, raw)
}

func (f fields) hex(name string) ([]byte, error) {
	text, err := f.text(name)
	if err != nil {
		return nil, err
	}
	return parseHex(name, text)
}

// key reads path and version, which is a string or a number.
func (f fields) key(typ string) (*key, error) {
	path, err := f.text("secret_path")
	if err != nil {
		return nil, err
	}
	text := string(f["secret_version"])
	if text == "" || text[0] == '"' {
		if text, err = f.text("secret_version"); err != nil {
			return nil, err
		}
	}
	version, err := parseVersion(text)
	if err != nil {
		return nil, err
	}
	return &key{typ: typ, path: path, version: version}, nil
}

// readForm reads a form whose file part is data: its fields, and the SHA-256 of the
// file. Of fields that are there twice the first counts.
func readForm(w http.ResponseWriter, r *http.Request) (fields, []byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return nil, nil, fault.New(fault.MediaType, "the body must be a form with a file: multipart/form-data, as curl -F sends it")
	}
	form := multipart.NewReader(http.MaxBytesReader(w, r.Body, maxBody), params["boundary"])
	f := fields{}
	var digest []byte
	for range maxParts {
		part, err := form.NextRawPart()
		if err == io.EOF {
			if digest == nil {
				return nil, nil, invalid(`the file is missing: a part of the form with the name "data" and a file name`)
			}
			return f, digest, nil
		}
		if err == nil {
			digest, err = f.readPart(part, digest)
		}
		if err != nil {
			return nil, nil, readError(err)
		}
	}
	return nil, nil, invalid("the form has more than %d parts", maxParts)
}

// readPart reads one part of a form, and returns the SHA-256 of the file.
func (f fields) readPart(part *multipart.Part, digest []byte) ([]byte, error) {
	name := part.FormName()
	if file, ok := fileName(part); ok {
		if name != "data" || digest != nil {
			return digest, nil
		}
		return hashFile(part, file)
	}
	if _, again := f[name]; again {
		return digest, nil
	}
	value, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err != nil {
		return nil, fmt.Errorf("reading a field: %w", err)
	}
	if len(value) > maxField {
		return nil, fault.New(fault.TooLarge, "the field %.40q has more than %d bytes", name, maxField)
	}
	if !utf8.Valid(value) {
		return nil, invalid("the field %.40q is not Unicode text", name)
	}
	f[name], err = json.Marshal(string(value))
	return digest, err
}

// fileName returns the name of a part's file, and whether the part is one.
func fileName(part *multipart.Part) (name string, ok bool) {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	name, ok = params["filename"]
	return name, ok && err == nil
}

func hashFile(part io.Reader, name string) ([]byte, error) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || !slices.Contains(fileEndings, strings.ToLower(name[dot+1:])) {
		return nil, invalid("the file name %.80q must end in a dot and one of %s", name, strings.Join(fileEndings, ", "))
	}
	h := sha256.New()
	if _, err := io.Copy(h, part); err != nil {
		return nil, fmt.Errorf("reading the file: %w", err)
	}
	return h.Sum(nil), nil
}

// wiped runs use on a body of JSON, and wipes it.
func wiped(w http.ResponseWriter, r *http.Request, use func(fields) (answer, error)) (answer, error) {
	body, err := readBody(w, r)
	defer func() { clear(body) }()
	if err != nil {
		return nil, err
	}
	f, err := parseFields(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, raw := range f {
			clear(raw)
		}
	}()
	return use(f)
}
