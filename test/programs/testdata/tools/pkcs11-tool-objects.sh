# Making, writing, changing, reading and deleting objects.
tool() { pkcs11-tool --module "$M" --token-label claviger --login --pin env:PIN "$@"; }
outcome() { grep -o 'CKR_[A-Z_]*' log | head -1 || tail -1 log; }
try() { name=$1; shift; if tool "$@" >log 2>&1; then echo "$name: done"; else echo "$name: $(outcome)"; fi; }
say "random"
tool --generate-random 64 --output-file random >log 2>&1 && stat -c '%s bytes' random
try "a million bytes" --generate-random 1000000 --output-file random
say "hash"
printf abc >abc
for h in MD5 SHA-1 SHA224 SHA256 SHA384 SHA512; do
	if tool --hash -m $h --input-file abc --output-file sum >log 2>&1; then
		openssl dgst "-$(echo $h | tr -d - | tr A-Z a-z)" -binary abc | cmp - sum && echo "$h: right"
	else
		echo "$h: $(outcome)"
	fi
done
say "pairs"
for k in rsa:1024 rsa:2048 rsa:3072 EC:prime256v1 EC:secp384r1 EC:secp521r1 EC:secp224r1 EC:secp256k1 EC:edwards25519; do
	try "make $k" --keypairgen --key-type $k --label made-pair --id aa01
	try "delete private" --delete-object --type privkey --id aa01
	try "delete public" --delete-object --type pubkey --id aa01
done
say "data"
try "write data" --write-object abc --type data --label note --application-label example
rm -f out; try "read data" --read-object --type data --label note --application-label example --output-file out; cmp abc out && echo "same"
try "delete data" --delete-object --type data --label note --application-label example
try "read data again" --read-object --type data --label note --application-label example --output-file out
say "certificate"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -subj '/CN=tools' -days 2 -outform DER -out own.crt 2>/dev/null
try "write certificate" --write-object own.crt --type cert --label tools --id bb01
tool -O --type cert --id bb01
rm -f out; try "read certificate" --read-object --type cert --id bb01 --output-file out; cmp own.crt out && echo "same"
try "change its ID" --type cert --id bb01 --set-id bb02
try "read by the new ID" --read-object --type cert --id bb02 --output-file out
try "delete certificate" --delete-object --type cert --id bb02
say "private key"
openssl pkcs8 -topk8 -nocrypt -in own.key -outform DER -out own.der
try "write private key" --write-object own.der --type privkey --label brought --id cc01 --usage-sign
try "change its ID" --type privkey --id cc01 --set-id cc02
openssl dgst -sha256 -binary -out digest abc
try "sign" --sign -m ECDSA --id cc02 --input-file digest --output-file sig --signature-format openssl
openssl pkey -in own.key -pubout -out own.pub; openssl pkeyutl -verify -pubin -inkey own.pub -in digest -sigfile sig
try "delete private key" --delete-object --type privkey --id cc02
say "login"
tool --login --pin wrong-pin -O >log 2>&1 || outcome
