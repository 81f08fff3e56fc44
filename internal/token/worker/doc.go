// Package worker makes a token of any PKCS#11 module, each of which runs in
// processes of its own: a module that crashes, hangs or leaks costs a retry,
// and several processes are faster than several threads.
//
// # Promises
//
// The secret of a key is neither in the server's nor in a worker's memory but
// inside the module; CKA_SENSITIVE and CKA_PRIVATE are true from its birth, and
// nothing is extractable but a wrapped key between its birth and its one
// wrapping, and a KEK that was made transferable. A worker that dies or makes no
// progress is killed and replaced, and its calls are repeated with another
// within each caller's deadline. A PIN that was refused is never tried again.
//
// # Trust
//
// The module is trusted with the keys and with the worker's memory, and with
// nothing else: a worker has no new privileges, no core dumps, is not dumpable,
// and reaches only the files that the module needs (Landlock, where the kernel
// has it). The server does not trust what a worker sends: it parses it.
//
// # The two sides
//
// The server's side: Device (device.go), hsm (token.go), key (key.go, plan.go),
// pool (pool.go) and proc (proc.go). The process's side: process (process.go)
// with its control (login.go), hot lane (hot.go) and slow lane (slow.go). The hot
// lane is a pkcs11.Lane, which performs operations without a way through Go. Between
// them lie the frames of wire.go, wire_do.go and wire_control.go.
//
// The server owns the state. It tells a worker to load a key into a slot of its
// table, in front of the first operation that needs it and without waiting for
// an answer, and keeps a list of what each worker has loaded. A new process
// begins with an empty table, so no handle outlives its process.
package worker
