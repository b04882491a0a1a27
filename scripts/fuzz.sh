#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS, or those named. What it finds is kept below `fuzz/artifacts` of
# the crate, and printed with the command that replays it. Usage: scripts/fuzz.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "Fuzzing needs nightly Rust and cargo-fuzz: \`rustup toolchain install nightly\` and" \
    "\`cargo install --locked cargo-fuzz\`." >&2
  exit 1
fi

wanted=" $* "
for crate in sfu turn; do
  while read -r target; do
    [ $# -eq 0 ] || [[ $wanted == *" $target "* ]] || continue
    echo "== $crate: $target"
    (cd "$crate" && cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}")
  done < <(cd "$crate" && cargo +nightly fuzz list)
done
