package cryptoserver

import (
	"bytes"
	"strconv"
)

// maxRequest bounds what the short way takes of a request, head and body.
const maxRequest = 8 << 10

// found is what parse found at the beginning of the bytes that came.
type found uint8

const (
	foundPart  found = iota // it may become a plain request, more is needed
	foundPlain              // a plain request
	foundOther              // something else, which package http is to look at
)

var (
	requestLine = []byte("POST /hmac HTTP/1.1\r\n")
	lineEnd     = []byte("\r\n")
)

// parse looks for a plain request at the beginning of b: the one request line,
// headers without any that changes how the message is framed or answered, a
// Content-Length, and a body that fits into maxRequest. Its form is stricter than
// RFC 9112 asks for: what is plain means the same to package http.
func parse(b []byte) (is found, body []byte, size int) {
	if n := min(len(b), len(requestLine)); !bytes.Equal(b[:n], requestLine[:n]) {
		return foundOther, nil, 0
	}
	at, length, host := len(requestLine), -1, false
	for at < len(b) {
		line, _, whole := bytes.Cut(b[at:], lineEnd)
		if !whole {
			break
		}
		at += len(line) + len(lineEnd)
		if len(line) == 0 {
			return parseBody(b, at, length, host)
		}
		name, value, ok := header(line)
		if !ok {
			return foundOther, nil, 0
		}
		switch {
		case isName(name, "content-length"):
			if length >= 0 {
				return foundOther, nil, 0
			}
			if length = decimal(value); length < 0 {
				return foundOther, nil, 0
			}
		case isName(name, "host"):
			if host || !plainHost(value) {
				return foundOther, nil, 0
			}
			host = true
		case changesFrame(name, value):
			return foundOther, nil, 0
		}
	}
	if len(b) >= maxRequest {
		return foundOther, nil, 0
	}
	return foundPart, nil, 0
}

func parseBody(b []byte, at, length int, host bool) (found, []byte, int) {
	switch size := at + length; {
	case !host, length < 1, size > maxRequest:
		return foundOther, nil, 0
	case len(b) < size:
		return foundPart, nil, 0
	default:
		return foundPlain, b[at:size], size
	}
}

// header splits a line into a name of letters, digits, - and _, and a value of
// visible ASCII and blanks.
func header(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 {
		return nil, nil, false
	}
	for _, c := range name {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return nil, nil, false
		}
	}
	for _, c := range value {
		if (c < ' ' || c > '~') && c != '\t' {
			return nil, nil, false
		}
	}
	return name, bytes.Trim(value, " \t"), true
}

// isName tells whether a text is the given one, which is in small letters.
func isName(name []byte, small string) bool {
	if len(name) != len(small) {
		return false
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != small[i] {
			return false
		}
	}
	return true
}

// decimal reads 1 to 9 digits, -1 if it is something else.
func decimal(value []byte) int {
	if len(value) > 9 {
		return -1
	}
	n, err := strconv.ParseUint(string(value), 10, 32)
	if err != nil || value[0] == '+' {
		return -1
	}
	return int(n)
}

// plainHost tells whether a Host is a name or an address with a port.
func plainHost(value []byte) bool {
	for _, c := range value {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > ':') && c != '-' && c != '.' && c != '[' && c != ']' {
			return false
		}
	}
	return len(value) > 0
}

// changesFrame tells whether a header may change how the message is framed or
// how the connection goes on.
func changesFrame(name, value []byte) bool {
	for _, small := range []string{"transfer-encoding", "expect", "upgrade", "te", "trailer", "proxy-connection", "keep-alive"} {
		if isName(name, small) {
			return true
		}
	}
	return isName(name, "connection") && !isName(value, "keep-alive")
}
