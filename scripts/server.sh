# Sourced by the tiers that run the real server: builds it with its clients, and says where it is.
source scripts/release.sh
cargo build --release --locked -p confab -p confab-bot -p confab-bench
export CONFAB_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/confab
