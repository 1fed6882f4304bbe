# The two commands of the README: make run, make test. Both install what they miss, if they can.

GO      ?= go
CC      ?= cc
TAGS    := urfave_cli_no_docs
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
# A stage starts in the binary's entry, and never becomes a Go program: see package reexec. The command's entry catches
# signals before that, see package signals.
ENTRY   := -E github.com/cgshim/cgshim/reexec.entry
LDFLAGS := -s -w -X main.version=$(VERSION) -E github.com/cgshim/cgshim/cmd/cgshim/internal/signals.entry

# Linters, by version; go run fetches and caches them, and keeps them out of go.mod.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
ERRORLINT   := github.com/polyfloyd/go-errorlint@v1.8.0

export CGO_ENABLED = 0

PROGRAMS := $(patsubst tests/programs/%.c,build/programs/%,$(wildcard tests/programs/*.c))
SOURCES  := cmd cgroup internal reexec shim tests/generate tests/validate
GO_FILES := $(shell find cmd cgroup internal reexec shim -name '*.go' -o -name '*.s' -o -name '*.json') go.mod go.sum
SCRIPTS  := .ci/run tests/install tests/suite tests/apart tests/vm/run tests/vm/fetch tests/hosts tests/machines tests/bench/run
SUITES   := $(wildcard tests/*.bats)

.PHONY: all build build-amd64 build-arm64 test-machines test-kernels run test quick lint test-go test-bats test-vm guest-tests test-systemd test-tables install-deps fuzz soak bench bench-vm bench-programs generate clean help

all: build

help:
	@echo 'make build   build/cgshim, one static binary'
	@echo 'make run     build it, and run a small program under limits'
	@echo 'make test    everything: linters, Go tests, bats on this machine; on cgroup v2, with systemd, on Linux 5.10 and on arm64 in VMs'
	@echo 'make quick   linters, Go tests and the main suites of bats, on this machine: less than two minutes'
	@echo 'make lint | test-go | test-bats | test-vm | test-systemd | test-machines   one part of it'
	@echo 'make test-kernels  kernels from 5.10 to the newest, and arm64, in VMs: docs/kernels.md'
	@echo 'make generate  the JSON Schema, and the keys in cgshim-result(5), from the Go types and their comments'
	@echo 'make soak    20000 runs of all kinds, some of them killed: nothing may leak'
	@echo 'make bench   how fast it is beside others, as Markdown; $$ROUNDS (300). bench-vm: on cgroup v2, emulated'
	@echo 'make fuzz    the parsers, $$FUZZTIME (30s) each'

build: build/cgshim

BUILD = $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $@ ./cmd/cgshim

build/cgshim: $(GO_FILES)
	$(BUILD)

# The same for an emulated machine's processor.
build/amd64/cgshim build/arm64/cgshim: build/%/cgshim: $(GO_FILES)
	GOARCH=$* $(BUILD)

run: build
	@tests/demo build/cgshim

# For two CPUs: one has machines, one after the other. The other has what runs here, and machines beside the bats suites, which mostly
# wait, and after them.
test: install-deps build build/validate guest-tests $(PROGRAMS) build-amd64 build-arm64
	@tests/suite machines; \
		tests/suite lane first >build/first.log 2>&1 & first=$$!; \
		$(MAKE) lint test-go; here=$$?; \
		nice -n 5 tests/suite lane second >build/second.log 2>&1 & second=$$!; \
		$(MAKE) test-bats || here=1; \
		wait $$first; first=$$?; cat build/first.log; wait $$second; second=$$?; cat build/second.log; \
		tests/machines short-check || here=1; \
		exit $$((here || first || second))
	$(MAKE) test-tables
	@echo 'All tests passed.'

# In between, on a v1 host in less than two minutes.
quick: build build/validate $(PROGRAMS)
	@TAGS=$(TAGS) tests/suite quick >build/quick.log 2>&1 & quick=$$!; \
		$(MAKE) lint; lint=$$?; \
		wait $$quick; quick=$$?; cat build/quick.log; \
		exit $$((lint || quick))
	@echo 'The quick tests passed.'

install-deps:
	tests/install

lint:
	@test -z "$$(gofmt -l $(SOURCES))" || { gofmt -d $(SOURCES); exit 1; }
	@test -z "$$($(GO) run $(GOFUMPT) -l $(SOURCES))" || { $(GO) run $(GOFUMPT) -d $(SOURCES); exit 1; }
	$(GO) vet -tags $(TAGS) ./...
	$(GO) run $(STATICCHECK) -tags $(TAGS) ./...
	$(GO) run $(ERRORLINT) -tags $(TAGS) ./...
	$(GO) mod tidy -diff
	GOARCH=arm64 $(GO) build -tags $(TAGS) ./...
	@# Unoptimised, as debuggers build: the code between clone and execve has to fit into a small stack.
	for arch in amd64 arm64; do \
		GOARCH=$$arch $(GO) build -tags $(TAGS) -gcflags='all=-N -l' -o /dev/null ./cmd/cgshim || exit 1; done
	shellcheck -x $(SCRIPTS)
	shellcheck --shell=bash tests/helpers.bash tests/lanes.bash tests/systemd.bash tests/containers.bash tests/doctor.bash tests/demo
	shellcheck --shell=dash tests/vm/init tests/vm/stage2 tests/kernels tests/kernels.d/*.sh
	shellcheck $(SUITES)
	$(GO) run ./tests/generate -check

# The JSON Schema, and the tables of keys in cgshim-result(5), from the Go types and their comments.
generate:
	$(GO) run ./tests/generate

# Go programs that the tests use.
build/validate: $(GO_FILES) $(wildcard tests/validate/*.go)
	$(GO) build -tags $(TAGS) -o $@ ./tests/validate

test-go: build/validate
	TAGS=$(TAGS) ENTRY='$(ENTRY)' tests/suite go

build/programs/first: FLAGS := -nostdlib -ffreestanding -fno-stack-protector
build/programs/%: tests/programs/%.c
	@mkdir -p build/programs
	$(CC) -O2 -Wall -Wextra -Werror -static -pthread $(FLAGS) -o $@ $<

build/amd64/programs/first build/arm64/programs/first: FLAGS := -nostdlib -ffreestanding -fno-stack-protector
build/amd64/programs/%: tests/programs/%.c
	@mkdir -p $(@D)
	x86_64-linux-gnu-gcc -O2 -Wall -Wextra -Werror -static -pthread $(FLAGS) -o $@ $<
build/arm64/programs/%: tests/programs/%.c
	@mkdir -p $(@D)
	aarch64-linux-gnu-gcc -O2 -Wall -Wextra -Werror -static -pthread $(FLAGS) -o $@ $<

test-bats: build build/validate $(PROGRAMS)
	tests/suite native

# The same suites, and the Go tests that need a cgroup, on a kernel with cgroup v2 only.
test-vm: build build/validate guest-tests $(PROGRAMS)
	tests/suite vm

# The Go tests for that machine, which can't build them. Their stages start as those of build/cgshim do; on this machine
# (test-go) there are both kinds.
guest-tests:
	@mkdir -p build/tests
	$(GO) test -c -tags $(TAGS) -o build/tests/ ./cgroup $(addprefix ./shim/internal/,confine ledger monitor place relay rungroup sys)
	for package in reexec shim shim/doctor shim/runs shim/internal/advice; do \
		$(GO) test -c -tags $(TAGS) -ldflags '$(ENTRY)' -o build/tests/ ./$$package || exit 1; done

# What differs by kernel and processor, in less time, on the oldest kernel and on arm64.
test-machines: install-deps build-amd64 build-arm64 build/validate
	tests/machines short

# The same on all kernels, in all ways to boot them, and the main suites of bats on arm64. It sees to docs/kernels.md.
test-kernels: install-deps build-amd64 build-arm64 build/validate
	tests/machines all

build-amd64 build-arm64: build-%: build/%/cgshim $(foreach program,$(notdir $(PROGRAMS)),build/%/programs/$(program))
	@mkdir -p build/$*/tests
	GOARCH=$* $(GO) test -c -tags $(TAGS) -ldflags '$(ENTRY)' -o build/$*/tests/ ./reexec

# The suites for hosts where systemd owns the cgroups, in a VM with a root of its own.
test-systemd: build build/validate $(PROGRAMS)
	tests/suite systemd

# What each flag does, and where cgshim works, is what the tests have just seen.
test-tables:
	@[ -e build/flags.v1 ] || { echo 'docs/flags.md and docs/hosts.md take a host with cgroup v1, too: not checked'; exit 0; }; \
	tests/flags table build/flags.v1 build/flags.v2 >build/flags.md; \
	tests/hosts table build/hosts.v1 build/hosts.v2 build/hosts.systemd >build/hosts.md; \
	for table in flags hosts; do diff -u docs/$$table.md build/$$table.md || \
		{ echo "if that is right: cp build/$$table.md docs/$$table.md"; exit 1; }; done

# Longer than go test does, which only runs what was found before. What it finds goes to testdata/fuzz.
FUZZTIME ?= 30s
fuzz:
	for package in ./cgroup ./reexec ./cmd/cgshim/internal/flags ./cmd/cgshim/internal/request; do \
		for target in $$($(GO) test -tags $(TAGS) -list '^Fuzz' $$package | grep '^Fuzz'); do \
			$(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; done; done

# make test has a shorter form of it.
soak: build $(PROGRAMS)
	tests/soak

# It prints, and fails nothing: make bench >FILE
bench:
	@tests/bench/run

bench-vm:
	@tests/bench/run vm

bench-programs: build/bench/reference build/bench/bench build/bench/sleeper build/bench/noop build/bench/empty

build/bench/%: tests/bench/%.c
	@mkdir -p build/bench
	$(CC) -O2 -Wall -Wextra -Werror -static -pthread -o $@ $< -lm

build/bench/noop: build/programs/noop
	@mkdir -p build/bench
	cp $< $@

build/bench/empty:
	@mkdir -p build/bench
	printf 'package main\n\nfunc main() {}\n' >$@.go
	$(GO) build -trimpath -ldflags '-s -w' -o $@ $@.go
	rm $@.go

clean:
	rm -rf build
