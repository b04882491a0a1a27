#!/usr/bin/env bash
# Chromium and Firefox in calls through the real page and the real binary, which the tests find in
# CONFAB_BIN. Screenshots: client-demo/test-results.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo cmake chromium firefox-esr node

source scripts/build.sh
node client-demo/tests/run.mjs
