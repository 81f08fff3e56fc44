#!/bin/sh
# Formatting, go vet and staticcheck over both modules.
set -eu
cd "$(dirname "$0")/.."

unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	echo "gofmt would change:" $unformatted >&2
	exit 1
fi
for dir in . test/clients; do
	(
		cd "$dir"
		go vet ./...
		go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	)
done
CGO_ENABLED=0 go vet ./...
