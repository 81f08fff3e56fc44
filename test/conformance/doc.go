// Package conformance holds exchanges with a server that has Vault's API, and
// plays them: plain HTTP requests, each with the answer that Claviger gives, in
// files that a person can read and review (testdata/exchanges). Any server can be
// held against them; where another one is known to answer differently, a file
// says so, with the reason (testdata/differences.txt).
//
// go test ./test/conformance starts servers of its own. It plays against another
// one if it is told of it:
//
//	CLAVIGER_CONFORMANCE_ADDR        its address, such as http://127.0.0.1:8200
//	CLAVIGER_CONFORMANCE_TOKEN       a root token of it, or
//	CLAVIGER_CONFORMANCE_TOKEN_FILE  the file that it stands in
//	CLAVIGER_CONFORMANCE_SERVER      its name in differences.txt; without one no
//	                                 difference is expected
//
// The exchanges make mounts, policies, roles and client tokens, whose names begin
// with "conformance-", and remove them. They rotate the storage key, change its rules
// and the times of client tokens and set them back, begin and forget a root token, and
// ask an active server to step down. A server whose content matters is no place for
// them.
package conformance
