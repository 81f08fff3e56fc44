// Package server puts a configuration together into a running server. It is
// the only place that knows all drivers and services; nothing registers itself.
//
// Order of things: the store is opened and the listeners serve at once, sealed.
// When custody has the HSM token open it hands it over with the storage key;
// then the records open, the audit log starts, and the services work. Sealing
// takes the same steps back.
package server
