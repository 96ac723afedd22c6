# `make` lists the targets. The two that matter: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE ?= $(or $(CAIRN_CACHE),/var/cache/cairn)
export CAIRN_CACHE := $(CACHE)
TOOLS := $(CACHE)/bin/tools-$(shell cat tests/tools/go.sum 2>/dev/null | sha256sum | cut -c1-12)
# The linter's cache holds findings with absolute paths: a checkout at another path must not get them.
LINT_CACHE := $(CACHE)/golangci/$(shell echo $(CURDIR) | sha256sum | cut -c1-12)
LAB := bin/lab
FUZZTIME ?= 30s
# What runs where Ceph's libraries are, and what runs beside the lab.
UNIT := $(shell go list ./... 2>/dev/null | grep -v -e /tests/e2e -e /tests/bench -e /tests/sanity/ceph -e /tests/delta -e /tests/faults -e '/tests/krbd$$')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: install $(LAB) ## a real Kubernetes and Ceph on this machine, a database on it, and its faults before your eyes
	@go run ./tests/e2e/demo

.PHONY: demo-down
demo-down: $(LAB) ## end the demo and remove all that it made
	@$(LAB) down

.PHONY: test
test: install lint generated unit sanity krbd delta faults e2e ## all tests: what a change must pass

.PHONY: unit
unit: tools ## unit, contract and sanity tests, in the build root beside a real Ceph
	@images/in-root $(TOOLS)/gotestsum --format pkgname --format-hide-empty-pkg -- -trimpath -timeout 60m $(UNIT)

.PHONY: sweeps
sweeps: tools ## every verb of a cluster's life, disturbed at each of its writes; the table of what was done
	@log=$$(mktemp); CAIRN_SWEEP=all images/in-root go test -v -trimpath -count=1 -timeout 80m -run 'TestAVerbThatIsDisturbed|TheSweepSees' ./operator/cluster >$$log 2>&1 || { cat $$log; exit 1; }; \
	grep -E '^(sweep:|ok)' $$log; rm -f $$log

.PHONY: sanity
sanity: ## csi-sanity through the driver's sockets, on a real Ceph with real mounts
	@log=$$(mktemp); images/in-root go test -v -trimpath -count=1 -timeout 15m ./tests/sanity/ceph >$$log 2>&1 || { cat $$log; exit 1; }; \
	grep -E '^(csi-sanity|  not run|ok| *---)' $$log; rm -f $$log

.PHONY: delta
delta: ## changed blocks against what was written, byte by byte, on a real Ceph
	@log=$$(mktemp); images/in-root go test -v -trimpath -count=1 -timeout 10m ./tests/delta >$$log 2>&1 || { cat $$log; exit 1; }; \
	grep -E '^(delta:|ok)' $$log; rm -f $$log

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s) each; what fails is kept in testdata
	@mkdir -p bin; images/in-root bash -c 'grep -rl --include=*_test.go "^func Fuzz" api cmd csi daemon operator tests | while read -r file; do \
	for name in $$(sed -n "s/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p" "$$file"); do echo "$${file%/*} $$name"; \
	go test -run "^$$" -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$${file%/*}" </dev/null >$(CURDIR)/bin/fuzz.log 2>&1 || { cat $(CURDIR)/bin/fuzz.log; exit 1; }; \
	grep execs $(CURDIR)/bin/fuzz.log | tail -1; done; done'

.PHONY: krbd
krbd: ## the node plugin on Debian's stock kernel, emulated, with the kernel's own client against a real Ceph
	@images/root vm >/dev/null && images/root ceph >/dev/null
	@images/in-root go test -trimpath -count=1 -timeout 10m ./tests/krbd

FAULTS ?= crash unreachable process

.PHONY: faults
faults: ## the driver's processes killed at every boundary of every RPC; Ceph out of reach
	@log=$$(mktemp); for part in $(FAULTS); do \
	images/in-root go test -v -trimpath -count=1 -timeout 15m ./tests/faults/$$part >$$log 2>&1 || { cat $$log; exit 1; }; \
	grep -E '^(crashes|kills|mons|cluster|planted|  [A-Z0-9]|ok)' $$log; done; rm -f $$log

.PHONY: kills
kills: ## the driver's processes killed anywhere, at random, on a real Ceph (CAIRN_SEED, CAIRN_KILLS of each case)
	@$(MAKE) -s faults FAULTS=process

.PHONY: underio
underio: ## node plugin and data path killed 50 times each, and replaced, while every acknowledged write is recorded
	@log=$$(mktemp); images/in-root go test -v -trimpath -count=1 -timeout 15m -run '(Killed|AskedToStop)UnderIO' ./csi/attach/process ./tests/volumes >$$log 2>&1 || { cat $$log; exit 1; }; \
	grep -E '^([0-9]+ ×|ok)' $$log; rm -f $$log

