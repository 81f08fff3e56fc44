#!/bin/sh
# Checks the code, then runs every test of both modules.
set -eu
cd "$(dirname "$0")/.."

scripts/check.sh
go test -timeout 20m ./...
# Programs of other people have a module of their own, so that what they need
# never becomes a requirement of Claviger.
(cd test/clients && go test -timeout 20m ./...)
