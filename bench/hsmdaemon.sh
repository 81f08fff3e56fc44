#!/bin/sh
# Decryptions a second for ownCloud at the front for hsmdaemon's clients, beside
# the private operations of SoftHSM2 in two processes, on the same cores, in turn.
# Arguments: the program, the seconds of a round, the rounds, the connections.
set -eu
claviger=$(realpath "${1:-bin/claviger}")
seconds=${2:-5}
rounds=${3:-5}
connections=${4:-16}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
server=
stop() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	wait
	rm -rf "$dir"
}
trap stop EXIT
random() { head -c 24 /dev/urandom | base64 | tr -d '+/='; }
(cd "$here/.." && go build -o "$dir/" ./bench/apiload ./bench/p11load)
mkdir "$dir/tokens"
SOFTHSM2_CONF=$dir/softhsm2.conf
HSMDAEMON_SECRET=$(random)
P11_PIN=$(random)
export SOFTHSM2_CONF HSMDAEMON_SECRET P11_PIN
echo "directories.tokendir = $dir/tokens" >"$SOFTHSM2_CONF"
module=/usr/lib/softhsm/libsofthsm2.so
# A token of this run alone: its PIN in the arguments tells nothing that outlives it.
softhsm2-util --init-token --free --label load --pin "$P11_PIN" --so-pin "$(random)" >/dev/null
port=18513
umask 077
cat >"$dir/hsmdaemon.toml" <<TOML
[logger]
level = "error"
path = "$dir/log"
[server]
hostname = "localhost"
port = $port
state = "$dir/state"
[jwt]
secret = "$HSMDAEMON_SECRET"
[pkcs11]
module = "$module"
label = "load"
pin = "$P11_PIN"
TOML
"$claviger" hsmdaemon --config "$dir/hsmdaemon.toml" >/dev/null &
server=$!
sleep 3
rate() { sed -n 's/.*"'"$1"'":\([0-9]*\).*/\1/p'; }
for round in $(seq "$rounds"); do
	module_rate=$("$dir/p11load" -module "$module" -label load -op sign -type rsa-2048 -processes 2 -duration "${seconds}s" -format json | rate operations_per_second)
	front_rate=$("$dir/apiload" -addr "http://127.0.0.1:$port" -op hsmdaemon -connections "$connections" -duration "${seconds}s" -format json | rate requests_per_second)
	echo "$module_rate $front_rate" | awk '{printf "module %d/s, hsmdaemon %d/s, ratio %.2f\n", $1, $2, $2 / $1}'
done | tee "$dir/rounds"
median() { awk "{print \$$1}" "$dir/rounds" | tr -d /s, | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo "medians: module $(median 2)/s, hsmdaemon $(median 4)/s, ratio $(median 6)"
