#!/usr/bin/env bash
# Runs the tests with real clients, all or some, in a network of their own: a loopback with the MTU
# of Ethernet, and an address that is not loopback, which some programs insist on. It is gone with
# the last of the processes. Needs root, or leave to make user namespaces.
# Usage: CONFAB_BIN=…/confab run.sh [PYTEST OPTION or TEST...]
set -euo pipefail
cd "$(dirname "$0")"

if [ -z "${CONFAB_TEST_ADDRESS-}" ]; then
  export CONFAB_TEST_ADDRESS=10.77.0.1
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(--map-root-user)
  exec unshare "${as_root[@]}" --net -- ./run.sh "$@"
fi

ip link set lo mtu 1500 up
ip link add clients type veth peer name clients-peer
ip address add "$CONFAB_TEST_ADDRESS/24" dev clients
ip link set clients up
ip link set clients-peer up
exec .venv/bin/python -m pytest "$@"
