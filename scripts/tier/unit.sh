#!/usr/bin/env bash
# Unit and property tests, documentation examples, and whole calls in virtual time. Bots and load
# generator have a tier of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo

cargo test --profile ci --locked --workspace --exclude confab-bot --exclude confab-bench
