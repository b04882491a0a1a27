//! What a WebSocket costs that has said nothing. A test target of its own: what it measures is the process.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

mod common;

use common::{House, raise_descriptors};

/// Sockets opened: more than the first allocation of anything, less than the lobby holds.
const COUNT: usize = 800;

/// Bytes that one may cost here, with its connection and the client's end of it.
const MAX_BYTES: usize = 20_000;

/// Bytes of memory that the process has.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    resident * 4096
}

#[tokio::test]
async fn a_silent_socket_costs_little() {
    raise_descriptors();
    let house = House::new().await;
    // What is loaded and grown on first use is not theirs.
    let mut sockets = Vec::with_capacity(COUNT + 100);
    for _ in 0..100 {
        sockets.push(house.bare_socket().await);
    }
    let before = memory();
    for _ in 0..COUNT {
        sockets.push(house.bare_socket().await);
    }
    let each = memory().saturating_sub(before) / COUNT;
    println!("{COUNT} silent sockets cost {each} bytes each");
    assert!(each < MAX_BYTES, "{each} bytes each");
}
