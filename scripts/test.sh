#!/usr/bin/env bash
# Installs what the tests need and runs every tier, or those named. A failing tier does not stop
# the others. Ends with a table and the line "N passed, M failed"; exits 1 if M is not 0.
# Usage: scripts/test.sh [TIER...]
set -euo pipefail
cd "$(dirname "$0")/.."

# A tier that takes longer hangs.
readonly TIER_LIMIT=25m

tiers=("$@")
if [ ${#tiers[@]} -eq 0 ]; then
  tiers=(lint unit bots clients netem browser)
fi

running=
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; exit 130' INT TERM

summary=()
passed=0
failed=0

# run NAME COMMAND...
run() {
  local name=$1 start=$SECONDS result
  shift
  printf '\n======== %s ========\n\n' "$name"
  # `timeout` gives the tier a process group of its own, so that all of it ends; an interrupt must
  # be handed on.
  timeout --kill-after=10s "$TIER_LIMIT" "$@" &
  running=$!
  if wait "$running"; then
    result=passed
  else
    result="FAILED (exit $?)"
  fi
  printf '\n-------- %s: %s --------\n' "$name" "$result"
  summary+=("$(printf '%-10s %-18s %5d s' "$name" "$result" $((SECONDS - start)))")
  [ "$result" = passed ]
}

# What is missing also fails the tier that needs it; this only says so once, and first.
run "test-deps" scripts/install-test-deps.sh || true

for tier in "${tiers[@]}"; do
  if run "$tier" "scripts/tier/$tier.sh"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
done

printf '\n======== summary ========\n\n'
printf '%s\n' "${summary[@]}"
if [ -d client-demo/test-results ]; then
  printf '\nscreenshots: %s\n' "$PWD/client-demo/test-results"
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
