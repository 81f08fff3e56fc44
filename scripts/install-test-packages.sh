#!/bin/sh
# Installs the Debian packages that the tests use: a software HSM, a software
# TPM with its PKCS#11 module, and a few programs that play the outside world.
# Packages that are there already are left alone; if all are, nothing is done.
set -eu

packages="softhsm2 opensc swtpm swtpm-tools tpm2-tools libtpm2-pkcs11-1 libtpm2-pkcs11-tools gnupg strace php-cli gcc libc6-dev curl procps python3-hvac certbot lego dehydrated uacme openssl jq caddy pebble ca-certificates util-linux sq sqop rnp make binutils clang libclang-rt-14-dev valgrind tpm2-abrmd libtss2-tcti-tabrmd0 dbus-daemon systemd libengine-pkcs11-openssl nginx-light apache2 haproxy stunnel4 iproute2 iptables"
packages="$packages openjdk-17-jdk-headless python3-pykcs11 python3-openssl python3-cryptography python3-urllib3 openssh-client openssh-server osslsigncode gpgsm gnupg-pkcs11-scd gnutls-bin libhsm-bin p11-kit p11-kit-modules"

# Node.js may have come from elsewhere, with its npm; Debian's npm would not go with it.
command -v node >/dev/null || packages="$packages nodejs"
command -v npm >/dev/null || packages="$packages npm"

missing=""
for p in $packages; do
	if [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" != installed ]; then
		missing="$missing $p"
	fi
done
if [ -z "$missing" ]; then
	echo "All Debian packages that the tests use are installed."
	exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "These Debian packages are missing:$missing" >&2
		echo "Install them as root: apt-get install --no-install-recommends$missing" >&2
		exit 1
	fi
	as_root=sudo
fi
echo "Installing for the tests:$missing"
# Tests start servers of their own; Debian's own are not to run, now or later.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | $as_root install -m 755 /dev/stdin "$policy"
	trap '$as_root rm -f "$policy"' EXIT
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y --no-install-recommends $missing >/dev/null
for server in nginx:nginx-light apache2:apache2 haproxy:haproxy ssh:openssh-server; do
	case "$missing " in
	*" ${server#*:} "*) $as_root systemctl disable --quiet "${server%%:*}" 2>/dev/null || true ;;
	esac
done
