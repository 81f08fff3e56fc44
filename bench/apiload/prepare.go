package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// prepare makes the key and what the operation needs of it (a ciphertext to
// decrypt, a signature to verify) and returns path and body of the request to
// repeat. A nil body means GET.
func prepare(o options) (path string, body []byte, err error) {
	if o.op == "echo" {
		return "sys/seal-status", nil, nil
	}
	if o.op == "random" {
		body, err = json.Marshal(map[string]any{"bytes": o.payload})
		return o.mount + "/random", body, err
	}
	create := map[string]any{"type": o.keyType}
	if o.protection != "" {
		create["protection"] = o.protection
	}
	if _, err := call(o, "keys/"+o.key, create); err != nil {
		return "", nil, fmt.Errorf("creating the key: %w", err)
	}
	item, err := prepareItem(o)
	if err != nil {
		return "", nil, err
	}
	body, err = json.Marshal(batched(o, item))
	return o.mount + "/" + pathOf(o), body, err
}

func prepareItem(o options) (map[string]any, error) {
	payload := make([]byte, o.payload)
	rand.Read(payload)
	switch o.op {
	case "encrypt":
		return map[string]any{"plaintext": payload}, nil
	case "decrypt", "rewrap":
		data, err := call(o, "encrypt/"+o.key, map[string]any{"plaintext": payload})
		if err != nil {
			return nil, fmt.Errorf("encrypting: %w", err)
		}
		return map[string]any{"ciphertext": data["ciphertext"]}, nil
	case "sign", "hmac":
		return map[string]any{"input": payload}, nil
	case "verify":
		sign := map[string]any{"input": payload}
		if strings.HasPrefix(o.keyType, "rsa") {
			sign["signature_algorithm"] = "pkcs1v15"
		}
		data, err := call(o, "sign/"+o.key, sign)
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		return map[string]any{"input": payload, "signature": data["signature"]}, nil
	}
	return nil, fmt.Errorf("-op %q is none of encrypt, decrypt, rewrap, sign, verify, hmac, random, echo", o.op)
}

func pathOf(o options) string { return o.op + "/" + o.key }

func batched(o options, item map[string]any) map[string]any {
	req := item
	if o.batch > 1 {
		items := make([]any, o.batch)
		for i := range items {
			items[i] = item
		}
		req = map[string]any{"batch_input": items}
	}
	if (o.op == "sign" || o.op == "verify") && strings.HasPrefix(o.keyType, "rsa") {
		req["signature_algorithm"] = "pkcs1v15"
	}
	return req
}

var httpClient = http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as load.dial
}}

// call does one request of the preparation and returns the answer's data.
func call(o options, path string, in any) (map[string]any, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, strings.TrimSuffix(o.addr, "/")+"/v1/"+o.mount+"/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", o.token)
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("status %d: %.200s", resp.StatusCode, answer)
	}
	if len(answer) == 0 {
		return nil, nil
	}
	var envelope struct{ Data map[string]any }
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %w", err)
	}
	return envelope.Data, nil
}
