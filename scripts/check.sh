#!/bin/sh
# Formatting, go vet, staticcheck, and a build without cgo.
set -eu
cd "$(dirname "$0")/.."

unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
	echo "gofmt would change:" $unformatted >&2
	exit 1
fi
go vet ./...
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
CGO_ENABLED=0 go build -o /dev/null ./cmd/claviger
# The other module stands on large programs of others: go vet is enough there.
(cd test/clients && go vet ./...)
