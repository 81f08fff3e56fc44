// Package vault is the front that speaks Vault's HTTP API: it turns an HTTP
// request into a guard.Request and a guard.Answer into HTTP and JSON.
//
// It promises that whatever arrives gets an answer: input that is wrong a 4xx
// that says what is wrong and what would be right, and that no input makes it
// use more memory than a small multiple of the body, nest deeper than the
// limit, or panic past the handler. It decides nothing about rights and knows
// no operation: the request and answer types come with the guard, and their
// JSON plans are made from the types' tags.
//
// It trusts the Door alone. Bodies are read and parsed only when the guard asks
// for them, that is after the caller's rights are known. What it hands to an
// operation is never reused by it, so that an operation that outlives its
// deadline can still hold its request; the buffers that bodies are read into and
// answers are built in are reused, and wiped before.
package vault
