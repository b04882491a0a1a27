//! The way to somebody gets narrower and wider.

use super::*;
use confab_netem_tests::virtual_time::call::millis;
use confab_netem_tests::virtual_time::client::watch;
use confab_sfu::media::Kind;

/// The queue of the narrow link: long enough that keeping it short is the server's doing, and as
/// long as it often is: what does not fit is lost.
const LONG: Duration = secs(1);
const SHORT: Duration = millis(200);

/// Bob, who looks at Alice.
struct Watcher {
    bob: Person,
    alice: Person,
    /// The longest standstill so far.
    frozen: Duration,
}

impl Watcher {
    /// Lets so many seconds pass. Returns the longest that a packet has had to wait meanwhile.
    fn watch(&mut self, call: &mut Call, seconds: u64) -> Duration {
        let (bob, alice) = (self.bob, self.alice);
        longest_wait(call, bob);
        let mut waited = Duration::ZERO;
        each_second(call, seconds, |call| {
            waited = waited.max(longest_wait(call, bob));
            self.frozen = self.frozen.max(longest_freeze(call, bob, alice));
            tell(call, bob, alice);
        });
        tell_decisions(call, bob);
        waited
    }
}

/// What people notice of 5 → 1 → 0.3 → 5 Mbit/s.
fn steps(seed: u64, delay: Duration, queue: Duration) {
    let mut call = Call::new(seed);
    let alice = call.join("alice", camera());
    let bob = call.join("bob", watch());
    call.down(bob, |link| link.delay = delay);
    call.up(bob, |link| link.delay = delay);
    narrow(&mut call, bob, 5 * MBIT, queue);
    // At another moment between two pictures, feedbacks and reports for each seed.
    call.run(secs(20) + millis(seed * 37));
    let mut watcher = Watcher {
        bob,
        alice,
        frozen: Duration::ZERO,
    };
    let who = format!("seed {seed}, {delay:?}, queue {queue:?}");
    watcher.watch(&mut call, 10);
    assert_eq!(call.sees(bob, alice).encodings(), [2], "{who}");
    for (rate, encoding) in [(MBIT, 1), (300 * KBIT, 0)] {
        narrow(&mut call, bob, rate, queue);
        watcher.watch(&mut call, 3);
        let waited = watcher.watch(&mut call, 17);
        assert!(waited < millis(200), "{who}: at {rate}: {waited:?}");
        assert_eq!(call.sees(bob, alice).encodings(), [encoding], "{who}");
        let sent = &call[alice].source(Kind::Video).encodings;
        assert!(!sent[2].is_sent(), "{who}: nobody receives the largest");
    }
    narrow(&mut call, bob, 5 * MBIT, queue);
    watcher.watch(&mut call, 10);
    watcher.watch(&mut call, 1);
    assert_eq!(call.sees(bob, alice).encodings(), [2], "{who}");
    call.run(secs(20));
    assert_eq!(call.sees(bob, alice).encodings(), [2], "{who}");
    let frozen = watcher.frozen;
    assert!(frozen <= secs(1), "{who}: {frozen:?}");
}

#[test]
fn a_narrower_way_is_obeyed_within_three_seconds_and_a_wider_one_within_ten() {
    for seed in [1, 2, 3] {
        steps(seed, millis(25), LONG);
    }
}

#[test]
fn the_same_is_true_far_away() {
    steps(4, millis(150), LONG);
}

#[test]
fn the_same_is_true_before_a_short_queue() {
    for seed in [5, 6, 7] {
        steps(seed, millis(50), SHORT);
    }
}
