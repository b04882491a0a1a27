# Sourced by the tiers that run code: one optimised build serves unit tests, bots, browsers and the
# server under test, where a debug build beside it would cost minutes. Overflow checks stay on, as
# they are in debug builds; that changes the server's CPU time by little, but figures to quote come
# from a plain release build.
export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
