// Baseline is the least that a Go server must do for an encryption request: read
// JSON, seal with AES-256-GCM in memory, answer JSON. No client tokens, no
// policies, no audit record, no key store. Claviger is measured beside it.
package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
)

func main() {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		log.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/v1/transit/keys/", func(w http.ResponseWriter, r *http.Request) {})
	http.HandleFunc("/v1/transit/encrypt/", func(w http.ResponseWriter, r *http.Request) { encrypt(w, r, aead) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + l.Addr().String())
	log.Fatal(http.Serve(l, nil))
}

func encrypt(w http.ResponseWriter, r *http.Request, aead cipher.AEAD) {
	var req struct {
		Plaintext []byte `json:"plaintext"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	nonce := make([]byte, 12, 12+len(req.Plaintext)+16)
	rand.Read(nonce)
	sealed := aead.Seal(nonce, nonce, req.Plaintext, nil)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"data": map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(sealed), "key_version": 1},
	})
}
