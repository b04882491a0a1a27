#!/usr/bin/env bash
# Real programs that publish and watch, and what clients in the field do, against the real binary in
# a network of its own. Needs root. docs/clients.md has what it sees; UPDATE_DOCS=1 writes it there.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo cmake ffmpeg ip node unshare whip-client tests/clients/.venv/bin/python

source scripts/build.sh
tests/clients/run.sh
