#!/usr/bin/env bash
# Installs what `make test` needs and a machine with only Rust and a C compiler lacks: Debian
# packages where we are root and apt exists, else it says exactly what to install; cargo-deny;
# the development packages of client-demo; and the real clients of tests/clients from PyPI and npm.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_DENY_VERSION=0.20.2

# program:package
readonly PROGRAMS=(
  cmake:cmake # builds libopus for the bots
  pkg-config:pkg-config
  chromium:chromium
  firefox-esr:firefox-esr
  ffmpeg:ffmpeg # makes the bots' test video
  node:nodejs
  npm:npm
  turnutils_uclient:coturn # another implementation's TURN clients
  openssl:openssl # another implementation of DTLS
  pebble:pebble # another implementation's certificate authority
  ip:iproute2 # network namespaces
  nft:nftables # NAT and firewalls between them
  iperf3:iperf3 # a flow of TCP beside a call: for the suite bandwidth, not for `make test`
  unshare:util-linux # the network of the real clients
  whip-client:simple-whip-client # one of them
)
# What the others need of Debian: no programs, so looked for as packages.
readonly PACKAGES=(
  python3-venv
  python3-gi
  gir1.2-gst-plugins-bad-1.0
  gstreamer1.0-nice
  gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-base
  gstreamer1.0-plugins-good
)

missing=()
for entry in "${PROGRAMS[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done
if command -v dpkg-query >/dev/null; then
  for package in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
fi
if [[ " ${missing[*]-} " == *" chromium "* ]]; then
  missing+=(fonts-dejavu-core) # else the screenshots have no text
fi

if [ ${#missing[@]} -gt 0 ]; then
  install=(apt-get install -y --no-install-recommends "${missing[@]}")
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    "${install[@]}"
  else
    echo "The tests need more than this machine has. On Debian, run:" >&2
    echo "  sudo apt-get update && sudo ${install[*]}" >&2
    echo "then \`make test\` again. Elsewhere, install the same programs by other means." >&2
    exit 1
  fi
fi

if ! command -v cargo-deny >/dev/null; then
  # Unoptimised: it is fast enough, and builds in half the time.
  cargo install cargo-deny --locked --version "$CARGO_DENY_VERSION" --debug
fi

# Only when the lock file has changed since.
for folder in client-demo tests/clients; do
  if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.confab-installed"; then
    npm --prefix "$folder" ci --no-audit --no-fund
    cp "$folder/package-lock.json" "$folder/node_modules/.confab-installed"
  fi
done
if ! cmp -s tests/clients/requirements.txt tests/clients/.venv/.confab-installed; then
  # Debian's own Python, which alone sees python3-gi.
  /usr/bin/python3 -m venv --clear --system-site-packages tests/clients/.venv
  tests/clients/.venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/clients/requirements.txt
  cp tests/clients/requirements.txt tests/clients/.venv/.confab-installed
fi

echo "Everything that the tests need is here."
