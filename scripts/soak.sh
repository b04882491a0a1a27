#!/usr/bin/env bash
# What takes longer than a test may: random stories with SOAK_SEEDS seeds, a thousand links for the
# controllers, and the table of what repair costs. Exits with the first that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/build.sh

SEEDS="${SOAK_SEEDS:-200}" cargo test --profile ci --locked --workspace --test virtual -- after_any_turmoil --nocapture
cargo test --profile ci --locked --workspace --lib -- --ignored --nocapture bandwidth::tests::stories
cargo test --profile ci --locked --workspace --test virtual -- --ignored --nocapture what_repair_costs
