// Package movault is the front for clients of Mo-Vault: encryption as a service with
// JSON and file uploads, on keys that are named by a path and a version.
//
//	POST /gen/key/{rsa|aes}            secret_path, secret_version
//	POST /key/encrypt/{rsa|aes}        … plaintext            → ciphertext (AES: and iv)
//	POST /key/decrypt/{rsa|aes}        … ciphertext (AES: iv) → plaintext
//	POST /key/sign/{message|file}      … data                 → signature
//	POST /key/verify/{message|file}    … data, signature      → Verify Result
//
// GET answers what each is for. Texts are UTF-8, everything binary is hex. Messages are
// JSON, files a multipart form whose file part is "data". RSA encrypts with OAEP on
// SHA-1 and signs with PKCS #1 v1.5 on SHA-256; AES is CBC with PKCS #7 padding.
//
// A key is an object of the HSM token: its label is the path, its CKA_ID the version
// (see api.MoVaultID). It becomes a named key of one mount when it is first used.
//
// Statuses: 200 with the texts of the original, their mistakes included, also where it
// tells that a key exists, that there is no such AES key, or that a key type is unknown.
// Where the original answered 500 or a page of HTML the answer is {"Error": …} with
// 400 what is wrong in a request, 401 no token, 403 a web page of another site,
// 404 no such key or path, 405 the method, 413 a body above 16 MiB, 415 the type of the
// body, 503 sealed or no answer from the HSM token.
//
// Promise: what is wrong with a ciphertext is never told, every failed decryption is
// the same answer; no answer names a key's secret; a body is bounded before it is read,
// and a file is hashed as it comes in.
//
// It trusts the guard. With a token every call but GET / has to show it; without one
// everybody who reaches the listener may use every key. The front acts as one
// identity of the configuration.
package movault
