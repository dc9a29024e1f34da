# Every target is a short form of a command that also works without make.
.DEFAULT_GOAL := help
.PHONY: release release-check release-stories pictures
.PHONY: mutants evidence bench-alarms grown help build demo demo-codes test test-all check format lint race fuzz chaos bench compat pages update

# The Go client is a separate module, which ./... does not include.
CLIENT := github.com/qrjump/qrjump/client
FUZZTIME ?= 20s
BENCH ?= all
BENCH_SCALE ?= 1
BENCH_ROUNDS ?= 7
PAGES_DIR ?= $(CURDIR)/pages
CHAOS_MINUTES ?= 8
GROWN ?= 1
RELEASE_PLATFORMS ?= linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, as bin/qrjump
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/qrjump ./cmd/qrjump

demo: build ## run the main workflow against a temporary server, in your language (LANG)
	CGO_ENABLED=0 go run -trimpath ./demo

demo-codes: ## 20,000,000 codes from application to ticket, each one checked (DEMO_CODES=100000)
	scripts/demo-codes.sh

test: ## required checks of every change, 10 to 18 minutes; installs dependencies if possible, starts its own PostgreSQL
	scripts/test.sh

test-all: test ## make test, then vet, staticcheck, complete tables, the race detector, third-party clients, 20,000,000 codes
	scripts/test.sh rest

check: format ## formatting, vet, names, comments and ceilings; about a minute
	go vet ./... $(CLIENT)
	go test -run 'TestCeilings_WithinLimits|TestVocabulary' ./internal/testkit/vocabulary ./internal/server ./cmd/qrjump

format: ## formatting alone
	! gofmt -l . | grep .

evidence: ## list behaviours by the age of their evidence, oldest first, with search terms
	@go run ./docs/print -evidence

lint: ## go fix, vet, staticcheck, and whether benchmarks, tests of client libraries and the program for other systems compile
	go fix -diff ./...
	go -C client fix -diff ./...
	go vet ./... $(CLIENT)
	go tool -modfile=tools.mod staticcheck ./... $(CLIENT)
	for module in bench compat compat/*/go.mod; do go -C $${module%/go.mod} vet ./... || exit 1; done
	for os in darwin windows; do GOOS=$$os go build -o /dev/null ./cmd/qrjump || exit 1; done

race: ## run concurrent packages and tests with the race detector (RACE_PACKAGES, RACE_PARTS)
	scripts/test.sh race

mutants: ## mutation testing: how many of 200 mutants the tests detect (MUTANTS_DIR, MUTANTS_FLAGS='-first 60 -commit HEAD~20')
	scripts/test.sh mutants

fuzz: ## run each fuzz target (FUZZTIME=20s)
	scripts/fuzz.sh $(FUZZTIME)

chaos: ## kill nodes, databases and streams, cut power, move clocks, upgrade; check acknowledged writes (CHAOS_MINUTES=8)
	CHAOS_MINUTES=$(CHAOS_MINUTES) scripts/test.sh chaos

bench: ## compare with other implementations, into docs/benchmarks.md (for a short run: BENCH=index,http BENCH_SCALE=0.1)
	scripts/install-bench-deps.sh
	cd bench && go run . -sections $(BENCH) -scale $(BENCH_SCALE) -rounds $(BENCH_ROUNDS) $(if $(BENCH_DIR),-dir $(BENCH_DIR)) $(BENCH_FLAGS)

grown: ## measure costs with a year of data of a large brand at three sizes (GROWN=0.01 in minutes, GROWN_FLAGS)
	cd bench && go run . -sections grown -grown $(GROWN) $(if $(BENCH_DIR),-dir $(BENCH_DIR)) $(GROWN_FLAGS)

bench-alarms: ## measure alarms for copied and for genuine codes; writes docs/alarms.md
	go test -count=1 -run TestAlarms_FalseAlarmRate ./internal/domain/alarms -update
	TEST_WHOLE=1 go test -count=1 -v -run TestAlarms_FalseAlarmRate ./internal/domain/alarms -update

compat: ## run third-party client libraries against a server
	compat/run.sh

pages: ## take screenshots of the landing pages and the console in Chromium, into PAGES_DIR (default: pages)
	PAGES_DIR=$(PAGES_DIR) QRJUMP_REQUIRE_CHROMIUM=1 go test -count=1 -run 'TestPages_InChromium$$' ./internal/edge/landing ./internal/edge/console

pictures: ## draw the screenshots and the trace of README and documents, into docs/pictures
	mkdir -p docs/pictures
	PICTURES_DIR=$(CURDIR)/docs/pictures QRJUMP_REQUIRE_CHROMIUM=1 TEST_WHOLE=1 go test -count=1 -run 'TestPictures_OfTheDocuments$$' ./internal/edge/console
	dir=$$(mktemp -d /tmp/qrjump-pictures.XXXXXX) && chmod 711 $$dir && url=$$(scripts/postgres.sh start $$dir/postgres) && \
	PICTURES_DIR=$(CURDIR)/docs/pictures TEST_POSTGRES=$$url go test -count=1 -run 'TestTracing_ScanAcrossNodes$$' ./chaos; \
	status=$$?; scripts/postgres.sh stop $$dir/postgres; rmdir $$dir; exit $$status

release: ## build packages and images of this commit into dist (RELEASE_PLATFORMS)
	cd release && go run . -platforms $(RELEASE_PLATFORMS)

release-check: ## build this commit twice, in two directories, and compare the bytes (RELEASE_PLATFORMS)
	cd release && go test . && go run . -check -platforms $(RELEASE_PLATFORMS)

release-stories: ## test the life cycle of the package and the image in dist, on a disposable machine (DISPOSABLE=yes)
	release/deb-story.sh dist/qrjump_*_amd64.deb
	release/systemd-story.sh dist/qrjump_*_amd64.deb
	release/image-story.sh dist/qrjump-*.oci.tar

update: ## regenerate transcripts, golden files and generated pages; review the diff
	go run ./docs/print
	go test $$(grep -rl --include='*_test.go' --exclude-dir=bench --exclude-dir=compat --exclude-dir=release 'flag.Bool("update"' . | xargs -r dirname | sort -u) -update
