// Package programs tests other people's programs with keys of Claviger, through
// the PKCS#11 module: each guide for a program in docs/guides is run as it
// stands there, with paths, ports and tokens of the test. The same is done with
// SoftHSM2's own module, which says what the program does without Claviger.
//
// Every run uses RSA-2048 and P-256 and few repetitions. With
// CLAVIGER_TEST_FULL=1 every kind of key, every way to the server and the long
// fault tests are run.
package programs
