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
echo=$!
pids="$pids $echo"
"$claviger" hmacpool create --mode 16 "$dir/secrets" 2>/dev/null
CRYPTOSERVER_MODE=MODE16 CRYPTOSERVER_SECRETDIR=$dir/secrets CRYPTOSERVER_BIND=127.0.0.1:18088 RUST_LOG=error \
	"$claviger" cryptoserver --state-dir "$dir/state" &
server=$!
pids="$pids $server"
sleep 2
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
# load ADDRESS PID prints requests a second and the server's microseconds of CPU for each.
load() {
	before=$(ticks "$2")
	wrk -t1 -c64 -d"${seconds}s" -s "$here/cryptoserver.lua" "$1/hmac" >"$dir/wrk"
	if grep -q 'Non-2xx\|Socket errors' "$dir/wrk"; then
		cat "$dir/wrk" >&2
		exit 1
	fi
	awk -v used=$(($(ticks "$2") - before)) '/requests in/ {n = $1} /Requests\/sec/ {printf "%d %.1f\n", $2, used * 10000 / n}' "$dir/wrk"
}
memory() { awk '/VmRSS/ {print int($2/1024) " MiB"}' "/proc/$server/status"; }
echo "resident before: $(memory)"
for round in $(seq "$rounds"); do
	echoed=$(load "$(cat "$dir/address")" "$echo")
	made=$(load http://127.0.0.1:18088 "$server")
	echo "$echoed $made" | awk '{printf "echo %d/s %s µs, claviger %d/s %s µs, ratio %.2f\n", $1, $2, $3, $4, $3 / $1}'
done | tee "$dir/rounds"
median() { awk "{print \$$1}" "$dir/rounds" | tr -d /s, | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo "medians: echo $(median 2)/s $(median 3) µs, claviger $(median 6)/s $(median 7) µs, ratio $(median 10); resident after: $(memory)"
