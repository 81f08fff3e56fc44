# Decryption and key agreement, beside OpenSSL, and secret keys.
tool() { pkcs11-tool --module "$M" --token-label claviger --login --pin env:PIN "$@"; }
code() { grep -o 'CKR_[A-Z_]*' log | head -1 || echo 'no code'; }
pem() { tool --read-object --type pubkey --label "$1" --output-file "$1.der" && openssl pkey -pubin -inform DER -in "$1.der" -out "$1.pem"; }
pem "$RSA" && pem "$EC"
printf 'Meet me at dawn.' >message

# try NAME OPTION… decrypts the file secret and prints what came of it.
try() {
	name=$1; shift
	rm -f plain
	if tool --decrypt --id "$RSA_ID" --input-file secret --output-file plain "$@" >log 2>&1; then
		cmp -s plain message && echo "$name: decrypted" || echo "$name: decrypted to something else"
	else
		echo "$name: $(code)"
	fi
}

say "RSA"
openssl pkeyutl -encrypt -pubin -inkey "$RSA.pem" -in message -out secret
try RSA-PKCS -m RSA-PKCS
for h in 1 224 256 384 512; do
	name=SHA-1; [ $h = 1 ] || name=SHA$h
	openssl pkeyutl -encrypt -pubin -inkey "$RSA.pem" -in message -out secret -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha$h -pkeyopt rsa_mgf1_md:sha$h
	try "RSA-PKCS-OAEP with $name" -m RSA-PKCS-OAEP --hash-algorithm "$name" --mgf MGF1-SHA$h
done
head -c "$(stat -c %s secret)" /dev/zero >zero; cp zero secret
try "RSA-PKCS-OAEP of no ciphertext" -m RSA-PKCS-OAEP --hash-algorithm SHA-1 --mgf MGF1-SHA1

say "ECDH1-DERIVE"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out peer.key 2>/dev/null
openssl pkey -in peer.key -pubout -outform DER -out peer.der
openssl pkeyutl -derive -inkey peer.key -peerkey "$EC.pem" -out want
# derive NAME OPTION… prints whether the secret is the one that OpenSSL finds.
derive() {
	name=$1; shift
	if tool --derive -m ECDH1-DERIVE --input-file peer.der --output-file got "$@" >log 2>&1; then
		cmp -s want got && echo "$name: OpenSSL's secret" || echo "$name: another secret than OpenSSL's"
	else
		echo "$name: $(code)"
	fi
}
derive "key for signatures" --id "$EC_ID"
tool --keypairgen --key-type EC:prime256v1 --usage-derive --label made-ecdh --id ec01 >log 2>&1 && echo "made" || echo "not made: $(code)"
pem made-ecdh
openssl pkeyutl -derive -inkey peer.key -peerkey made-ecdh.pem -out want
derive "key for derivation" --id ec01
tool --delete-object --type privkey --id ec01 >log 2>&1 && echo "deleted" || echo "not deleted: $(code)"

say "AES"
tool --keygen --key-type AES:32 --label made-aes --id a5 --sensitive >log 2>&1 && echo "made" || echo "not made: $(code)"
printf 'Meet me at noon' >odd
for m in AES-ECB AES-CBC AES-CBC-PAD; do
	input=message; [ $m != AES-CBC-PAD ] || input=odd
	iv=(); [ $m = AES-ECB ] || iv=(--iv 000102030405060708090a0b0c0d0e0f)
	rm -f secret plain
	if tool --encrypt -m $m "${iv[@]}" --id a5 --input-file $input --output-file secret >log 2>&1 &&
		tool --decrypt -m $m "${iv[@]}" --id a5 --input-file secret --output-file plain >log 2>&1; then
		cmp -s plain $input && echo "$m: encrypted and decrypted" || echo "$m: decrypted to something else"
	else
		echo "$m: $(code)"
	fi
done
tool --delete-object --type secrkey --id a5 >log 2>&1 && echo "deleted" || echo "not deleted: $(code)"
