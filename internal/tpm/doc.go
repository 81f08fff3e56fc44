// Package tpm opens a TPM 2.0, seals small secrets to it, and moves keys from one TPM
// to another or from software into one.
//
// Promise: a sealed secret leaves the TPM only for the right password and, if
// that was asked for, in the recorded state of the platform (PCRs). On the bus
// it is encrypted under a session key that only the TPM of the sealing can know,
// so a device in between learns nothing. A wrong password is tried once a call
// and never again by itself: a TPM counts failures and locks. Nothing stays in
// the TPM: every session and object that a call loads it flushes.
//
// A key that moves is wrapped for one storage key, whose name the caller compares; an
// altered or misdirected duplicate gives no key, and is told apart from a wrong inner
// key by nothing.
//
// It trusts the device for what it is made for, and the sealed file for nothing:
// a file that was altered does not load.
package tpm
