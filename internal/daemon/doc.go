// Package daemon is what the program's daemons (server, unsealer, agent) have in
// common: sockets of their own, the word to systemd, and whom they trust on their
// way to a server.
package daemon
