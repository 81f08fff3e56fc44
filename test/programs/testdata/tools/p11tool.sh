# GnuTLS's tool.
export GNUTLS_PIN=$PIN
T="pkcs11:token=claviger"
tool() { p11tool --provider "$M" --batch "$@" 2>&1; }
try() { name=$1; shift; if tool "$@" >log; then echo "$name: done"; else echo "$name: $(tail -1 log)"; fi; }
say "--list-tokens"; tool --list-tokens
say "--list-all"; tool --login --list-all "$T"
say "--list-privkeys"; tool --login --list-privkeys "$T"
say "--list-all-certs"; tool --login --list-all-certs "$T"
say "--export"; for k in "$RSA" "$EC"; do tool --login --export-pubkey "$T;object=$k;type=private" | openssl pkey -pubin -noout && echo "public key"; tool --login --export "$T;object=$k;type=cert" | openssl x509 -noout -subject; done
say "--export-chain"; tool --login --export-chain "$T;object=$EC;type=cert" | grep -c BEGIN
say "--test-sign"; for k in "$RSA" "$EC"; do tool --login --test-sign "$T;object=$k;type=private"; done
say "--test-sign by SHA-512"; for k in "$RSA" "$EC"; do tool --login --test-sign --hash sha512 "$T;object=$k;type=private" || true; done
say "--test-sign by PSS"; tool --login --test-sign --sign-params rsa-pss "$T;object=$RSA;type=private" || true
say "--generate-random"; try "random" --login --generate-random 32 "$T" --outfile random
say "--generate-privkey"
for k in "rsa --bits 2048" "ecdsa --curve secp256r1" "ecdsa --curve secp384r1" "ecdsa --curve secp521r1" "ed25519"; do
	# shellcheck disable=SC2086 # type and size
	try "make $k" --login --generate-privkey $k --label gnutls --id dd01 "$T" --outfile made.pub
	try "sign" --login --test-sign "$T;id=%DD%01;type=private"
	try "delete" --login --delete "$T;id=%DD%01"
done
say "--write"
openssl req -x509 -newkey rsa:2048 -nodes -keyout own.key -subj '/CN=gnutls' -days 2 -out own.crt 2>/dev/null
try "write certificate" --login --write --load-certificate own.crt --label gnutls-cert --id ee01 "$T"
try "write private key" --login --write --load-privkey own.key --label gnutls-key --id ee01 "$T"
try "sign" --login --test-sign "$T;object=gnutls-key;type=private"
try "delete" --login --delete "$T;object=gnutls-key"
try "delete certificate" --login --delete "$T;object=gnutls-cert;type=cert"
