# What a contributor types. Each target is one line; the work is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help run test lint unit bots clients netem browser soak fuzz test-deps

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build and start the server (needs Rust and a C compiler); it prints the address to open
	cargo run --release --locked -p confab -- $(ARGS)

test: ## Install what the tests need, then run every tier: lint, unit, bots, clients, netem, browser
	scripts/test.sh

lint: ## Formatting, clippy, dependencies and licences, types of the web SDK
	scripts/tier/lint.sh

unit: ## Unit, property and virtual-time tests, optimised but with overflow checks
	scripts/tier/unit.sh

bots: ## Headless clients and the load generator against a real server on loopback
	scripts/tier/bots.sh

clients: ## GStreamer, FFmpeg, aiortc and others, and what clients in the field do (needs root)
	scripts/tier/clients.sh

netem: ## Real calls over impaired links between network namespaces (needs root)
	scripts/tier/netem.sh

browser: ## Chromium and Firefox through the real page
	scripts/tier/browser.sh

soak: ## Random stories with many seeds, a thousand links, and what repair costs
	scripts/soak.sh

fuzz: ## Each fuzz target for a minute (FUZZ_SECONDS=60; needs nightly Rust and cargo-fuzz)
	scripts/fuzz.sh

test-deps: ## Install what the tests need beyond Rust and a C compiler
	scripts/install-test-deps.sh
