# The tests that pkcs11-tool brings along, and their exit status.
tool() { pkcs11-tool --module "$M" --token-label claviger --login --pin env:PIN "$@"; }
say "--test"; tool --test || echo "status $?"
say "--test, without login"; pkcs11-tool --module "$M" --token-label claviger --test || echo "status $?"
say "--test-ec"; tool --session-rw --test-ec --key-type EC:prime256v1 --id 99 --label test-ec || echo "status $?"
