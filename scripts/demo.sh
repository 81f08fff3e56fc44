#!/bin/sh
# A tour of Claviger on a server that keeps nothing. Usage: scripts/demo.sh BINARY
#
# It starts a development server on the embedded software token, on a loopback
# port that the system chooses, and shows what applications do with keys. Each
# line that it shows is really run, its answer checked and printed. The status
# is 0 if all went well; otherwise the failed step is named.
set -eu

[ $# -eq 1 ] || { echo "Usage: $0 BINARY" >&2; exit 2; }
[ -x "$1" ] && [ ! -d "$1" ] || { echo "demo: $1 is no program; make build makes one" >&2; exit 2; }
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")

if [ -t 1 ] && [ -z "${NO_COLOR-}" ] && [ "${TERM-dumb}" != dumb ]; then
	escape=$(printf '\033')
	bold="${escape}[1m" dim="${escape}[2m" plain="${escape}[0m"
else
	bold='' dim='' plain=''
fi

umask 077
work=$(mktemp -d)
server=''
step='start of the server'

# finish runs at every end: nothing stays behind.
finish() {
	status=$?
	trap - EXIT
	trap '' HUP INT PIPE TERM
	if [ -n "$server" ]; then
		kill "$server" 2>/dev/null || true
		wait "$server" || {
			echo "demo: the server did not stop in order:" >&2
			tail -n 3 "$work/log" >&2
			[ "$status" -ne 0 ] || status=1
		}
	fi
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

fail() {
	echo "demo: step \"$step\" failed: $1" >&2
	exit 1
}

# Settings of the caller lead to other servers: none of them counts here.
for name in ADDR TOKEN CACERT CLIENT_CERT CLIENT_KEY DEV_ROOT_TOKEN_ID; do
	unset "CLAVIGER_$name" "VAULT_$name" "BAO_$name"
done
export HOME="$work"
mkdir "$work/bin"
ln -s "$binary" "$work/bin/claviger"
PATH="$work/bin:$PATH"

with_curl=yes
command -v curl >/dev/null || with_curl=''

# The lines that are shown name the client token as a reader would type them. In
# them curl is this function, which hands the token over in a file: arguments of
# a program can be read by others.
curl() {
	for argument in "$@"; do
		shift
		case $argument in
		"X-Vault-Token: "*) argument="@$work/header" ;;
		esac
		set -- "$@" "$argument"
	done
	command curl -q --noproxy '*' --max-time 10 "$@"
}

title() {
	step=$1
	printf '\n%s%s%s\n%s\n' "$bold" "$1" "$plain" "$2"
}

# run shows a line, runs it, and prints and keeps its answer.
run() {
	printf '\n  %s$ %s%s\n' "$bold" "$1" "$plain"
	if ! answer=$(eval "$1" 2>"$work/errors"); then
		fail "$1
$answer
$(cat "$work/errors")"
	fi
	printf '%s\n' "$answer" "$(cat "$work/errors")" | sed -e '/^$/d' -e "s/^/  $dim/" -e "s/\$/$plain/"
}

# api PATH [BODY] does over HTTP what the line before did.
api() {
	line='curl -sS -H "X-Vault-Token: $CLAVIGER_TOKEN"'
	if [ $# -eq 2 ]; then line="$line -d '$2'"; else line="$line -X POST"; fi
	run "$line \$CLAVIGER_ADDR/v1/$1"
	case $answer in
	*'"errors":'*) fail "the server refused: $answer" ;;
	esac
}

# field NAME prints the text of a field of the last answer, JSON or table.
field() {
	case $answer in
	'{'*) printf '%s\n' "$answer" | sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" ;;
	*) printf '%s\n' "$answer" | sed -n "s/^$1  *//p" ;;
	esac
}

# want PATTERN fails unless the last answer matches it.
want() {
	# shellcheck disable=SC2254 # it is a pattern
	case $answer in
	$1) ;;
	*) fail "the answer is not as it must be ($1): $answer" ;;
	esac
}

same() {
	[ "$1" = "$2" ] || fail "got \"$1\", want \"$2\""
}

TMPDIR="$work" claviger server --dev --listen 127.0.0.1:0 >"$work/banner" 2>"$work/log" &
server=$!
waited=0
until grep -q '^Listening at: ' "$work/banner"; do
	kill -0 "$server" 2>/dev/null || fail "it ended: $(cat "$work/log")"
	[ "$waited" -lt 100 ] || fail "it does not listen: $(cat "$work/log")"
	waited=$((waited + 1))
	sleep 0.1
done
CLAVIGER_ADDR=$(sed -n 's/^ *export CLAVIGER_ADDR=//p' "$work/banner")
CLAVIGER_TOKEN=$(sed -n 's/^ *export CLAVIGER_TOKEN=//p' "$work/banner")
export CLAVIGER_ADDR CLAVIGER_TOKEN
printf 'X-Vault-Token: %s\n' "$CLAVIGER_TOKEN" >"$work/header"

