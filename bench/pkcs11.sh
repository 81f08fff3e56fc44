#!/bin/sh
# TLS handshakes a second of nginx with four workers: with its key in a file, in
# SoftHSM2 that the engine loads itself, in SoftHSM2 behind p11-kit's remoting,
# and in Claviger on SoftHSM2 through its module, by the server's socket and by
# the agent over TLS; on the same cores, in turn, with the load generator there too.
# Arguments: the program, the module, the seconds of a round, the rounds, the
# connections, and a network's delay (500us), which lies then, each way, between
# p11-kit's client and its server and between the agent and Claviger's. It needs the
# packages curl, jq, nginx-light, openssl, softhsm2, libengine-pkcs11-openssl, p11-kit
# and p11-kit-modules, and leaves nothing behind.
set -eu
claviger=$(realpath "${1:-bin/claviger}")
module=$(realpath "${2:-pkcs11/build/libclaviger-pkcs11.so}")
seconds=${3:-5}
rounds=${4:-5}
connections=${5:-16}
delay=${6:-}
here=$(cd "$(dirname "$0")" && pwd)
softhsm=/usr/lib/softhsm/libsofthsm2.so
p11kit=$(ls /usr/lib/*/pkcs11/p11-kit-client.so)
dir=$(mktemp -d)
chmod 755 "$dir"
pids=
stop() {
	for pid in $pids $(cat "$dir"/*.pid 2>/dev/null); do
		kill "$pid" 2>/dev/null || true
	done
	wait
	rm -rf "$dir"
}
trap stop EXIT
random() { head -c 24 /dev/urandom | base64 | tr -d '+/='; }
(cd "$here/.." && go build -o "$dir/" ./bench/tlsload ./bench/distance)

# away FROM TO: with a delay, what connects to FROM reaches TO over a network.
away() {
	[ -n "$delay" ] || return 0
	: >"$dir/away"
	"$dir/distance" -listen "$1" -to "$2" -delay "$delay" >"$dir/away" &
	pids="$pids $!"
	until [ -s "$dir/away" ]; do
		sleep 0.1
		kill -0 $!
	done
}

SOFTHSM2_CONF=$dir/softhsm2.conf
export SOFTHSM2_CONF
mkdir "$dir/tokens"
echo "directories.tokendir = $dir/tokens" >"$SOFTHSM2_CONF"

# Tokens of this run alone: a PIN in the arguments tells nothing that outlives it.
pin=$(random)
softhsm2-util --init-token --free --label bench --pin "$pin" --so-pin "$(random)" >/dev/null
for type in ec rsa; do
	case $type in
	ec) openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$dir/$type.key" ;;
	rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$dir/$type.key" ;;
	esac
	softhsm2-util --import "$dir/$type.key" --token bench --label "$type" --id "$(printf %s "$type" | od -An -tx1 | tr -d ' \n')" --pin "$pin" >/dev/null
done

# Claviger on a SoftHSM2 token of its own, with an agent.
port=18520
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
	-days 1 -keyout "$dir/tls.key" -out "$dir/tls.pem" 2>/dev/null
cat >"$dir/claviger.toml" <<TOML
data_dir = "$dir/data"
[[listener]]
address = "127.0.0.1:$port"
[[listener]]
address = "127.0.0.1:$((port + 1))"
tls_cert = "$dir/tls.pem"
tls_key = "$dir/tls.key"
[token]
driver = "pkcs11"
label = "claviger"
on_init = "create"
[token.pkcs11]
module = "$softhsm"
[token.pkcs11.env]
SOFTHSM2_CONF = "$SOFTHSM2_CONF"
[front.pkcs11]
enabled = true
address = "unix:$dir/server.sock"
mode = "0600"
TOML
"$claviger" server --config "$dir/claviger.toml" >"$dir/server.log" 2>&1 &
server=$!
pids="$pids $server"
export CLAVIGER_ADDR=http://127.0.0.1:$port
until curl -fs "$CLAVIGER_ADDR/v1/sys/init" >/dev/null; do
	sleep 0.1
	kill -0 "$server"
done
umask 077
"$claviger" init --shares 1 --threshold 1 --format json >"$dir/init.json"
jq -r '.keys_base64[0]' "$dir/init.json" | "$claviger" unseal >/dev/null
CLAVIGER_TOKEN=$(jq -r .root_token "$dir/init.json")
export CLAVIGER_TOKEN
"$claviger" mount enable transit >/dev/null 2>&1 || true
"$claviger" key create ec --type ecdsa-p256 >/dev/null
"$claviger" key create rsa --type rsa-2048 >/dev/null
cat >"$dir/policy.hcl" <<HCL
path "transit/keys/*" { capabilities = ["read"] }
path "transit/sign/*" { capabilities = ["update"] }
path "transit/pkcs11-find" { capabilities = ["update"] }
HCL
"$claviger" policy write bench --in "$dir/policy.hcl" >/dev/null 2>&1
"$claviger" token create --policy bench --format json | jq -r .client_token >"$dir/token"

# The certificate names the address alone, so any port of it will do.
far=$((port + 1))
[ -z "$delay" ] || far=$((port + 2))
away "127.0.0.1:$far" "127.0.0.1:$((port + 1))"
cat >"$dir/agent.toml" <<TOML
socket = "$dir/agent.sock"
mode = "0600"
[server]
addresses = ["https://127.0.0.1:$far"]
ca_cert = "$dir/tls.pem"
[token]
source = "file"
file = "$dir/token"
TOML
"$claviger" agent --config "$dir/agent.toml" >"$dir/agent.log" 2>&1 &
agent=$!
pids="$pids $agent"
until [ -S "$dir/agent.sock" ]; do
	sleep 0.1
	kill -0 "$agent"
done

remoting=$dir/p11-kit.sock
[ -z "$delay" ] || remoting=$dir/p11-kit-far.sock
export P11_KIT_SERVER_ADDRESS="unix:path=$remoting"
p11-kit server --foreground --provider "$softhsm" --name "$dir/p11-kit.sock" "pkcs11:token=bench" >"$dir/p11-kit.log" 2>&1 &
remote=$!
pids="$pids $remote"
until [ -S "$dir/p11-kit.sock" ]; do
	sleep 0.1
	kill -0 "$remote"
done
away "unix:$remoting" "unix:$dir/p11-kit.sock"

# nginx NAME PORT MODULE TOKEN PIN: two servers, with keys of both types, at PORT
# and PORT+1; without a module the keys are files.
site() {
	conf=$dir/$1.cnf
	{
		echo "openssl_conf = bench"
		echo "[bench]"
		[ -z "$3" ] || printf 'engines = engines\n[engines]\npkcs11 = pkcs11\n[pkcs11]\nengine_id = pkcs11\nMODULE_PATH = %s\ninit = 1\n' "$3"
	} >"$conf"
	servers=
	at=$2
	for type in ec rsa; do
		key=$dir/$type.key
		form=
		if [ -n "$3" ]; then
			key="pkcs11:token=$4;object=$type;type=private${5:+?pin-value=$5}"
			form="-engine pkcs11 -keyform engine"
		fi
		# shellcheck disable=SC2086 # words
		OPENSSL_CONF=$conf CLAVIGER_PKCS11_SOCKET=$6 openssl req -x509 -new $form -key "$key" -subj /CN=localhost -out "$dir/$1-$type.pem" 2>/dev/null
		[ -z "$3" ] || key="engine:pkcs11:$key"
		servers="$servers server { listen 127.0.0.1:$at ssl; ssl_certificate $dir/$1-$type.pem; ssl_certificate_key \"$key\"; location / { return 200 hello; } }"
		at=$((at + 1))
	done
	cat >"$dir/nginx-$1.conf" <<CONF
user root;
worker_processes 4;
pid $dir/$1.pid;
error_log $dir/$1.log;
env SOFTHSM2_CONF; env P11_KIT_SERVER_ADDRESS; env CLAVIGER_PKCS11_SOCKET;
events { worker_connections 1024; }
http {
	access_log off;
	ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off; ssl_session_tickets off;
	client_body_temp_path $dir/t1; proxy_temp_path $dir/t2; fastcgi_temp_path $dir/t3; uwsgi_temp_path $dir/t4; scgi_temp_path $dir/t5;
	$servers
}
CONF
	OPENSSL_CONF=$conf CLAVIGER_PKCS11_SOCKET=$6 nginx -c "$dir/nginx-$1.conf" -e "$dir/$1.log"
}
site file 18530 "" "" "" ""
site softhsm2 18532 "$softhsm" bench "$pin" ""
site p11-kit 18534 "$p11kit" bench "$pin" ""
site server 18536 "$module" claviger "$(cat "$dir/token")" "$dir/server.sock"
site agent 18538 "$module" claviger "" "$dir/agent.sock"

# What runs for a way to the key, whose CPU time is counted.
processes() {
	cat "$dir/$1.pid"
	case $1 in
	p11-kit) echo "$remote" ;;
	server) echo "$server" ;;
	agent) printf '%s\n%s\n' "$server" "$agent" ;;
	esac
}
# One handshake after the other first: SoftHSM2 reads wrong what another process
# writes while it logs in, so workers that begin together may fail for good.
for port in $(seq 18530 18539); do
	"$dir/tlsload" -addr "127.0.0.1:$port" -connections 1 -duration 2s >/dev/null
done
for round in $(seq "$rounds"); do
	for type in ec rsa; do
		port=18530
		[ $type = ec ] || port=18531
		for way in file softhsm2 p11-kit server agent; do
			"$dir/tlsload" -addr "127.0.0.1:$port" -connections "$connections" -duration "${seconds}s" -pids "$(processes $way | tr '\n' ,)" -format json |
				jq -r "\"$type $way \\(.handshakes_per_second) \\(.cpu_us_per_handshake) \\(.failed)\""
			port=$((port + 2))
		done
	done
done >"$dir/rounds"
if grep -qv ' 0$' "$dir/rounds"; then
	echo "handshakes failed:" >&2
	grep -v ' 0$' "$dir/rounds" >&2
fi
median() { awk "\$1 == \"$1\" && \$2 == \"$2\" {print \$$3}" "$dir/rounds" | sort -g | awk '{v[NR] = $1} END {printf "%.0f", v[int((NR + 1) / 2)]}'; }
for type in ec rsa; do
	echo
	[ $type = ec ] && echo "P-256" || echo "RSA-2048"
	for way in file softhsm2 p11-kit server agent; do
		rate=$(median $type $way 3)
		echo "$way $rate $(median $type $way 4) $(median $type softhsm2 3) $(median $type p11-kit 3)" |
			awk '{printf "%-9s %6d handshakes/s  %5d us of CPU each  %.2f of SoftHSM2 direct  %.2f of p11-kit\n", $1, $2, $3, $2 / $4, $2 / $5}'
	done
done
