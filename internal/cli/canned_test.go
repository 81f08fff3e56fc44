package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// canned is a server that answers what a script's file "server" says, a line an
// answer: "METHOD URI STATUS BODY". Answers to the same call are used in their
// order, the last one again and again. What it was sent stands in "requests".
type canned struct {
	requests string

	mu      sync.Mutex
	answers map[string][]string // "METHOD URI" → "STATUS BODY"
}

func newCanned(dir string) (*canned, error) {
	s := &canned{requests: filepath.Join(dir, "requests"), answers: map[string][]string{}}
	f, err := os.Open(filepath.Join(dir, "server"))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), " ", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("%q is no answer", lines.Text())
		}
		call := parts[0] + " " + parts[1]
		s.answers[call] = append(s.answers[call], parts[2])
	}
	return s, lines.Err()
}

func (s *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.log(fmt.Sprintf("%s %s %s token=%s\n", r.Method, r.RequestURI, body, r.Header.Get("X-Vault-Token")))
	}
	call := r.Method + " " + r.RequestURI
	all := s.answers[call]
	if err != nil || len(all) == 0 {
		http.Error(w, fmt.Sprintf(`{"errors":["no answer for %s: %v"]}`, call, err), http.StatusNotFound)
		return
	}
	if len(all) > 1 {
		s.answers[call] = all[1:]
	}
	status, answer, _ := strings.Cut(all[0], " ")
	code, err := strconv.Atoi(status)
	if err != nil {
		code = http.StatusInternalServerError
	}
	w.WriteHeader(code)
	io.WriteString(w, answer)
}

func (s *canned) log(line string) error {
	f, err := os.OpenFile(s.requests, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
