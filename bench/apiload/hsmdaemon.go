package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// opHSMDaemon decrypts through the HTTP API of hsmdaemon, with a JWT signed with
// the secret in the variable HSMDAEMON_SECRET.
const opHSMDaemon = "hsmdaemon"

// prepareHSMDaemon makes a key pair and returns the request that decrypts a file
// key of 32 bytes with it.
func prepareHSMDaemon(u *url.URL, o options) ([]byte, error) {
	token := hsmdaemonToken(os.Getenv("HSMDAEMON_SECRET"))
	req, err := http.NewRequest(http.MethodPost, strings.TrimSuffix(o.addr, "/")+"/keys/new", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("making a key: status %d: %.200s", resp.StatusCode, body)
	}
	var pair struct{ PublicKey, PrivateKeyID string }
	if err := json.Unmarshal(body, &pair); err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %w", err)
	}
	ciphertext, err := encryptTo(pair.PublicKey)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /decrypt/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		pair.PrivateKeyID, u.Host, token, len(ciphertext), ciphertext)
	return b.Bytes(), nil
}

func encryptTo(public string) ([]byte, error) {
	block, _ := pem.Decode([]byte(public))
	if block == nil {
		return nil, errors.New("the public key is no PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pair, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the public key is not RSA")
	}
	//lint:ignore SA1019 it is what the daemon's clients encrypt with
	return rsa.EncryptPKCS1v15(rand.Reader, pair, []byte("a file key that has 32 bytes, so"))
}

// hsmdaemonToken is good for an hour.
func hsmdaemonToken(secret string) string {
	now := time.Now().Unix()
	part := func(format string, args ...any) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, format, args...))
	}
	signed := part(`{"typ":"JWT","alg":"HS256"}`) + "." + part(`{"iss":"load","aud":"hsmdaemon","exp":%d,"iat":%d}`, now+3600, now)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
