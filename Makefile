# Two commands matter: "make demo" shows Claviger at work, "make test" installs
# what the tests need and runs them all. The rest is for people who develop it.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
LDFLAGS := -s -w

.PHONY: demo test build check fuzz bench install clean

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
