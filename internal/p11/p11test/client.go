// Package p11test is a client of the protocol of package p11, for tests: what the
// module does, in Go.
package p11test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/p11"
)

// Client is one connection. Each call is one request; no two run at a time.
type Client struct {
	Conn  net.Conn
	Token string
	Slot  uint32
	Wait  time.Duration // deadline of requests; 0 sends none
}

// Dial connects and exchanges the first bytes.
func Dial(socket, token string) (*Client, error) {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &Client{Conn: conn, Token: token, Wait: 20 * time.Second}
	if err := c.hello(); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) hello() error {
	if _, err := c.Conn.Write([]byte("CLVP\x00\x01\x00\x00")); err != nil {
		return err
	}
	var answer [8]byte
	if _, err := io.ReadFull(c.Conn, answer[:]); err != nil {
		return err
	}
	if string(answer[:]) != "CLVP\x00\x01\x00\x00" {
		return fmt.Errorf("the server began with %x", answer)
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() { c.Conn.Close() }

// Request is the frame of a request, its length first.
func (c *Client) Request(operation uint8, body []byte) []byte {
	w := &p11.Writer{B: make([]byte, 4)}
	w.U8(operation)
	w.U32(uint32(c.Wait / time.Millisecond))
	w.U32(c.Slot)
	w.Text(c.Token)
	w.B = append(w.B, body...)
	binary.BigEndian.PutUint32(w.B, uint32(len(w.B)-4))
	return w.B
}

// Raw sends a frame and returns what follows the length of the answer.
func (c *Client) Raw(frame []byte) ([]byte, error) {
	if err := c.Conn.SetDeadline(time.Now().Add(c.Wait + 20*time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Conn.Write(frame); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(c.Conn, answer)
	return answer, err
}

// Do performs an operation. An outcome other than CKR_OK is a *p11.Error.
func (c *Client) Do(operation uint8, body func(*p11.Writer)) (*p11.Reader, error) {
	w := &p11.Writer{}
	if body != nil {
		body(w)
	}
	answer, err := c.Raw(c.Request(operation, w.B))
	if err != nil {
		return nil, err
	}
	return Answer(answer)
}

// Answer splits an answer. An outcome other than CKR_OK is a *p11.Error.
func Answer(answer []byte) (*p11.Reader, error) {
	r := p11.NewReader(answer)
	if code := r.U32(); code != 0 {
		e := &p11.Error{Code: p11.Code(code), Msg: string(r.Bytes())}
		if err := r.End(); err != nil {
			return nil, err
		}
		return nil, e
	}
	return r, nil
}

// Code is the outcome that an error of Do stands for; 0 is none.
func Code(err error) p11.Code {
	if e, ok := err.(*p11.Error); ok {
		return e.Code
	}
	if err != nil {
		return p11.CKR_GENERAL_ERROR
	}
	return p11.CKR_OK
}

// Object performs an operation that answers an object.
func (c *Client) Object(operation uint8, body func(*p11.Writer)) (*p11.Object, error) {
	r, err := c.Do(operation, body)
	if err != nil {
		return nil, err
	}
	o := takeObject(r)
	return o, r.End()
}

func takeObject(r *p11.Reader) *p11.Object {
	o := &p11.Object{Handle: r.U64()}
	for range r.U32() {
		a := api.P11Attribute{Type: r.U64(), Form: r.U8()}
		switch a.Form {
		case p11.FormBytes, p11.FormNumbers, p11.FormTemplate:
			a.Value = r.Bytes()
		case p11.FormBool:
			a.Value = []byte{r.U8()}
		case p11.FormNumber:
			a.Value = binary.BigEndian.AppendUint64(nil, r.U64())
		case p11.FormWithheld:
		default:
			r.Fail("attribute 0x%x has the form %d", a.Type, a.Form)
		}
		if r.Err != nil {
			break
		}
		o.Attributes = append(o.Attributes, a)
	}
	return o
}

// Bytes performs an operation that answers bytes.
func (c *Client) Bytes(operation uint8, body func(*p11.Writer)) ([]byte, error) {
	r, err := c.Do(operation, body)
	if err != nil {
		return nil, err
	}
	b := r.Bytes()
	return b, r.End()
}

// Login shows the client token.
func (c *Client) Login() error {
	_, err := c.Do(p11.OpLogin, nil)
	return err
}

// Find returns all objects with the attributes of a template, so many at a time.
func (c *Client) Find(template p11.Attributes, most uint32) ([]*p11.Object, error) {
	var all []*p11.Object
	for from := []byte(nil); ; {
		r, err := c.Do(p11.OpFind, func(w *p11.Writer) {
			w.Attributes(template)
			w.Bytes(from)
			w.U32(most)
		})
		if err != nil {
			return nil, err
		}
		for range r.U32() {
			all = append(all, takeObject(r))
		}
		from = r.Bytes()
		if err := r.End(); err != nil || len(from) == 0 {
			return all, err
		}
	}
}

// Get returns an object.
func (c *Client) Get(handle uint64) (*p11.Object, error) {
	return c.Object(p11.OpGet, func(w *p11.Writer) { w.U64(handle) })
}

// Key puts a key of the server.
func Key(w *p11.Writer, handle uint64) {
	w.U64(handle)
	if handle == 0 {
		w.Attributes(nil)
	}
}

// Mechanism puts a mechanism; param puts form and parameter, nil is none.
func Mechanism(w *p11.Writer, number uint64, param func(*p11.Writer)) {
	w.U64(number)
	if param == nil {
		w.U8(p11.ParamNone)
		return
	}
	param(w)
}

// Sign signs data.
func (c *Client) Sign(handle, mechanism uint64, param func(*p11.Writer), digested bool, data []byte) ([]byte, error) {
	return c.Bytes(p11.OpSign, func(w *p11.Writer) { putSign(w, handle, mechanism, param, digested, data) })
}

func putSign(w *p11.Writer, handle, mechanism uint64, param func(*p11.Writer), digested bool, data []byte) {
	Key(w, handle)
	Mechanism(w, mechanism, param)
	flag := uint8(0)
	if digested {
		flag = 1
	}
	w.U8(flag)
	w.Bytes(data)
}

// Verify checks a signature.
func (c *Client) Verify(handle, mechanism uint64, param func(*p11.Writer), digested bool, data, signature []byte) error {
	_, err := c.Do(p11.OpVerify, func(w *p11.Writer) {
		putSign(w, handle, mechanism, param, digested, data)
		w.Bytes(signature)
	})
	return err
}

// Crypt encrypts or decrypts: operation is OpEncrypt or OpDecrypt.
func (c *Client) Crypt(operation uint8, handle, mechanism uint64, param func(*p11.Writer), data []byte) ([]byte, error) {
	return c.Bytes(operation, func(w *p11.Writer) {
		Key(w, handle)
		Mechanism(w, mechanism, param)
		w.Bytes(data)
	})
}

// Random returns random bytes.
func (c *Client) Random(n uint32) ([]byte, error) {
	return c.Bytes(p11.OpRandom, func(w *p11.Writer) { w.U32(n) })
}

// GeneratePair makes a pair of keys.
func (c *Client) GeneratePair(mechanism uint64, public, private p11.Attributes) (pub, priv *p11.Object, err error) {
	r, err := c.Do(p11.OpGeneratePair, func(w *p11.Writer) {
		Mechanism(w, mechanism, nil)
		w.Attributes(public)
		w.Attributes(private)
	})
	if err != nil {
		return nil, nil, err
	}
	pub, priv = takeObject(r), takeObject(r)
	return pub, priv, r.End()
}

// Generate makes a secret key.
func (c *Client) Generate(mechanism uint64, template p11.Attributes) (*p11.Object, error) {
	return c.Object(p11.OpGenerate, func(w *p11.Writer) {
		Mechanism(w, mechanism, nil)
		w.Attributes(template)
	})
}

// Create makes an object.
func (c *Client) Create(template p11.Attributes) (*p11.Object, error) {
	return c.Object(p11.OpCreate, func(w *p11.Writer) { w.Attributes(template) })
}

// Change is OpSet or OpCopy.
func (c *Client) Change(operation uint8, handle uint64, template p11.Attributes) (*p11.Object, error) {
	return c.Object(operation, func(w *p11.Writer) {
		w.U64(handle)
		w.Attributes(template)
	})
}

// Destroy deletes an object.
func (c *Client) Destroy(handle uint64) error {
	_, err := c.Do(p11.OpDestroy, func(w *p11.Writer) { w.U64(handle) })
	return err
}
