// Package harden keeps the memory of a process to itself: out of core dumps, of
// other processes of the same user, and of swap.
package harden
