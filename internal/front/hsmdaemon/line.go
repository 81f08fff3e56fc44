package hsmdaemon

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/conns"
	"github.com/claviger/claviger/internal/fault"
)

// The line protocol: lines end in CRLF (LF alone is taken as well). The client
// sends the token; the daemon answers OK, or ERROR and ends the connection. Then,
// as often as the client likes, it sends a ciphertext in base64 and gets the
// plaintext in base64, or ERROR with a reason. Base64 has no blank, so an error
// is told from an answer.
const (
	lineOK    = "OK"
	lineError = "ERROR "

	// maxLine bounds a line, in bytes.
	maxLine = 16 << 10
)

// Times that a client has.
const (
	tokenTime = 10 * time.Second // to send the token
	idleTime  = 2 * time.Minute  // to send the next line
	writeTime = 10 * time.Second // to take an answer
)

// LineServer serves the line protocol.
type LineServer struct {
	*conns.Server
	front *Front
	token []byte
	key   string
}

// Lines makes the server of the line protocol: token is what clients send first,
// key the name of the key that decrypts.
func (f *Front) Lines(token []byte, key string) *LineServer {
	s := &LineServer{front: f, token: token, key: key}
	s.Server = conns.New("line", s.talk, f.log)
	return s
}

// talk is one connection.
func (s *LineServer) talk(conn net.Conn) {
	r := bufio.NewReaderSize(conn, maxLine)
	token, err := s.line(conn, r, tokenTime)
	if err != nil {
		s.refuse(conn, err)
		return
	}
	if subtle.ConstantTimeCompare(token, s.token) != 1 || len(s.token) == 0 {
		s.front.log.Warn("token refused", "reason", "wrong token on the line protocol", "remote", conn.RemoteAddr().String())
		s.refuse(conn, fault.New(fault.Denied, "wrong token"))
		return
	}
	for answer := lineOK; s.send(conn, answer) && s.Busy(conn, false); {
		line, err := s.line(conn, r, idleTime)
		if err != nil {
			s.refuse(conn, err)
			return
		}
		if !s.Busy(conn, true) {
			return
		}
		answer = s.answer(conn, line)
	}
}

// line reads a line without its end. The error is io.EOF if the client is done.
func (s *LineServer) line(conn net.Conn, r *bufio.Reader, limit time.Duration) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil || s.Closing() {
		return nil, io.EOF
	}
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fault.New(fault.TooLarge, "the line is longer than %d bytes", maxLine)
	case err != nil:
		return nil, io.EOF
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// answer decrypts one line.
func (s *LineServer) answer(conn net.Conn, line []byte) string {
	ciphertext := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(ciphertext, line)
	if err != nil || n == 0 {
		return lineError + "the line must be a ciphertext in base64"
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.front.o.Timeout)
	defer cancel()
	plaintext, err := s.front.decrypt(ctx, conn.RemoteAddr().String(), s.key, ciphertext[:n])
	if err != nil {
		s.front.log.Error("request failed", "key", s.key, "error", err.Error())
		return lineError + oneLine(fault.Message(err))
	}
	defer clear(plaintext)
	return base64.StdEncoding.EncodeToString(plaintext)
}

// refuse says why the connection ends, unless the client has ended it.
func (s *LineServer) refuse(conn net.Conn, err error) {
	if err != io.EOF {
		s.send(conn, lineError+oneLine(fault.Message(err)))
	}
}

func (s *LineServer) send(conn net.Conn, line string) bool {
	if conn.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
		return false
	}
	_, err := io.WriteString(conn, line+"\r\n")
	return err == nil
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