.PHONY: e2e
e2e: tools images $(LAB) ## end-to-end tests on the lab
	@images/build ceph-reef
	@$(TOOLS)/gotestsum --format testname -- -timeout 60m -count=1 ./tests/e2e/...

.PHONY: bench
bench: install images $(LAB) ## measure, and write docs/benchmarks.json and docs/benchmarks.md
	@go run ./tests/bench

.PHONY: lint
lint: tools ## golangci-lint, with the import rules of docs/development.md
	@mkdir -p $(LINT_CACHE) && GOLANGCI_LINT_CACHE=$(LINT_CACHE) images/in-root $(TOOLS)/golangci-lint run ./...

.PHONY: generated
generated: tools ## fail when generated code, CRDs or manifests are not current
	@before=$$(cat api/v1alpha1/zz_* deploy/crds/* deploy/install.yaml deploy/snapshots.yaml deploy/changed-blocks.yaml tests/faults/crash/proxies.go | sha256sum); $(MAKE) -s generate; \
	after=$$(cat api/v1alpha1/zz_* deploy/crds/* deploy/install.yaml deploy/snapshots.yaml deploy/changed-blocks.yaml tests/faults/crash/proxies.go | sha256sum); \
	[ "$$before" = "$$after" ] || { echo "generated files were not current: run 'make generate' and commit" >&2; exit 1; }

.PHONY: generate
generate: tools ## deep copies, CRDs, the install manifests, and the proxies of the crash test
	@go generate ./tests/faults/...
	@$(TOOLS)/controller-gen object paths=./api/...
	@$(TOOLS)/controller-gen crd paths=./api/... output:crd:dir=deploy/crds
	@{ echo "# Generated by 'make generate' from deploy/crds and deploy/manifests."; \
	for part in deploy/manifests/operator.yaml deploy/crds/*.yaml deploy/manifests/agent.yaml deploy/manifests/csi.yaml; do echo '---'; sed '1{/^---$$/d}' $$part; done; } > deploy/install.yaml
	@{ echo "# Generated by 'make generate' from external-snapshotter's CRDs and deploy/manifests/snapshots.yaml."; \
	for part in $$(go list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshotter/client/v8)/config/crd/*snapshot*.yaml deploy/manifests/snapshots.yaml; do \
	echo '---'; sed '1{/^---$$/d}' $$part; done; } > deploy/snapshots.yaml
	@{ echo "# Generated by 'make generate' from external-snapshot-metadata's CRD and deploy/manifests/changed-blocks.yaml."; \
	for part in $$(go list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshot-metadata/client)/config/crd/*.yaml deploy/manifests/changed-blocks.yaml; do \
	echo '---'; sed '1{/^---$$/d}' $$part; done; } > deploy/changed-blocks.yaml

.PHONY: images
images: ## Cairn's programs and images
	@images/build-binaries
	@images/build

TAG ?= $(shell git describe --always --dirty)
OWN = $(REGISTRY)/cairn:$(TAG)
CEPH = $(REGISTRY)/ceph:20.2.4

.PHONY: push
push: images ## the images to REGISTRY (as TAG), and manifests that name them to bin/deploy
	@[ -n "$(REGISTRY)" ] || { echo "where to? make push REGISTRY=registry.example.com/storage" >&2; exit 1; }
	@go run ./images/push --store $(CACHE)/images cairn.storage/cairn:dev=$(OWN) cairn.storage/ceph:20.2.4=$(CEPH)
	@mkdir -p bin/deploy; for manifest in install snapshots changed-blocks; do \
	sed -e 's,cairn.storage/cairn:dev,$(OWN),' -e 's,cairn.storage/ceph:20.2.4,$(CEPH),' deploy/$$manifest.yaml >bin/deploy/$$manifest.yaml; done
	@echo "kubectl apply --server-side -f bin/deploy/install.yaml"

.PHONY: install
install: ## what the machine needs: packages, the build root, the lab's Kubernetes
	@go run ./tests/lab/cmd/lab install-deps
	@images/root build >/dev/null
	@images/root vm >/dev/null

.PHONY: tools
tools: $(TOOLS)/done

$(TOOLS)/done:
	@echo "building the pinned tools (minutes, once)"
	@mkdir -p $(TOOLS)
	@cd tests/tools && for tool in $$(go tool | grep /); do CGO_ENABLED=0 go build -trimpath -o $(TOOLS)/ $$tool || exit 1; done
	@touch $@

.PHONY: $(LAB)
$(LAB):
	@CGO_ENABLED=0 go build -trimpath -o $(LAB) ./tests/lab/cmd/lab

.PHONY: clean
clean: ## remove what the build made here; the cache stays
	rm -rf bin
