#!/usr/bin/env bash
# The impaired network in real time: how exact its links are, that it leaves no trace, and the suite
# `quick`, with real browser calls at ten percent loss and on a downlink that narrows. Needs root and
# /dev/net/tun.
# The report of the suite: target/netem-quick/report.html.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo cmake chromium ip nft node

source scripts/build.sh
node --test netem-tests/browser/
cargo test --profile ci --locked --workspace --test lab
"$(dirname "$CONFAB_BIN")/confab-netem" run netem-tests/scenarios/quick --out target/netem-quick
