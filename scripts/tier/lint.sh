#!/usr/bin/env bash
# Formatting, clippy, the dependency graph, the types of the web SDK and page, and the tests in Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/need.sh
need cargo cargo-deny cmake npm tests/clients/.venv/bin/ruff

cargo fmt --all --check
# The clippy of the pinned toolchain; every warning is an error. In the profile of the tests, which
# shares what build scripts make, C libraries among it. The second line is for the test targets that
# a plain `cargo test` leaves out.
cargo clippy --profile ci --locked --workspace --all-targets -- -D warnings
cargo clippy --profile ci --locked --workspace --test bots --test fanout --test lab --test server -- -D warnings
# Links in comments lead somewhere, be it to what is private: they are read in the source.
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --profile ci --locked --workspace --no-deps --quiet
# Fuzz targets are workspaces of their own, which no other build looks at. Of the same dependencies, in the
# same profile, which their workspaces do not have: so that nothing is built twice.
for fuzz in sfu/fuzz turn/fuzz; do
  cp Cargo.lock "$fuzz/Cargo.lock"
  cargo check --manifest-path "$fuzz/Cargo.toml" --target-dir target --profile ci --config Cargo.toml --quiet
done
# It reads the manifests of all crates, those for other systems too, which no build has needed.
cargo fetch --locked
cargo deny --locked --offline check --hide-inclusion-graph --allow duplicate bans licenses sources

readonly ADVISORIES=https://github.com/RustSec/advisory-db
if timeout 20 git ls-remote --quiet "$ADVISORIES" HEAD >/dev/null 2>&1; then
  cargo deny --locked check --hide-inclusion-graph advisories
else
  echo
  echo "NOT CHECKED: security advisories. $ADVISORIES cannot be reached from here." >&2
  echo
fi

npm --prefix client-demo run --silent check
tests/clients/.venv/bin/ruff check --quiet tests/clients
tests/clients/.venv/bin/ruff format --quiet --check tests/clients
