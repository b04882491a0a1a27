# Sourced by the tiers that run the real server: builds it with its clients, in the profile that all
# tests share, and says where it is.
cargo build --profile ci --locked -p confab -p confab-bot -p confab-bench
export CONFAB_BIN=${CARGO_TARGET_DIR:-$PWD/target}/ci/confab
