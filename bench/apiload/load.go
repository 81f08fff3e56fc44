package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// measure prepares the server, then sends the prepared request.
func measure(o options) (*Result, error) {
	u, err := url.Parse(o.addr)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("-addr %q is no http or https address", o.addr)
	}
	request, err := prepared(u, o)
	if err != nil {
		return nil, err
	}
	l := &load{url: u, request: request}
	if err := l.run(o.connections, o.warmup); err != nil {
		return nil, err
	}
	cpu := newCPU(o.serverPID)
	start := time.Now()
	if err := l.run(o.connections, o.duration); err != nil {
		return nil, err
	}
	seconds := time.Since(start).Seconds()
	res := &Result{
		Op: o.op, Type: o.keyType, Protection: o.protection, Payload: o.payload, Batch: o.batch,
		Connections: o.connections, Seconds: seconds, Requests: len(l.times), Errors: int(l.errors.Load()),
		Rate: float64(len(l.times)) / seconds, Items: float64(len(l.times)*o.batch) / seconds,
		ServerCPU: cpu.cores(seconds), ServerRSS: cpu.rss(), FirstError: l.firstError,
	}
	if n := len(l.times); n > 0 {
		slices.Sort(l.times)
		us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
		res.P50, res.P99, res.Max = us(l.times[n/2]), us(l.times[n*99/100]), us(l.times[n-1])
	}
	return res, nil
}

func prepared(u *url.URL, o options) ([]byte, error) {
	if o.op == opHSMDaemon {
		return prepareHSMDaemon(u, o)
	}
	if isPKI(o.op) {
		return preparePKI(u, o)
	}
	path, body, err := prepare(o)
	if err != nil {
		return nil, err
	}
	return rawRequest(u, o, path, body), nil
}

func rawRequest(u *url.URL, o options, path string, body []byte) []byte {
	method := "POST"
	if body == nil {
		method = "GET"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s /v1/%s HTTP/1.1\r\nHost: %s\r\nX-Vault-Token: %s\r\nX-Vault-Request: true\r\n", method, path, u.Host, o.token)
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// load sends one request again and again.
type load struct {
	url     *url.URL
	request []byte

	errors     atomic.Int64
	mu         sync.Mutex // of what follows
	times      []time.Duration
	firstError string
}

func (l *load) run(connections int, d time.Duration) error {
	l.times, l.firstError = nil, ""
	l.errors.Store(0)
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	failed := make(chan error, connections)
	for range connections {
		wg.Go(func() {
			if err := l.connection(end); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (l *load) connection(end time.Time) error {
	conn, err := l.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	var times []time.Duration
	for now := time.Now(); now.Before(end); {
		if _, err := conn.Write(l.request); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		status, body, err := readResponse(r)
		if err != nil {
			return fmt.Errorf("receiving: %w", err)
		}
		after := time.Now()
		times = append(times, after.Sub(now))
		now = after
		if status >= 300 {
			l.fail(status, body)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, times...)
	return nil
}

func (l *load) dial() (net.Conn, error) {
	if l.url.Scheme == "https" {
		return tls.Dial("tcp", l.url.Host, &tls.Config{InsecureSkipVerify: true}) // a load tool trusts what it is pointed at
	}
	return net.Dial("tcp", l.url.Host)
}

func (l *load) fail(status int, body []byte) {
	l.errors.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.firstError == "" {
		l.firstError = fmt.Sprintf("status %d: %.200s", status, body)
	}
}

// readResponse reads one answer; the body is shown of errors only.
func readResponse(r *bufio.Reader) (status int, body []byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, errors.New("no HTTP answer")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("no HTTP answer: %w", err)
	}
	length := 0
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := header(line, "Content-Length:"); ok {
			if length, err = strconv.Atoi(value); err != nil {
				return 0, nil, fmt.Errorf("content length: %w", err)
			}
		}
		if _, ok := header(line, "Transfer-Encoding:"); ok {
			length = -1
		}
	}
	if length < 0 {
		return status, nil, skipChunks(r)
	}
	if status < 300 {
		_, err = r.Discard(length)
		return status, nil, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return status, body, err
}

func header(line []byte, name string) (string, bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return "", false
	}
	return string(bytes.TrimSpace(line[len(name):])), true
}

func skipChunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return fmt.Errorf("chunk size: %w", err)
		}
		if _, err := r.Discard(int(n) + 2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}
