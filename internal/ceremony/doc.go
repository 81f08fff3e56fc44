// Package ceremony is acts of custodians: each is described beforehand by one
// strict YAML file and proved afterwards by one signed transcript. What is done is
// an Act of some kind; package ceremony/ca has those of certificate authorities.
//
// A ceremony goes through fixed steps:
//
//	document      read strictly; what is unknown, doubled or missing is an error
//	plan          the act says, byte for byte, what will be signed
//	confirmation  of as many custodians as the document demands, each bound to
//	              document and plan
//	intent        the transcript of all that is on the disk before a key is used
//	signature     by keys of the HSM token, verified before anything is written
//	transcript    its lines chained by hashes, signed by a key of the HSM token
//
// Promise: nothing is signed without enough confirmations of exactly this; no file
// is written over; a ceremony that ends before the intent leaves neither a file nor
// a key behind, and one that fails later says so in its transcript.
//
// It trusts the machine on which it runs and its screen, the token's driver, and
// that those who type are who they say: a confirmation proves attention, not identity.
package ceremony
