#!/bin/sh
# HMACs a second for cryptoserver's clients, beside a Go server that only echoes:
# 64 connections, bodies of 32 bytes, all on the same cores, in turn.
# Arguments: the program, the seconds of a round, the rounds. It needs wrk.
set -eu
claviger=$(realpath "${1:-bin/claviger}")
seconds=${2:-5}
rounds=${3:-5}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
pids=
stop() {
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	wait
	rm -rf "$dir"
}
trap stop EXIT
(cd "$here/.." && go build -o "$dir/echo" ./bench/echo)
"$dir/echo" >"$dir/address" &
pids="$pids $!"
"$claviger" hmacpool create --mode 16 "$dir/secrets" 2>/dev/null
CRYPTOSERVER_MODE=MODE16 CRYPTOSERVER_SECRETDIR=$dir/secrets CRYPTOSERVER_BIND=127.0.0.1:18088 RUST_LOG=error \
	"$claviger" cryptoserver --state-dir "$dir/state" &
server=$!
pids="$pids $server"
sleep 2
rate() { wrk -t1 -c64 -d"${seconds}s" -s "$here/cryptoserver.lua" "$1/hmac" | tee "$dir/wrk" | awk '/Requests\/sec/ {print int($2)}'; }
failed() { grep -q 'Non-2xx\|Socket errors' "$dir/wrk" && cat "$dir/wrk" && exit 1 || true; }
memory() { awk '/VmRSS/ {print int($2/1024) " MiB"}' "/proc/$server/status"; }
echo "resident before: $(memory)"
for round in $(seq "$rounds"); do
	echoed=$(rate "$(cat "$dir/address")")
	failed
	made=$(rate http://127.0.0.1:18088)
	failed
	echo "round $round: echo $echoed/s, claviger $made/s, ratio $(awk "BEGIN {printf \"%.2f\", $made/$echoed}"), resident $(memory)"
done
