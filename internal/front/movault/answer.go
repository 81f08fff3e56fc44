package movault

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// answer is an object of JSON.
type answer map[string]any

// The texts of the original. Its clients look for some of them, so the mistakes stay.
var (
	helpKeys   = answer{"Info": "we only support rsa & aes, please use post method"}
	helpSign   = answer{"Info": "Sign only support rsa , please use post method"}
	keyExists  = answer{"Info": "Key was exsits"}
	noAESKey   = answer{"Info": "Key not was exsits"}
	notAType   = answer{"Error": "key type was not supported \n"}
	resultName = "Verify Result"
)

func sendJSON(w http.ResponseWriter, status int, a answer) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(a); err != nil {
		panic(err) // strings and booleans always encode
	}
	send(w, status, "application/json", body.Bytes())
	clear(body.Bytes()) // a plaintext may be in it
}

func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may have gone away; there is nobody left to tell.
	_, _ = w.Write(body)
}
