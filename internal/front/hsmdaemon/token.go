package hsmdaemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"
)

const (
	tokenSize = 32
	// A token of a file has at least and at most so many bytes.
	minToken, maxLineToken = 16, 4096
)

// LineToken returns the token of the line protocol: what the file holds, or a
// random one of 256 bits that is written there, readable by this user only.
func LineToken(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return newLineToken(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the token of the line protocol: %w", err)
	}
	token := bytes.TrimRight(text, "\r\n")
	if len(token) < minToken || len(token) > maxLineToken || bytes.ContainsAny(token, "\r\n") {
		return nil, fmt.Errorf("the token of the line protocol in %s must be one line of %d to %d bytes", file, minToken, maxLineToken)
	}
	return token, nil
}

func newLineToken(file string) ([]byte, error) {
	secret := make([]byte, tokenSize)
	defer clear(secret)
	rand.Read(secret)
	token := []byte(base64.RawURLEncoding.EncodeToString(secret))
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing the token of the line protocol: %w", err)
	}
	_, err = f.Write(append(bytes.Clone(token), '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("writing the token of the line protocol: %w", err)
	}
	return token, nil
}

// Attempts to tell a token, and the time between them.
const (
	tellAttempts = 5
	tellPause    = 3 * time.Second
)

// TellToken posts {"token": "…"} to url, a few times until it is answered by 2xx.
// It follows no redirect: the token goes where the administrator said.
func TellToken(ctx context.Context, url string, token []byte) error {
	client := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	body, err := json.Marshal(map[string]string{"token": string(token)})
	if err != nil {
		return fmt.Errorf("encoding the token: %w", err)
	}
	for attempt := 1; ; attempt++ {
		if err = post(ctx, client, url, body); err == nil || attempt == tellAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tellPause):
		}
	}
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("telling the token: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("telling the token: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("telling the token: %s answers %s", url, resp.Status)
	}
	return nil
}
