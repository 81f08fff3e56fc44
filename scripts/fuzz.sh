#!/bin/sh
# Runs every fuzz test for FUZZTIME, one after another.
set -eu
cd "$(dirname "$0")/.."

git grep -l '^func Fuzz' -- '*_test.go' | while read -r file; do
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file" | while read -r name; do
		echo "== $name in $(dirname "$file")"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-1m}" "./$(dirname "$file")"
	done
done
