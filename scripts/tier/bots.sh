#!/usr/bin/env bash
# Headless clients, which share no code with the server, and the load generator against the real
# binary on loopback. The tests find it in CONFAB_BIN.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo cmake ffmpeg

source scripts/build.sh
cargo test --profile ci --locked --workspace --test bots --test fanout