cat <<END
${bold}A tour of Claviger${plain}
A development server runs at $CLAVIGER_ADDR on the embedded software token.
CLAVIGER_ADDR and CLAVIGER_TOKEN are set for it. Each step is shown on the
command line, then as the same call over HTTP: Vault's API, for any language.
END
[ -n "$with_curl" ] || echo "There is no curl on this machine: the calls over HTTP are left out."

message='Meet me at dawn.'
message64=$(printf '%s' "$message" | base64)

title '1. Create a key' 'Applications know it by its name. Its secret stays in the server; on an HSM it stays in the HSM.'
run "claviger key create data"
want '*Type *aes256-gcm96*'
if [ -n "$with_curl" ]; then
	printf '\n%s\n' 'Made once more over HTTP, nothing changes and a warning says so.'
	api transit/keys/data
	want '*"latest_version":1,*already existed*'
fi

title '2. Encrypt' 'The ciphertext names the version of the key. Bytes travel over HTTP as base64.'
run "printf '$message' | claviger encrypt data"
want 'vault:v1:*'
ciphertext=$answer
if [ -n "$with_curl" ]; then
	api transit/encrypt/data "{\"plaintext\":\"$message64\"}"
	same "$(field ciphertext | cut -c1-9)" vault:v1:
fi

title '3. Decrypt' 'The same bytes come back.'
run "claviger decrypt data --text $ciphertext"
same "$answer" "$message"
if [ -n "$with_curl" ]; then
	api transit/decrypt/data "{\"ciphertext\":\"$ciphertext\"}"
	same "$(field plaintext)" "$message64"
fi

title '4. Rotate' 'A new version encrypts from now on; the old ones still decrypt.'
run "claviger key rotate data"
same "$(field 'Latest version')" 2
latest=2
if [ -n "$with_curl" ]; then
	api transit/keys/data/rotate
	want '*"latest_version":3,*'
	latest=3
fi

title '5. Rewrap' 'An old ciphertext moves to the newest version; the plaintext stays inside.'
run "claviger rewrap data --text $ciphertext"
want "vault:v$latest:*"
rewrapped=$answer
if [ -n "$with_curl" ]; then
	api transit/rewrap/data "{\"ciphertext\":\"$ciphertext\"}"
	same "$(field ciphertext | cut -c1-9)" "vault:v$latest:"
fi
same "$(claviger decrypt data --text "$rewrapped")" "$message"

title '6. Sign' 'Signing keys are another type: ecdsa-p256, ed25519, rsa-3072 and more.'
run "claviger key create --type ecdsa-p256 release"
run "printf '$message' | claviger sign release"
want 'vault:v1:*'
signature=$answer
other=$signature
if [ -n "$with_curl" ]; then
	api transit/sign/release "{\"input\":\"$message64\"}"
	other=$(field signature)
fi

title '7. Verify' 'Each side accepts what the other one signed; another message is refused.'
run "printf '$message' | claviger verify release --signature $other"
same "$answer" valid
if [ -n "$with_curl" ]; then
	api transit/verify/release "{\"input\":\"$message64\",\"signature\":\"$signature\"}"
	want '*"valid":true*'
fi
if printf 'Meet me at noon.' | claviger verify release --signature "$signature" >"$work/verdict" 2>&1; then
	fail "the signature is valid for another message"
fi
grep -q 'not valid' "$work/verdict" || fail "$(cat "$work/verdict")"

title '8. HMAC' 'A message authentication code: the same message gives the same code.'
run "printf '$message' | claviger hmac data"
want "vault:v$latest:*"
if [ -n "$with_curl" ]; then
	code=$answer
	api transit/hmac/data "{\"input\":\"$message64\"}"
	same "$(field hmac)" "$code"
fi

title '9. Data key' 'For large data: encrypt with the plaintext key where the data is, and keep only the encrypted key.'
run "claviger datakey data --plaintext"
same "$(claviger decrypt data --text "$(field Ciphertext)" | base64)" "$(field Plaintext)"
if [ -n "$with_curl" ]; then
	api transit/datakey/plaintext/data
	same "$(claviger decrypt data --text "$(field ciphertext)" | base64)" "$(field plaintext)"
fi

title '10. Random' 'Random bytes, made by the token: an HSM has a source of its own.'
run "claviger random --bytes 16 --encoding hex"
same "${#answer}" 32
if [ -n "$with_curl" ]; then
	api transit/random/16 '{"format":"hex"}'
	code=$(field random_bytes)
	same "${#code}" 32
fi

step='stop of the server'
kill "$server"
wait "$server" || fail "it did not stop in order: $(tail -n 3 "$work/log")"
server=''
printf '\n%s\n' "That was the tour. The server has stopped and kept nothing. README.md goes on with an HSM token."
