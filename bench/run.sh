#!/bin/sh
# The figures of bench/README.md, measured on this machine (about ten minutes).
# Arguments go to bench/compare, for example -only RSA.
set -eu
cd "$(dirname "$0")/.."
exec go run ./bench/compare -claviger bin/claviger "$@"
