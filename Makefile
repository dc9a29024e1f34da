# Every target is a short form of a command that also works without make.
.DEFAULT_GOAL := help
.PHONY: help build demo demo-codes test check race fuzz chaos bench compat update

FUZZTIME ?= 20s
CHAOS_ROUNDS ?= 200
CHAOS_PACKAGE ?= ./cmd/qrjump

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, as bin/qrjump
	CGO_ENABLED=0 go build -trimpath -o bin/qrjump ./cmd/qrjump

demo: ## play the whole tour against a server of its own
	go run ./demo

demo-codes: ## 20,000,000 codes from application to ticket, each one checked (DEMO_CODES=100000)
	scripts/demo-codes.sh

test: ## everything a change must pass; starts its own PostgreSQL
	scripts/test.sh

check: ## formatting, vet, modern forms, staticcheck
	! gofmt -l . | grep .
	go vet ./...
	go fix -diff ./...
	go tool -modfile=tools.mod staticcheck ./...

race: ## the concurrent packages under the race detector (RACE_PACKAGES)
	scripts/test.sh race

fuzz: ## each fuzz target for a while (FUZZTIME=20s)
	scripts/fuzz.sh $(FUZZTIME)

chaos: ## kill the server over and over and count what survives (CHAOS_ROUNDS=200)
	KILL_ROUNDS=$(CHAOS_ROUNDS) go test -count=1 -v -run 'TestKill$$' -timeout 60m ./endurance

bench: ## side by side with the peers
	cd bench && go run ./sqlitedrivers

compat: ## other people's client libraries against a running server
	compat/run.sh

update: ## rewrite transcripts, golden files and docs/reference; read the diff
	go test $$(grep -rl --include='*_test.go' --exclude-dir=bench --exclude-dir=compat 'flag.Bool("update"' . | xargs -r dirname | sort -u) -update
