# Proximity. `make run` tries the product on this machine, `make test` tests it; both do
# their own set-up. `make help` lists the rest.

SHELL       := /bin/bash
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X github.com/proximity-pve/proximity/pkg/version.value=$(VERSION)
PREFIX      ?= /usr/local
SYSCONFDIR  ?= /etc
UNITDIR     ?= /etc/systemd/system
DATA_DIR    ?= ./.proximity
TOOLS       := bin/tools
TOOLS_STAMP := $(TOOLS)/.stamp
# The annotations for rules of fields: their proto comes from the module that defines them.
RULES_PROTO := $(TOOLS)/proto/buf/validate/validate.proto
PROTOVALIDATE := v1.2.2
GO_FILES    := $(shell find api cmd controllers pkg -name '*.go' -not -path 'cmd/proximity-caddy/*' 2>/dev/null)

# One way to compile, so that what was built for one thing, or in another checkout, is not
# built again.
export GOFLAGS := $(filter-out -trimpath,$(GOFLAGS)) -trimpath

.DEFAULT_GOAL := help
.PHONY: help setup build run test e2e bench generate lint clean install

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

setup: ## install what is missing and make templates, packages and the proxy (cached)
	@hack/setup.sh

build: bin/proximityd bin/proxctl bin/pvesim ## build bin/proximityd, bin/proxctl and bin/pvesim

bin/proximityd bin/proxctl bin/pvesim: bin/%: $(GO_FILES) go.mod go.sum
	CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o $@ ./cmd/$*

run: setup build ## the quickstart on this machine: everything from YAML to an app in the browser
	@hack/run.sh --data-dir $(DATA_DIR)

test: setup build ## unit tests with the race detector, and the quickstart end to end
	@hack/test.sh unit

e2e: setup build ## all end-to-end stories on real containers
	@hack/test.sh e2e

bench: setup build ## figures as a table, and as bench.json; ONLY='^idle/' measures some of them
	@$(GO) run ./hack/bench -out bench.json $(if $(ONLY),-only '$(ONLY)')

# SEED= is the first of SEEDS= lives; one that failed is repeated with SEED=n SEEDS=1.
.PHONY: chaos
chaos: ## the controllers through 100,000 lives in which everything goes wrong (SEED=, SEEDS=)
	@CHAOS_SEED=$(or $(SEED),0) CHAOS_SEEDS=$(or $(SEEDS),100000) $(GO) test -count=1 -timeout 24h -run '^TestSoup$$' $(if $(filter 1,$(SEEDS)),-v) ./controllers

.PHONY: crash
crash: ## kill a process that writes to a database, 500 times, and look what is left
	@$(GO) run ./hack/crash

.PHONY: crash-git
crash-git: ## kill a daemon that follows a repository, 200 times, and look what is left (KILLS=)
	@PROXIMITY_KILLS=$(or $(KILLS),200) $(GO) test -count=1 -timeout 4h -v -run '^TestKilledWhileFollowing$$' ./pkg/daemon

.PHONY: powerfail
powerfail: ## check 100,000 files that a power failure may leave of a database (needs strace)
	@$(GO) run ./hack/powerfail

generate: $(TOOLS_STAMP) $(RULES_PROTO) ## generate code and the texts of explain from the protos
	$(TOOLS)/buf generate
	$(TOOLS)/buf generate --template buf.gen.kindtest.yaml
	set -o pipefail; $(TOOLS)/buf build --as-file-descriptor-set -o - | $(GO) run ./hack/protodocs > bin/comments.json
	mv bin/comments.json pkg/resource/docs/comments.json

lint: $(TOOLS_STAMP) $(RULES_PROTO) ## vet, staticcheck, and whether generated code is current
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/buf lint
	@hack/check-generated.sh

$(TOOLS_STAMP): hack/tools/go.mod hack/tools/go.sum
	@mkdir -p $(TOOLS)
	cd hack/tools && $(GO) build -o ../../$(TOOLS)/ tool
	@touch $@

$(RULES_PROTO): Makefile
	@mkdir -p $(@D)
	dir=$$(cd / && $(GO) mod download -json github.com/bufbuild/protovalidate@$(PROTOVALIDATE) | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p') && \
	  install -m 0644 "$$dir/proto/protovalidate/buf/validate/validate.proto" $@

install: build ## install binaries, systemd unit and a configuration to fill in (DESTDIR, PREFIX)
	install -D -m 0755 bin/proximityd $(DESTDIR)$(PREFIX)/bin/proximityd
	install -D -m 0755 bin/proxctl $(DESTDIR)$(PREFIX)/bin/proxctl
	install -d $(DESTDIR)$(UNITDIR)
	sed 's#/usr/local/bin/#$(PREFIX)/bin/#; s#/etc/proximity/#$(SYSCONFDIR)/proximity/#' manifests/systemd/proximityd.service > $(DESTDIR)$(UNITDIR)/proximityd.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/proximityd.service
	@if [ -e $(DESTDIR)$(SYSCONFDIR)/proximity/config.yaml ]; then \
	  echo "kept $(DESTDIR)$(SYSCONFDIR)/proximity/config.yaml"; \
	else install -D -m 0600 manifests/config/config.yaml $(DESTDIR)$(SYSCONFDIR)/proximity/config.yaml; \
	  echo "now fill in $(DESTDIR)$(SYSCONFDIR)/proximity/config.yaml, then: systemctl enable --now proximityd"; fi

clean: ## remove the embedded node with its guests, the data directory and what was built
	@if [ -x bin/proximityd ] && [ -d $(DATA_DIR) ]; then bin/proximityd --destroy-node --embedded --data-dir $(DATA_DIR); fi
	rm -rf $(DATA_DIR) bin bench.json
