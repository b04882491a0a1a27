#!/usr/bin/env bash
# Unit and property tests, documentation examples, and whole calls in virtual time. Test targets
# that need a server, browsers or namespaces are marked `test = false` in their crate and belong to
# other tiers.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
# Without the last three, the tests against other implementations would say so and pass.
need cargo cmake openssl pebble turnutils_uclient

source scripts/build.sh
# Those of the binary wait for most of their time: for renewals, and for the patience of doors to end.
readonly log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --profile ci --locked --workspace --test server >"$log" 2>&1 &
readonly server=$!
others=0
cargo test --profile ci --locked --workspace || others=$?
binary=0
wait "$server" || binary=$?
cat "$log"
exit $((others > binary ? others : binary))
