package movault

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

// call is a request under way.
type call struct {
	*Front
	ctx    context.Context
	remote string
}

// route finds what a request asks for, and does it.
func (f *Front) route(ctx context.Context, w http.ResponseWriter, r *http.Request) (answer, error) {
	what, last, help := f.find(r.URL.Path)
	switch {
	case help == nil:
		return nil, fault.New(fault.NotFound, "there is no such path")
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		return nil, fault.New(fault.Unsupported, "the method must be POST, or GET for help")
	case what.typed && last != api.MoVaultRSA && last != api.MoVaultAES:
		return notAType, nil
	case r.Method != http.MethodPost:
		return help, nil
	}
	c := &call{Front: f, ctx: ctx, remote: r.RemoteAddr}
	if what.typed {
		return wiped(w, r, func(fs fields) (answer, error) {
			k, err := fs.key(last)
			if err != nil {
				return nil, err
			}
			return what.withKey(c, k, fs)
		})
	}
	return c.withData(w, r, last, what.withDigest)
}

// endpoint is what a path does: on keys of a type, or on data.
type endpoint struct {
	prefix     string
	typed      bool
	help       answer
	withKey    func(c *call, k *key, f fields) (answer, error)
	withDigest func(c *call, k *key, digest []byte, f fields) (answer, error)
}

var endpoints = []endpoint{
	{prefix: "/gen/key/", typed: true, help: helpKeys, withKey: (*call).generate},
	{prefix: "/key/encrypt/", typed: true, help: helpKeys, withKey: (*call).encrypt},
	{prefix: "/key/decrypt/", typed: true, help: helpKeys, withKey: (*call).decrypt},
	{prefix: "/key/sign/", help: helpSign, withDigest: (*call).sign},
	{prefix: "/key/verify/", help: helpSign, withDigest: (*call).verify},
}

// find returns the endpoint of a path, the path's last segment and the help; the help is
// nil if there is no such path.
func (f *Front) find(path string) (*endpoint, string, answer) {
	for i := range endpoints {
		e := &endpoints[i]
		if last, ok := strings.CutPrefix(path, e.prefix); ok && last != "" && !strings.Contains(last, "/") {
			return e, last, e.help
		}
	}
	return nil, "", nil
}

func (c *call) generate(k *key, _ fields) (answer, error) {
	if k.path == "" || k.version.Sign() == 0 {
		return keyExists, nil // as the original has it
	}
	if !k.possible() {
		return nil, invalid("secret_path may have %d bytes, and secret_version %d", maxPath, maxID)
	}
	err := c.keys.create(c.ctx, c.remote, k)
	if fault.KindOf(err) == fault.Conflict {
		return keyExists, nil
	}
	if err != nil {
		return nil, err
	}
	return answer{"Info": strings.ToUpper(k.typ) + " Key with " + k.path + " Generated"}, nil
}

func (c *call) encrypt(k *key, f fields) (answer, error) {
	plaintext, err := f.text("plaintext")
	if err != nil {
		return nil, err
	}
	var iv []byte
	if k.typ == api.MoVaultAES {
		iv = make([]byte, 16)
		rand.Read(iv)
	}
	ciphertext, err := c.keys.encrypt(c.ctx, c.remote, k, iv, []byte(plaintext))
	if err != nil {
		return orMissing(k, err)
	}
	a := answer{"ciphertext": hex.EncodeToString(ciphertext)}
	if iv != nil {
		a["iv"] = hex.EncodeToString(iv)
	}
	return a, nil
}

// orMissing is the answer where there is no AES key.
func orMissing(k *key, err error) (answer, error) {
	if k.typ == api.MoVaultAES && fault.KindOf(err) == fault.NotFound {
		return noAESKey, nil
	}
	return nil, err
}

// errDecryption is all that is told of a ciphertext that does not decrypt.
var errDecryption error = fault.New(fault.Invalid, "decryption failed: key, ciphertext and iv do not belong together")

func (c *call) decrypt(k *key, f fields) (answer, error) {
	ciphertext, err := f.hex("ciphertext")
	if err != nil {
		return nil, err
	}
	var iv []byte
	if k.typ == api.MoVaultAES {
		if iv, err = f.hex("iv"); err != nil {
			return nil, err
		}
		if len(iv) != 16 {
			return nil, invalid("iv has %d bytes; it is 32 hex digits", len(iv))
		}
	}
	plaintext, err := c.keys.decrypt(c.ctx, c.remote, k, iv, ciphertext)
	defer clear(plaintext)
	if fault.KindOf(err) == fault.Invalid && err != nil || err == nil && !utf8.Valid(plaintext) {
		return nil, errDecryption
	}
	if err != nil {
		return orMissing(k, err)
	}
	return answer{"plaintext": string(plaintext)}, nil
}

// withData reads a message or a file, and calls use with its SHA-256.
func (c *call) withData(w http.ResponseWriter, r *http.Request, kind string, use func(*call, *key, []byte, fields) (answer, error)) (answer, error) {
	switch kind {
	case "message":
		return wiped(w, r, func(f fields) (answer, error) {
			k, err := f.key(api.MoVaultRSA)
			if err != nil {
				return nil, err
			}
			data, err := f.text("data")
			if err != nil {
				return nil, err
			}
			digest := sha256.Sum256([]byte(data))
			return use(c, k, digest[:], f)
		})
	case "file":
		f, digest, err := readForm(w, r)
		if err != nil {
			return nil, err
		}
		k, err := f.key(api.MoVaultRSA)
		if err != nil {
			return nil, err
		}
		return use(c, k, digest, f)
	}
	return nil, fault.New(fault.NotFound, "what is signed is a message or a file, not %.40q", kind)
}

func (c *call) sign(k *key, digest []byte, _ fields) (answer, error) {
	signature, err := c.keys.sign(c.ctx, c.remote, k, digest)
	if err != nil {
		return nil, err
	}
	return answer{"signature": hex.EncodeToString(signature)}, nil
}

// verify tells whether a signature fits; whatever is wrong with it is no.
func (c *call) verify(k *key, digest []byte, f fields) (answer, error) {
	text, err := f.text("signature")
	if err != nil {
		return nil, err
	}
	signature, err := parseHex("signature", text)
	if err != nil {
		signature = nil // asked all the same: without the key there is no answer
	}
	valid, err := c.keys.verify(c.ctx, c.remote, k, digest, signature)
	if err != nil {
		return nil, err
	}
	return answer{resultName: valid}, nil
}
