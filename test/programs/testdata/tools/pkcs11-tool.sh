# What the token says of itself and of its objects.
tool() { pkcs11-tool --module "$M" --token-label claviger --login --pin env:PIN "$@"; }
say "-L"; pkcs11-tool --module "$M" -L
say "-I"; pkcs11-tool --module "$M" -I
say "-M"; pkcs11-tool --module "$M" --token-label claviger -M
say "-O"; tool -O
say "-O, without login"; pkcs11-tool --module "$M" --token-label claviger -O
