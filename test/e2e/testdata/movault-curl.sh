# The calls that Mo-Vault's description shows, one after the other, with
# ciphertext and signature of the answers before. $at is the server.
set -eu
json() { curl --silent --show-error --header "Content-Type: application/json" --request POST --data "$2" "$at$1"; }
value() { sed -n 's/.*"'"$1"'": *"\([0-9a-f]*\)".*/\1/p'; }

json /gen/key/rsa '{"secret_path":"random_test/rsa", "secret_version":"1"}'
json /gen/key/rsa '{"secret_path":"random_test/rsa", "secret_version":"1"}'
json /gen/key/rsa '{"secret_path":"random_test/rsa", "secret_version":"2"}'

key='"secret_path":"random_test/rsa", "secret_version":"2"'
first=$(json /key/encrypt/rsa "{$key,\"plaintext\":\"you are handsome man\" }" | value ciphertext)
second=$(json /key/encrypt/rsa "{$key,\"plaintext\":\"you are handsome man\" }" | value ciphertext)
[ ${#first} = 512 ] && [ ${#second} = 512 ] && [ "$first" != "$second" ]
json /key/decrypt/rsa "{$key, \"ciphertext\":\"$first\"}"
json /key/decrypt/rsa "{$key, \"ciphertext\":\"$second\"}"

signature=$(json /key/sign/message "{$key,\"data\":\"you are handsome man\" }" | value signature)
json /key/verify/message "{$key,\"data\":\"you are handsome man\",\"signature\":\"$signature\" }"
json /key/verify/message "{$key,\"data\":\"you are someone else\",\"signature\":\"$signature\" }"

printf 'you are handsome man' > test.txt
file() { curl --silent --show-error -F "data=@test.txt" -F "secret_path=random_test/rsa" -F "secret_version=2" "$@"; }
of_file=$(file "${at#http://}/key/sign/file" | value signature)
[ "$of_file" = "$signature" ]
file -F "signature=$of_file" "${at#http://}/key/verify/file"
