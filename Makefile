# Two commands matter: "make demo" shows Claviger at work, "make test" installs
# what the tests need and runs them all. The rest is for people who develop it.

GO ?= go
# A semantic version: that of the newest tag (v1.2.3), with the commits since
# then and changes of the working tree as build metadata (1.2.3+4.gabcdef.dirty).
TAGGED := $(shell git describe --tags --match 'v[0-9]*.[0-9]*.[0-9]*' --dirty 2>/dev/null | \
	sed -e 's/^v//' -e 's/-\([0-9]*\)-g\([0-9a-f]*\)/+\1.g\2/' -e '/+/s/-dirty$$/.dirty/' -e 's/-dirty$$/+dirty/')
VERSION ?= $(or $(TAGGED),0.1.0-dev)
LDFLAGS := -s -w -X github.com/claviger/claviger/internal/cli.version=$(VERSION)

.PHONY: demo test build check fuzz bench install clean pkcs11

demo: build ## a tour on the embedded software token; stops by itself
	scripts/demo.sh bin/claviger

test: ## install what tests need, then run every test
	scripts/install-test-packages.sh
	scripts/test.sh

build: bin/claviger ## build bin/claviger

bin/claviger: FORCE
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/claviger
FORCE:

pkcs11: ## build the PKCS#11 module, pkcs11/build/libclaviger-pkcs11.so
	$(MAKE) -C pkcs11

check: ## formatting, vet and linter
	scripts/check.sh

fuzz: ## run every fuzz test for FUZZTIME (default 1m)
	scripts/fuzz.sh

bench: build ## the figures of bench/README.md, measured here
	bench/run.sh

install: build ## install the binary, completions, man pages and systemd unit under PREFIX
	deploy/install.sh bin/claviger

clean:
	rm -rf bin dist
