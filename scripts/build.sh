# Sourced by the tiers that run code: builds everything that any of them runs, at once, in the
# profile they share, and says where the server is. Another choice of packages or targets would
# choose other features for the dependencies, and build them again.
cargo build --profile ci --locked --workspace --bins --tests
export CONFAB_BIN=${CARGO_TARGET_DIR:-$PWD/target}/ci/confab
