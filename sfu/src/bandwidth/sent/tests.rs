use super::*;
use crate::rtp::rtcp::{ArrivalReport, Packet, Packets, Writer};
use crate::types::Ssrc;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// Writes feedback and gives each packet of it, parsed, to `read`.
pub(crate) fn with_feedback(
    base: u16,
    arrivals: &[(u16, Duration)],
    mut read: impl FnMut(&TransportFeedback<'_>),
) {
    let (mut base, mut rest) = (base, arrivals);
    while !rest.is_empty() {
        let mut buffer = [0; 1400];
        let mut writer = Writer::new(&mut buffer);
        let written = writer.transport_feedback(ArrivalReport {
            sender: Ssrc(1),
            media: Ssrc(2),
            feedback_count: 0,
            base_sequence: base,
            arrivals: rest,
        });
        let Ok(written @ 1..) = written else { return };
        let len = writer.len();
        for packet in Packets::new(&buffer[..len]) {
            let Ok(Packet::TransportFeedback(feedback)) = packet else {
                panic!("not feedback: {packet:?}");
            };
            read(&feedback);
        }
        base = rest[written - 1].0.wrapping_add(1);
        rest = &rest[written..];
    }
}

/// A packet of a picture.
pub(crate) fn picture(at: Instant, bytes: u64) -> SentPacket {
    SentPacket {
        at,
        size: DataSize::bytes(bytes),
        kind: PacketKind::Video,
        cluster: None,
        media: None,
    }
}

fn packet(at: Instant) -> SentPacket {
    picture(at, 1000)
}

fn tell(history: &mut SentHistory, base: u16, arrived: &[u16]) -> Vec<(u64, char)> {
    let arrivals: Vec<_> = arrived.iter().map(|&s| (s, 10 * MS)).collect();
    let mut results = Vec::new();
    with_feedback(base, &arrivals, |feedback| {
        history.handle_feedback(feedback, &mut results);
    });
    let letter = |fate| match fate {
        Fate::Arrived(_) => 'a',
        Fate::ArrivedLate(_) => 'r',
        Fate::Lost => 'l',
        Fate::Unknown => 'u',
    };
    results
        .iter()
        .map(|r| (r.sequence.0, letter(r.fate)))
        .collect()
}

fn send(history: &mut SentHistory, now: Instant, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        history.handle_sent(SequenceNumber(number), packet(now));
    }
}

#[test]
fn each_packet_is_settled_once_and_a_late_one_corrected() {
    let mut history = SentHistory::default();
    send(&mut history, Instant::now(), 65_534..65_540);
    assert_eq!(history.in_flight(), DataSize::bytes(6000));
    assert_eq!(
        tell(&mut history, 65_534, &[65_534, 0]),
        [(65_534, 'a'), (65_535, 'l'), (65_536, 'a')]
    );
    assert_eq!(history.in_flight(), DataSize::bytes(3000));
    assert_eq!(
        tell(&mut history, 65_534, &[65_534, 65_535, 0, 1]),
        [(65_535, 'r'), (65_537, 'a')]
    );
    assert_eq!(tell(&mut history, 65_534, &[65_534, 65_535, 0, 1]), []);
    assert_eq!(history.in_flight(), DataSize::bytes(2000));
}

#[test]
fn lost_feedback_takes_its_packets_out_of_flight_without_calling_them_lost() {
    let mut history = SentHistory::default();
    send(&mut history, Instant::now(), 1..11);
    assert_eq!(tell(&mut history, 1, &[1, 2, 3]).len(), 3);
    assert_eq!(
        tell(&mut history, 6, &[6, 7]),
        [(4, 'u'), (5, 'u'), (6, 'a'), (7, 'a')]
    );
    assert_eq!(history.in_flight(), DataSize::bytes(3000));
    assert_eq!(tell(&mut history, 4, &[4]), [(4, 'a')]);
    assert_eq!(history.in_flight(), DataSize::bytes(3000));
}

#[test]
fn feedback_for_what_was_never_sent_is_ignored() {
    let mut history = SentHistory::default();
    assert_eq!(tell(&mut history, 1, &[1, 2]), []);
    send(&mut history, Instant::now(), [10, 12]);
    assert_eq!(tell(&mut history, 13, &[13, 14]), [], "the future");
    assert_eq!(tell(&mut history, 1, &[1, 2]), [], "before the first");
    assert_eq!(tell(&mut history, 10, &[10, 11, 12, 13]).len(), 2, "a gap");
    assert_eq!(history.ignored(), 8);
    assert_eq!(tell(&mut history, 40_000, &[40_000]), []);
}

#[test]
fn arrival_times_follow_the_receivers_clock_over_its_wrap() {
    let start = Instant::now();
    let mut history = SentHistory::default();
    send(&mut history, start, 1..4);
    let wrap = REFERENCE_TICK * REFERENCE_CYCLE as u32;
    let mut results = Vec::new();
    for (sequence, at) in [(1, wrap - 10 * MS), (2, wrap + 20 * MS), (3, wrap + 5 * MS)] {
        with_feedback(sequence, &[(sequence, at)], |feedback| {
            history.handle_feedback(feedback, &mut results);
        });
    }
    let arrivals: Vec<_> = results.iter().filter_map(PacketResult::arrival).collect();
    assert_eq!(arrivals[1] - arrivals[0], 30 * MS);
    assert_eq!(arrivals[1] - arrivals[2], 15 * MS);
}

#[test]
fn memory_is_bounded_in_number_and_in_time() {
    let start = Instant::now();
    let mut history = SentHistory::default();
    send(&mut history, start, 0..20_000);
    assert_eq!(history.len(), MAX_PACKETS);
    assert_eq!(history.in_flight().as_bytes(), MAX_PACKETS as u64 * 1000);
    send(&mut history, start + MAX_AGE + MS, [20_000]);
    assert_eq!((history.len(), history.in_flight().as_bytes()), (1, 1000));
    send(&mut history, start + MAX_AGE + MS, [u64::MAX / 2, 7]);
    assert_eq!((history.len(), history.in_flight().as_bytes()), (1, 1000));
}

proptest! {
    /// Whatever is sent and told, the bytes in flight are those of packets that are.
    #[test]
    fn flight_adds_up(steps in prop::collection::vec((0u64..4, 0u16..40, 0u16..30, any::<u32>()), 1..60)) {
        let start = Instant::now();
        let mut history = SentHistory::default();
        let mut next = 65_500;
        for (skip, count, back, mask) in steps {
            next += skip;
            send(&mut history, start, next..next + u64::from(count));
            next += u64::from(count);
            let base = (next as u16).wrapping_sub(back);
            let arrived: Vec<u16> = (0..32).filter(|bit| mask >> bit & 1 != 0).map(|bit| base.wrapping_add(bit)).collect();
            tell(&mut history, base, &arrived);
            let flying = history.entries.iter().filter(|e| e.state == State::InFlight).count();
            prop_assert_eq!(history.in_flight().as_bytes(), flying as u64 * 1000);
        }
    }
}
