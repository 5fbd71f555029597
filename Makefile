# Sampan: the commands a developer or a new user types. `make help` lists them.
SHELL := /bin/bash
GO ?= go
export CGO_ENABLED ?= 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help build test
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: ## build bin/sampan
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/sampan ./cmd/sampan

test: ## install what the tests need, then run all of them (as root)
	$(GO) vet ./...
	$(GO) test ./...
