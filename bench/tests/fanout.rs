//! One publisher, fifty subscribers: nothing lost, and a printed figure of what a packet costs.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::time::Duration;

use confab_bench::fanout::{self, Fanout};
use confab_bench::server::find_binary;
use confab_bot::MadeUpVideo;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_subscribers_lose_nothing() {
    let outcome = fanout::run(&Fanout {
        server: find_binary().expect("a server to test"),
        workers: 2,
        subscribers: 50,
        duration: Duration::from_secs(10),
        video: MadeUpVideo {
            bitrate: 1_000_000,
            frame_rate: 30,
        },
    })
    .await
    .unwrap();
    println!("{outcome}");
    assert!(outcome.server.missed.is_empty(), "{outcome}");
    // What the server counts is what arrived: 50 times what was published, retransmissions apart.
    let expected = 50 * outcome.server.published;
    assert!(outcome.server.forwarded >= expected, "{outcome}");
    assert!(
        outcome.server.forwarded < expected + expected / 100,
        "{outcome}"
    );
}
