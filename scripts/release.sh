# Sourced by the tiers that run the real server: builds it with its clients, optimised as users
# run it, and says where it is.
cargo build --release --locked -p confab -p confab-bot -p confab-bench
export CONFAB_BIN=${CARGO_TARGET_DIR:-$PWD/target}/release/confab
