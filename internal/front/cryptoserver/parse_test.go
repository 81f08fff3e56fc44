package cryptoserver

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

const plainHead = "POST /hmac HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: python-requests/2.28.1\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nContent-Length: 11\r\n\r\n"

func TestParsePlain(t *testing.T) {
	t.Parallel()
	text := plainHead + "hello world" + "POST /hmac"
	for n := range len(text) {
		is, body, size := parse([]byte(text[:n]))
		if whole := len(plainHead) + 11; n < whole && is != foundPart || n >= whole && (is != foundPlain || string(body) != "hello world" || size != whole) {
			t.Fatalf("%d bytes: %v %q %d", n, is, body, size)
		}
	}
}

func TestParseOther(t *testing.T) {
	t.Parallel()
	for _, change := range [][2]string{
		{"POST", "GET"}, {"POST", "post"}, {"/hmac", "/hmac?x"}, {"/hmac", "/hmac/"}, {"/hmac", "//hmac"}, {"1.1", "1.0"}, {"POST ", "POST  "},
		{"11", "0"}, {"11", "+11"}, {"11", "-1"}, {"11", "0x0b"}, {"11", ""}, {"11", "11, 11"}, {"11", "11\r\nContent-Length: 11"},
		{"11", "1111111111"}, {"11", "9000"}, {"Content-Length: 11\r\n", ""}, {"Host: localhost:8080\r\n", ""},
		{"Accept: */*", "Host: x"}, {"localhost:8080", ""}, {"localhost:8080", "a/b"}, {"localhost:8080", "a b"},
		{"Accept: */*", "Transfer-Encoding: chunked"}, {"Accept: */*", "Expect: 100-continue"}, {"keep-alive", "close"},
		{"keep-alive", "upgrade"}, {"Accept: */*", "Upgrade: h2c"}, {"Accept: */*", "TE: trailers"}, {"Accept: */*", "Trailer: X"},
		{"Accept: */*", " folded"}, {"Accept:", "Accept :"}, {"Accept:", "Acc ept:"}, {"Accept:", "Acc\x00ept:"}, {"*/*", "\x00"}, {"*/*", "\x7f"},
		{"*/*", "a\rb"}, {"*/*", "a\nb"}, {"*/*", "\xff"}, {"Accept: */*", ": x"}, {"Accept: */*", "nothing"},
	} {
		text := strings.Replace(plainHead, change[0], change[1], 1)
		if text == plainHead {
			t.Fatalf("%q is not there", change[0])
		}
		if is, _, _ := parse([]byte(text + strings.Repeat("x", 64))); is != foundOther {
			t.Errorf("%q for %q: %v", change[1], change[0], is)
		}
	}
	if is, _, _ := parse([]byte(strings.Replace(plainHead, "*/*", strings.Repeat("x", maxRequest), 1))); is != foundOther {
		t.Errorf("a large head: %v", is)
	}
}

// FuzzParse: what is plain means the same to package http, to the last byte.
func FuzzParse(f *testing.F) {
	f.Add([]byte(plainHead + "hello world"))
	f.Add([]byte("POST /hmac HTTP/1.1\r\nhost: [::1]:80\r\ncontent-length:\t1 \r\nX_a: b\r\n\r\nx"))
	f.Add([]byte("POST /hmac HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		is, body, size := parse(b)
		if is != foundPlain {
			return
		}
		r := bufio.NewReader(bytes.NewReader(b[:size]))
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		same, err := io.ReadAll(req.Body)
		if err != nil || !bytes.Equal(same, body) || len(body) == 0 {
			t.Errorf("%q: body %q, not %q, %v", b, body, same, err)
		}
		if req.Method != "POST" || req.URL.Path != "/hmac" || req.URL.RawQuery != "" || req.Close || req.Host == "" || req.Header.Get("Expect") != "" || len(req.TransferEncoding) > 0 {
			t.Errorf("%q: %+v", b, req)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("%q: something is left", b)
		}
	})
}
