#!/usr/bin/env bash
# Unit and property tests, documentation examples, and whole calls in virtual time. Test targets
# that need a server, browsers or namespaces are marked `test = false` in their crate and belong to
# other tiers.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo cmake

source scripts/build.sh
cargo test --profile ci --locked --workspace
