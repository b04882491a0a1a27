//! What is told of arrivals is wrong, or less than it could be: others do not notice.

use super::*;
use confab_netem_tests::virtual_time::call::millis;
use confab_netem_tests::virtual_time::client::watch;
use confab_sfu::inside::bandwidth::feedback::FeedbackRecorder;
use confab_sfu::types::Ssrc;

/// Who feedback is from, and of what: nothing that there is.
const SSRCS: (Ssrc, Ssrc) = (Ssrc(1), Ssrc(2));

/// Alice is seen by Carol, and by Mallory, who is not what he seems.
fn three(seed: u64) -> (Call, [Person; 3]) {
    let mut call = Call::new(seed);
    let alice = call.join("alice", camera());
    let carol = call.join("carol", watch());
    let mallory = call.join("mallory", watch());
    call.run(secs(10));
    (call, [alice, carol, mallory])
}

/// Feedback on packets with these numbers, which arrived so long from now.
fn feedback(call: &Call, numbers: impl Iterator<Item = u16>, ahead: Duration) -> Vec<Vec<u8>> {
    let now = call.now() + ahead;
    let mut recorder = FeedbackRecorder::default();
    let mut packets = Vec::new();
    let mut buffer = [0; 1200];
    for (number, ms) in numbers.zip(0..) {
        recorder.handle_packet(now + millis(ms), number, None);
    }
    recorder.poll(
        now + secs(1),
        None,
        None,
        SSRCS,
        &mut buffer,
        |packet: &[u8]| {
            packets.push(packet.to_vec());
        },
    );
    assert!(!packets.is_empty());
    packets
}

/// Carol has seen Alice's best throughout, and Mallory sees it within a while, and hears all.
fn assert_harmless(call: &mut Call, [alice, carol, mallory]: [Person; 3], what: &str) {
    let seen = call.sees(carol, alice);
    assert_eq!(seen.encodings(), [2], "{what}");
    assert!(seen.freezes().is_empty(), "{what}: {:?}", seen.freezes());
    assert!(
        call.hears(carol, alice).longest_gap() < millis(100),
        "{what}"
    );
    assert!(
        call.hears(mallory, alice).longest_gap() < millis(500),
        "{what}"
    );
    each_second(call, 15, |call| tell(call, mallory, alice));
    tell_decisions(call, mallory);
    assert_eq!(call.sees(mallory, alice).encodings(), [2], "{what}");
    assert_eq!(call.sees(carol, alice).encodings(), [2], "{what}");
    assert!(call.sees(mallory, alice).fps() > 29.0, "{what}");
}

#[test]
fn feedback_on_packets_never_sent_is_harmless() {
    let (mut call, people) = three(60);
    for step in 0..100 {
        let numbers = (0..20).map(|n| 30_000 + 20 * step + n);
        for packet in feedback(&call, numbers, Duration::ZERO) {
            call[people[2]].send_plain_rtcp(&packet);
        }
        call.run(millis(50));
    }
    assert_harmless(&mut call, people, "never sent");
}

#[test]
fn feedback_from_the_future_is_harmless() {
    let (mut call, people) = three(61);
    for step in 0..100_u64 {
        let numbers = (0..20).map(|n| 1000 + 20 * step as u16 + n);
        for packet in feedback(&call, numbers, secs(3600 * (1 + step % 5))) {
            call[people[2]].send_plain_rtcp(&packet);
        }
        call.run(millis(50));
    }
    assert_harmless(&mut call, people, "from the future");
}

#[test]
fn a_remb_of_one_bit_and_of_far_too_many_is_harmless() {
    for bitrate in [1, 1 << 60] {
        let (mut call, people) = three(62);
        for _ in 0..5 {
            let mallory = &mut call[people[2]];
            mallory.send_rtcp(|writer| writer.remb(SSRCS.0, bitrate, &[SSRCS.1]));
            call.run(secs(1));
            tell(&mut call, people[2], people[0]);
        }
        assert_harmless(&mut call, people, &format!("REMB of {bitrate}"));
    }
}

#[test]
#[ignore = "seed 63: nothing is probed without transport-wide feedback, so that REMB stays at 315 kbit/s"]
fn who_knows_only_remb_gets_what_fits() {
    let mut call = Call::new(63);
    let alice = call.join("alice", camera());
    let bob = call.join("bob", watch().remb());
    for (rate, least) in [(5 * MBIT, 2), (MBIT, 1), (300 * KBIT, 0)] {
        narrow(&mut call, bob, rate, secs(1));
        each_second(&mut call, 20, |call| tell(call, bob, alice));
        longest_wait(&mut call, bob);
        call.run(secs(10));
        tell_decisions(&mut call, bob);
        let waited = longest_wait(&mut call, bob);
        assert!(waited < millis(300), "at {rate}: {waited:?}");
        assert_eq!(call.sees(bob, alice).encodings(), [least], "at {rate}");
        assert!(longest_freeze(&call, bob, alice) <= secs(1), "at {rate}");
    }
}
