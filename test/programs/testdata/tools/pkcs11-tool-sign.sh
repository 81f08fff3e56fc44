# Signatures of every mechanism: made by the token, checked by OpenSSL and by the
# token, which must refuse them for another message.
tool() { pkcs11-tool --module "$M" --token-label claviger --login --pin env:PIN "$@"; }
outcome() { grep -o -e 'Signature is valid' -e 'Invalid signature' -e 'CKR_[A-Z_]*' log | head -1 || echo 'no answer'; }
pem() { tool --read-object --type pubkey --label "$1" --output-file "$1.der" && openssl pkey -pubin -inform DER -in "$1.der" -out "$1.pem"; }

# check MECHANISM KEY MESSAGE OPTION… -- OPENSSL… signs, verifies, and prints what came of it.
check() {
	mechanism=$1 key=$2 message=$3; shift 3
	options=(); while [ "$1" != -- ]; do options+=("$1"); shift; done; shift
	name="$mechanism of $message${options:+ ${options[*]}}"
	rm -f sig
	if ! tool --sign -m "$mechanism" "${options[@]}" --id "$key" --input-file "$message" --output-file sig >log 2>&1; then
		echo "$name: not signed: $(outcome)"; return
	fi
	result="signed"
	"$@" >log 2>&1 && result="$result, OpenSSL agrees" || result="$result, OpenSSL refuses"
	tool --verify -m "$mechanism" "${options[@]}" --id "$key" --input-file "$message" --signature-file sig >log 2>&1 || true
	result="$result, $(outcome)"
	head -c "$(stat -c %s "$message")" /dev/zero >other
	tool --verify -m "$mechanism" "${options[@]}" --id "$key" --input-file other --signature-file sig >log 2>&1 || true
	echo "$name: $result; other message: $(outcome)"
}

pem "$RSA" && pem "$EC"
printf 'Meet me at dawn.' >message
for h in sha1 sha224 sha256 sha384 sha512; do openssl dgst -$h -binary -out $h.bin message; done

say "RSA"
cat sha256.bin >digest
check RSA-PKCS "$RSA_ID" digest -- openssl pkeyutl -verify -pubin -inkey "$RSA.pem" -in digest -sigfile sig
for h in 1 224 256 384 512; do
	check SHA$h-RSA-PKCS "$RSA_ID" message -- openssl dgst -sha$h -verify "$RSA.pem" -signature sig message
done
for h in 1 224 256 384 512; do
	name=SHA-1; [ $h = 1 ] || name=SHA$h
	check RSA-PKCS-PSS "$RSA_ID" sha$h.bin --hash-algorithm "$name" --mgf MGF1-SHA$h -- \
		openssl pkeyutl -verify -pubin -inkey "$RSA.pem" -in sha$h.bin -sigfile sig -pkeyopt digest:sha$h -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:auto
	check SHA$h-RSA-PKCS-PSS "$RSA_ID" message -- openssl dgst -sha$h -sigopt rsa_padding_mode:pss -verify "$RSA.pem" -signature sig message
done
check SHA256-RSA-PKCS-PSS "$RSA_ID" message --salt-len 0 -- openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:0 -verify "$RSA.pem" -signature sig message
say "ECDSA"
for h in 1 224 256 384 512; do
	check ECDSA "$EC_ID" sha$h.bin --signature-format openssl -- openssl pkeyutl -verify -pubin -inkey "$EC.pem" -in sha$h.bin -sigfile sig
	check ECDSA-SHA$h "$EC_ID" message --signature-format openssl -- openssl dgst -sha$h -verify "$EC.pem" -signature sig message
done
