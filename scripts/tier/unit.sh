#!/usr/bin/env bash
# Unit and property tests, documentation examples, and whole calls in virtual time, with overflow
# checks on. Bots and load generator are built and tested once, by the tier that needs them fast.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo

cargo test --locked --workspace --exclude confab-bot --exclude confab-bench
