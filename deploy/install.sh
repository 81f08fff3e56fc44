#!/bin/sh
# Installs the binary, its completions, man pages and the systemd units.
# Usage: deploy/install.sh BINARY      PREFIX (/usr/local) and DESTDIR are honoured.
set -eu
umask 022 # the server's user reads the configuration, everybody the manual

binary=$1
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
here=$(dirname "$0")

install -D -m 0755 "$binary" "$root$prefix/bin/claviger"
for shell in bash zsh fish; do
	case $shell in
	bash) to=share/bash-completion/completions/claviger ;;
	zsh) to=share/zsh/site-functions/_claviger ;;
	fish) to=share/fish/vendor_completions.d/claviger.fish ;;
	esac
	mkdir -p "$root$prefix/$(dirname "$to")"
	"$binary" completion "$shell" >"$root$prefix/$to"
done
mkdir -p "$root$prefix/share/man/man1"
"$binary" man --dir "$root$prefix/share/man/man1"
mkdir -p "$root/etc/systemd/system"
for unit in claviger claviger-unsealer claviger-agent; do
	sed "s|/usr/local/bin/claviger|$prefix/bin/claviger|" "$here/$unit.service" >"$root/etc/systemd/system/$unit.service"
done
if [ ! -e "$root/etc/claviger/claviger.toml" ]; then
	mkdir -p "$root/etc/claviger"
	"$binary" config example >"$root/etc/claviger/claviger.toml"
fi
echo "Installed under $root$prefix. Next: edit $root/etc/claviger/claviger.toml, then claviger config check."
