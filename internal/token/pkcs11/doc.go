// Package pkcs11 is the binding to a PKCS#11 v2.40 module, the only cgo of
// Claviger. It offers what the worker process needs and nothing else.
//
// Promise: no Go pointer is kept by the module after a call; a failed call is an
// *Error that names the C function and the CKR code. It trusts the module with
// the memory of the process, which is why only a worker process uses it.
//
// Operations on keys come in over a Lane, which performs them in C and leaves all
// other frames to Go.
//
// A session must be used by one goroutine at a time, and Finalize must not run
// beside any other call: modules crash on both.
package pkcs11
