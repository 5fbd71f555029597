# Sampan: the commands a developer or a new user types. `make help` lists them.
SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
SAMPAN := bin/sampan
# The version of the kubectl library is not in the library: it is set as upstream's build does.
K8S := k8s.io/component-base/version
LDFLAGS := -s -w -X main.version=$(VERSION) -X $(K8S).gitVersion=v1.37.2 -X $(K8S).gitMajor=1 -X $(K8S).gitMinor=37
KUBECTL := $(SAMPAN) kubectl
export PATH := $(PATH):$(CURDIR)/bin/tools
build: export CGO_ENABLED := 0
hello: export CGO_ENABLED := 0

.PHONY: help build hello up down reset test test-v2 race fuzz bench conformance conformance-suite conformance-ratchet bench-check upstream-data beside lint tools clients differ
.DEFAULT_GOAL := help

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'

build: ## build bin/sampan (offline too, once the module cache is filled)
	@echo "building bin/sampan (the first time takes a few minutes)"
	@$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/.platform ./cmd/sampan
	@$(GO) run ./cmd/sampan/pack bin/.platform cmd/sampan/platform.zst
	@$(GO) build -tags split -trimpath -ldflags "$(LDFLAGS)" -o $(SAMPAN) ./cmd/sampan

hello:
	@$(GO) build -trimpath -ldflags "-s -w" -o examples/hello/hello ./examples/hello

up: build hello ## start the platform (as root), run the example on it, print its URL
	@$(SAMPAN) status >/dev/null 2>&1 || $(SAMPAN) up --detach
	@$(SAMPAN) build -t example/hello:1 examples/hello
	@$(KUBECTL) apply -f examples/hello/hello.yaml
	@$(KUBECTL) rollout status deployment/hello --timeout=120s
	@url="http://$$($(KUBECTL) get node -o jsonpath='{.items[0].status.addresses[0].address}'):30080"; \
	for i in $$(seq 50); do answer=$$($(KUBECTL) get --raw /api/v1/namespaces/default/services/hello:80/proxy/ 2>/dev/null) && break; sleep 0.1; done; \
	echo; echo "It answers: $$url"; echo; \
	echo "Try next:"; \
	echo "  curl $$url"; \
	echo "  $(KUBECTL) get pods -o wide"; \
	echo "  $(KUBECTL) scale deployment/hello --replicas=5"; \
	echo "  $(SAMPAN) status"; \
	echo "  make down     ends it (make reset removes every trace)"

down: ## stop the platform and its containers
	@$(SAMPAN) down --stop-pods

reset: ## remove everything that sampan made on this machine
	@$(SAMPAN) reset --yes

tools: ## install what the tests need
	@command -v kubectl >/dev/null || { mkdir -p bin/tools && \
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/tools/kubectl ./test/kubectl; }

test: tools ## run all tests (as root)
	$(GO) vet ./...
	CGO_ENABLED=0 $(GO) test -timeout 15m $$($(GO) list ./... | grep -v /test/e2e)
	CGO_ENABLED=0 $(GO) test -timeout 20m ./test/e2e

test-v2: ## run the engine's tests on a virtual machine with cgroup v2 only (docs/testing.md)
	@command -v qemu-system-x86_64 >/dev/null && test -x /bin/busybox || { apt-get update -qq && apt-get install -y -qq --no-install-recommends qemu-system-x86 busybox-static e2fsprogs; }
	@mkdir -p .cache/vm
	CGO_ENABLED=0 $(GO) test -tags vm -count=1 -timeout 15m -v ./test/vm

race: tools ## run the tests under the race detector (installs gcc)
	@command -v gcc >/dev/null || { apt-get update -qq && apt-get install -y -qq gcc libc6-dev; }
	CGO_ENABLED=1 $(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v /test/e2e)

fuzz: ## fuzz every parser of foreign bytes for a short while each
	@for p in $$(grep -rl --include=*_test.go '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -c6-); do \
	echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s $$p || exit 1; done; done

bench: build ## the platform beside its peers (as root): WHAT=engine|api|scheduler|pods|footprint|definitions
	@cd test/bench && CGO_ENABLED=0 $(GO) run . -sampan '$(abspath $(SAMPAN))' -what '$(WHAT)'

clients: ## helm's library and an operator on controller-runtime against the platform (as root, offline once the module cache is filled)
	@cd test/clients && CGO_ENABLED=0 $(GO) vet ./... && CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m .

bench-check: ## vet and test the module that measures
	@cd test/bench && CGO_ENABLED=0 $(GO) vet . && CGO_ENABLED=0 $(GO) test .

upstream-data: ## this program and upstream's API server on each other's data (as root; the first build takes a quarter of an hour): FIGURES=10000
	@CGO_ENABLED=0 $(GO) build -o .cache/upstream/sampan ./cmd/sampan
	@cd test/upstream && CGO_ENABLED=0 $(GO) vet -trimpath . && SAMPAN='$(CURDIR)/.cache/upstream/sampan' UPSTREAM_FIGURES='$(FIGURES)' \
	CGO_ENABLED=0 $(GO) test -trimpath -count=1 -timeout 15m $(if $(FIGURES),-v -run Figures) .

beside: ## build what clients, differ and upstream-data run beside this program, and run nothing
	@cd test/clients && CGO_ENABLED=0 $(GO) test -c -o /dev/null .
	@cd test/differ && CGO_ENABLED=0 $(GO) run . -build
	@cd test/upstream && CGO_ENABLED=0 $(GO) test -trimpath -c -o /dev/null .

# The suite's busybox is built of its sources. The first build takes about 25 minutes on two cores.
conformance-suite: ## build upstream's conformance suite and its images
	@command -v gcc >/dev/null || { apt-get update -qq && apt-get install -y -qq gcc libc6-dev; }
	@cd test/conformance && $(GO) run . -build

conformance: conformance-suite ## run upstream's conformance suite (as root): FOCUS='…' SIG=node PROCS=2 NODES=2 UP='--strict-versions' LAST_FAILED=1 SPECS=FILE UPDATE=1
	@cd test/conformance && $(GO) run . -focus '$(FOCUS)' -sig '$(SIG)' -procs '$(or $(PROCS),2)' -nodes '$(or $(NODES),2)' -up '$(UP)' -specs '$(if $(SPECS),$(abspath $(SPECS)))' \
	$(if $(LAST_FAILED),-last-failed) $(if $(UPDATE),-update)

conformance-ratchet: conformance-suite ## run as much of what once passed as fits into BUDGET=12m; what fails is an error
	@cd test/conformance && $(GO) vet . && $(GO) test . && $(GO) run . -ratchet '$(or $(BUDGET),12m)' -procs '$(or $(PROCS),3)' -out ratchet

differ: ## the API beside upstream's (as root): SEED=n ONLY=case BUDGET=2m GATE=1; differences that are not in test/differ/known.yaml are an error
	@cd test/differ && $(GO) vet . && $(GO) test . && CGO_ENABLED=0 $(GO) run . -seed '$(or $(SEED),0)' -only '$(or $(ONLY),-1)' \
	-budget '$(or $(BUDGET),0)' $(if $(BUDGET)$(ONLY)$(GATE),,-strict) $(if $(GATE),-gate)

lint: ## what machines can see of the house rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
