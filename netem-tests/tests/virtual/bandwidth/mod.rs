//! What people see and hear when the way to them carries too little, or loses much.

mod feedback;
mod layers;
mod limits;
mod steady;
mod steps;

use std::time::Duration;

use confab_netem_tests::link::{Queue, Rate};
use confab_netem_tests::virtual_time::call::{Call, Person, secs};
use confab_netem_tests::virtual_time::client::{Setup, publish};
use confab_sfu::api::PeerQuality;

/// Megabits and kilobits, bits.
const MBIT: u64 = 1_000_000;
const KBIT: u64 = 1_000;

/// Somebody with a voice and a camera in three sizes, as Chromium sends them with the web SDK.
fn camera() -> Setup {
    publish().audio().simulcast_as_sdk()
}

/// Jitter of every narrow link: without any chance all seeds are one.
const JITTER: Duration = Duration::from_millis(2);

/// A person's downlink carries so much from now on, before a queue of so long.
fn narrow(call: &mut Call, person: Person, bits_per_second: u64, queue: Duration) {
    let queue = Queue::Time(queue);
    let rate = Rate {
        bits_per_second,
        queue,
    };
    call.down(person, |link| {
        link.rate = Some(rate);
        link.jitter = JITTER;
    });
}

/// What the server makes of the way to a person.
fn quality(call: &mut Call, person: Person) -> PeerQuality {
    let stats = call.peer_stats(person).expect("a connection");
    stats.quality
}

/// The longest that a packet had to wait on the way to a person since this was asked last.
fn longest_wait(call: &mut Call, person: Person) -> Duration {
    call.readings(person).1.longest_wait
}

/// The longest that one saw another stand still during the last run.
fn longest_freeze(call: &Call, viewer: Person, publisher: Person) -> Duration {
    let freezes = call.sees(viewer, publisher).freezes();
    freezes.into_iter().max().unwrap_or_default()
}

/// Prints how things stand, for whoever looks for the reason of a failure.
fn tell(call: &mut Call, viewer: Person, publisher: Person) {
    let at = call.elapsed().as_secs_f64();
    let quality = quality(call, viewer);
    // A reading would take the longest wait away, which a test may be about to judge.
    let wait = call.links(viewer).1.queueing_delay(call.now());
    let seen = call.sees(viewer, publisher);
    println!(
        "{at:.1} s: estimate {} kbit/s ({:?}), link loss {:.3}, sound {}, wanted {}, encodings {:?}, {:.1} fps, freezes {:?}, queue {wait:?}",
        quality.estimate.as_bps() / KBIT,
        quality.limit,
        quality.link_loss,
        quality.audio.as_bps() / KBIT,
        quality.wanted.as_bps() / KBIT,
        seen.encodings(),
        seen.fps(),
        seen.freezes(),
    );
}

/// Prints the latest decisions for a person.
fn tell_decisions(call: &mut Call, person: Person) {
    let now = call.elapsed();
    for decision in quality(call, person).decisions {
        let at = now.saturating_sub(decision.ago).as_secs_f64();
        let layer = |layer: Option<confab_sfu::api::LayerInfo>| {
            layer.map(|l| (l.encoding, l.temporal, l.bitrate.as_bps() / KBIT))
        };
        println!(
            "  {at:.2} s: {:?} to {:?}, {:?}, estimate {}",
            layer(decision.from),
            layer(decision.to),
            decision.reason,
            decision.estimate.as_bps() / KBIT
        );
    }
}

/// Lets so many seconds pass, and looks at each: what has been seen when it is over.
fn each_second(call: &mut Call, seconds: u64, mut look: impl FnMut(&mut Call)) {
    for _ in 0..seconds {
        call.run(secs(1));
        look(call);
    }
}
