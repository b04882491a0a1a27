//! What is used against loss, and when: the one place where that is decided.
//!
//! In: what is known of the way to a subscriber. Out: how much redundancy and repair it is sent, and
//! whether retransmission is worth its time. A pure function; nothing is remembered here.
//!
//! Sound, by loss. A frame is lost when it and all its copies are, so that a distance of `d` leaves
//! `loss^(d+1)`; each step costs the bitrate of the sound once more, which is little beside video.
//!
//! | loss | RED distance | left, random loss |
//! | --- | --- | --- |
//! | under 1 % | 0 | under 1 %, of which in-band FEC hides most |
//! | under 3 % | 1 | under 0.1 % |
//! | under 8 % | 2 | under 0.1 % |
//! | from 8 % | 3 | 0.01 % at 10 %, 0.8 % at 30 % |
//! | bursts of 2 and more | one more, up to 3 | |
//!
//! Video, by loss and round trip. While a retransmission is quick and seldom lost, it is the cheapest
//! repair there is, and adapts by itself; it needs a round trip for each time it is lost. FEC needs
//! none, but is paid for in advance.
//!
//! | round trip | loss | FEC, share of the media |
//! | --- | --- | --- |
//! | any | under 1 % | none |
//! | up to 100 ms | under 8 %, retransmissions arrive | none |
//! | up to 100 ms | more, or retransmissions lost | the loss |
//! | up to 200 ms | from 1 % | four times the loss |
//! | longer | from 1 % | eight times the loss |
//!
//! A picture is shown when all of its packets are there, and they are many: at 30 % loss, as many
//! packets of repair as of media leave one picture in ten to retransmission, half as many one in two
//! (simulated, pictures of 4 to 16 packets; see `protect.rs`). Chromium protects what it sends alike.
//! Key frames get twice that, for all that follows needs them. Repair is never more than the media.
//! The upper temporal layers go without until every tenth packet is lost: nothing depends on them.
//!
//! Retransmission is used while a packet that is sent again can still be played: libwebrtc's receiver
//! waits three seconds before it asks for a key frame, its audio jitter buffer drops what is later than
//! some 400 ms. Retransmissions are lost as well, and each costs a round trip:
//!
//! | loss | copies at first | copies when asked again |
//! | --- | --- | --- |
//! | under 8 %, or in bursts of 3 and more | 1 | 1 |
//! | under 25 % | 1 | 2 |
//! | from 25 % | 2 | 3 |
//!
//! Where one retransmission arrives later than a receiver would wait by itself, or one in two is lost,
//! it is asked to wait longer: for as many round trips as it takes until one in a thousand is still missing, and for as long
//! as it took until what was lost on the way to us had come. Sound is held back with the picture.
//!
//! Over TCP nothing is lost but what was given up because the way is too slow: repair would make it
//! slower, so there is none.

use std::time::Duration;

use crate::media::Kind;

/// Loss below this is not worth a packet: at no loss, repair costs nothing.
const LOSS_FLOOR: f64 = 0.01;

/// Up to this, a retransmission arrives within what a jitter buffer holds anyway.
const SHORT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// From this on, a receiver that waits for a second retransmission waits too long for a conversation.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(200);

/// What a round trip is taken for until it is known: long enough not to rely on retransmission alone.
pub(super) const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(150);

/// From this loss on retransmissions are lost often enough to freeze the picture.
const HEAVY_LOSS: f64 = 0.08;

/// From this loss on one retransmission in two needs another round trip.
const SEVERE_LOSS: f64 = 0.25;

/// Mean length of a burst from which on neighbouring packets share their fate.
const BURSTY: f64 = 3.0;

/// From this loss on upper temporal layers are protected as well.
const PROTECT_ALL_FROM: f64 = 0.10;

/// Most repair, as a share of the media.
const MAX_RATIO: f64 = 1.0;

/// Most rows of FEC that are interleaved: bursts longer than that are left to retransmission.
const MAX_INTERLEAVING: usize = 4;

/// How old a packet may be to be of use (libwebrtc's `kMaxWaitForFrame`, and its audio jitter buffer).
const USEFUL_VIDEO: Duration = Duration::from_secs(3);
const USEFUL_AUDIO: Duration = Duration::from_millis(400);

/// Longest delay that a receiver is asked for. ITU-T G.114 wants 400 ms at most for a conversation, but
/// at 30 % loss on both ways of 50 ms a packet is lost, asked for and sent again on the way to us before
/// it is lost, asked for and sent again on the way from us: several round trips, or a picture that stands.
const MAX_PLAYOUT_DELAY: Duration = Duration::from_millis(700);

/// The share of packets that may come later than a receiver waits: one picture in 250 of four packets.
const MISSING: f64 = 0.001;

/// What is known of the way to a subscriber.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Conditions {
    /// Of what.
    pub kind: Kind,
    /// Packets lost, 0 to 1, smoothed.
    pub loss: f64,
    /// Packets lost in a row, on average: 1 or more.
    pub burst: f64,
    /// Retransmissions that had to be repeated, 0 to 1.
    pub repeated: f64,
    /// How late packets are that were lost on the way to us, if there are any to speak of.
    pub lateness: Duration,
    /// The round trip, if known.
    pub round_trip: Option<Duration>,
    /// What may be spent on repair for each bit of media.
    pub spare: f64,
    /// The way loses nothing by itself.
    pub is_reliable: bool,
}

/// What a subscriber is sent beside the media.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Protection {
    /// How many old frames each packet of sound repeats, 0 to 3.
    pub red_distance: u8,
    /// FEC packets for each media packet, 0 to 1.
    pub fec_ratio: f64,
    /// The same for packets of key frames.
    pub key_frame_fec_ratio: f64,
    /// Over how many FEC packets neighbouring media packets are spread, 1 to 4.
    pub interleaving: usize,
    /// Upper temporal layers are protected too.
    pub protects_all: bool,
    /// Retransmissions are worth their time.
    pub retransmits: bool,
    /// How often a packet is sent at once when it is asked for, 1 to 2.
    pub first_copies: u8,
    /// The same when it is asked for again, 1 to 3.
    pub later_copies: u8,
    /// The least delay to ask the receiver for.
    pub playout_delay: Duration,
}

impl Default for Protection {
    /// Nothing is known to be lost.
    fn default() -> Self {
        Protection {
            red_distance: 0,
            fec_ratio: 0.0,
            key_frame_fec_ratio: 0.0,
            interleaving: 1,
            protects_all: false,
            retransmits: true,
            first_copies: 1,
            later_copies: 1,
            playout_delay: Duration::ZERO,
        }
    }
}

/// Decides; see the tables above.
#[must_use]
pub fn decide(conditions: &Conditions) -> Protection {
    let Conditions { kind, loss, .. } = *conditions;
    let round_trip = conditions.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
    let useful = match kind {
        Kind::Audio => USEFUL_AUDIO,
        Kind::Video => USEFUL_VIDEO,
    };
    let quiet = Protection {
        retransmits: round_trip < useful,
        ..Protection::default()
    };
    if conditions.is_reliable || loss.is_nan() || loss < LOSS_FLOOR {
        return quiet;
    }
    match kind {
        Kind::Audio => Protection {
            red_distance: red_distance(conditions),
            ..quiet
        },
        Kind::Video => {
            let ratio = fec_ratio(conditions, round_trip);
            let (first_copies, later_copies) = copies(conditions);
            Protection {
                fec_ratio: ratio,
                key_frame_fec_ratio: (2.0 * ratio).min(MAX_RATIO),
                interleaving: (conditions.burst.round() as usize).clamp(1, MAX_INTERLEAVING),
                protects_all: loss >= PROTECT_ALL_FROM,
                playout_delay: playout_delay(conditions, round_trip),
                first_copies,
                later_copies,
                ..quiet
            }
        }
    }
}

fn red_distance(conditions: &Conditions) -> u8 {
    let by_loss = match conditions.loss {
        loss if loss < 0.03 => 1,
        loss if loss < 0.08 => 2,
        _ => 3,
    };
    let by_burst = u8::from(conditions.burst >= 2.0);
    // One copy is always worth it: sound comes before everything else.
    let affordable = conditions.spare.max(1.0) as u8;
    (by_loss + by_burst).min(3).min(affordable)
}

fn fec_ratio(conditions: &Conditions, round_trip: Duration) -> f64 {
    let loss = conditions.loss;
    let is_heavy = loss >= HEAVY_LOSS || conditions.repeated >= HEAVY_LOSS;
    let per_loss = match round_trip {
        short if short <= SHORT_ROUND_TRIP && !is_heavy => 0.0,
        short if short <= SHORT_ROUND_TRIP => 1.0,
        middle if middle <= LONG_ROUND_TRIP => 4.0,
        _ => 8.0,
    };
    (per_loss * loss)
        .min(MAX_RATIO)
        .min(conditions.spare.max(0.0))
}

/// How often to send a packet when it is asked for, and when it is asked for again.
fn copies(conditions: &Conditions) -> (u8, u8) {
    match conditions.loss {
        // A burst takes all copies together.
        _ if conditions.burst >= BURSTY => (1, 1),
        loss if loss < HEAVY_LOSS => (1, 1),
        loss if loss < SEVERE_LOSS => (1, 2),
        _ => (2, 3),
    }
}

/// How long it takes until but one packet in a thousand has come.
fn playout_delay(conditions: &Conditions, round_trip: Duration) -> Duration {
    let loss = conditions.loss;
    if round_trip <= SHORT_ROUND_TRIP && loss < SEVERE_LOSS {
        return Duration::ZERO;
    }
    // Request and answer are lost independently.
    let fails = 1.0 - (1.0 - loss.min(0.9)).powi(2);
    let rounds = ((MISSING.ln() - loss.ln()) / fails.ln()).ceil();
    let here = round_trip.mul_f64(1.25 * rounds.clamp(1.0, 5.0));
    here.saturating_add(conditions.lateness)
        .min(MAX_PLAYOUT_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conditions(kind: Kind, loss: f64, round_trip: u64) -> Conditions {
        Conditions {
            kind,
            loss,
            burst: 1.0,
            repeated: 0.0,
            lateness: Duration::ZERO,
            round_trip: Some(Duration::from_millis(round_trip)),
            spare: f64::INFINITY,
            is_reliable: false,
        }
    }

    #[test]
    fn a_way_that_loses_nothing_needs_no_repair() {
        for kind in [Kind::Audio, Kind::Video] {
            let slow = Conditions {
                is_reliable: true,
                ..conditions(kind, 0.3, 100)
            };
            assert_eq!(decide(&slow), Protection::default());
        }
    }

    #[test]
    fn sound_is_repeated_as_often_as_loss_asks() {
        for (loss, burst, spare, distance) in [
            (0.0, 1.0, f64::INFINITY, 0),
            (0.009, 3.0, f64::INFINITY, 0),
            (0.02, 1.0, f64::INFINITY, 1),
            (0.02, 4.0, f64::INFINITY, 2),
            (0.05, 1.0, f64::INFINITY, 2),
            (0.05, 4.0, f64::INFINITY, 3),
            (0.1, 1.0, f64::INFINITY, 3),
            (0.3, 4.0, f64::INFINITY, 3),
            (0.3, 1.0, 2.5, 2),
            (0.3, 1.0, 0.0, 1),
        ] {
            let conditions = Conditions {
                burst,
                spare,
                ..conditions(Kind::Audio, loss, 100)
            };
            assert_eq!(decide(&conditions).red_distance, distance, "{conditions:?}");
        }
    }

    #[test]
    fn video_is_repaired_in_advance_where_retransmission_is_slow_or_lost() {
        for (loss, repeated, round_trip, ratio, key_frame_ratio) in [
            (0.0, 0.0, 500, 0.0, 0.0),
            (0.05, 0.0, 50, 0.0, 0.0),
            (0.05, 0.2, 50, 0.05, 0.1),
            (0.10, 0.0, 100, 0.1, 0.2),
            (0.10, 0.0, 101, 0.4, 0.8),
            (0.20, 0.0, 101, 0.8, 1.0),
            (0.10, 0.0, 201, 0.8, 1.0),
            (0.30, 0.0, 101, 1.0, 1.0),
        ] {
            let conditions = Conditions {
                repeated,
                ..conditions(Kind::Video, loss, round_trip)
            };
            let decided = decide(&conditions);
            let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(close(decided.fec_ratio, ratio), "{conditions:?}");
            assert!(
                close(decided.key_frame_fec_ratio, key_frame_ratio),
                "{conditions:?}"
            );
        }
    }

    #[test]
    fn retransmission_ends_where_it_is_too_late() {
        for (kind, round_trip, expected) in [
            (Kind::Audio, 399, true),
            (Kind::Audio, 400, false),
            (Kind::Video, 2999, true),
            (Kind::Video, 3000, false),
        ] {
            assert_eq!(
                decide(&conditions(kind, 0.1, round_trip)).retransmits,
                expected
            );
        }
    }

    #[test]
    fn a_receiver_waits_for_what_is_on_its_way() {
        let delay = |loss, round_trip| {
            decide(&conditions(Kind::Video, loss, round_trip))
                .playout_delay
                .as_millis()
        };
        assert_eq!(delay(0.0, 200), 0);
        assert_eq!(delay(0.2, 100), 0);
        assert_eq!(delay(0.05, 120), 300);
        assert_eq!(delay(0.1, 120), 450);
        assert_eq!(delay(0.3, 40), 250);
        assert_eq!(delay(0.3, 100), 625);
        assert_eq!(delay(0.3, 120), 700);
        assert_eq!(delay(0.3, 300), 700);
        let also_here = Conditions {
            lateness: Duration::from_millis(130),
            ..conditions(Kind::Video, 0.1, 120)
        };
        assert_eq!(decide(&also_here).playout_delay.as_millis(), 580);
    }

    #[test]
    fn what_is_likely_to_be_lost_again_is_sent_several_times() {
        for (loss, burst, expected) in [
            (0.05, 1.0, (1, 1)),
            (0.10, 1.0, (1, 2)),
            (0.10, 4.0, (1, 1)),
            (0.30, 2.0, (2, 3)),
        ] {
            let conditions = Conditions {
                burst,
                ..conditions(Kind::Video, loss, 100)
            };
            let decided = decide(&conditions);
            let copies = (decided.first_copies, decided.later_copies);
            assert_eq!(copies, expected, "{conditions:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_measured_the_answer_is_in_range(
            is_audio: bool, loss: f64, burst: f64, repeated: f64, late in 0u64..1 << 40,
            round_trip in prop::option::of(0u64..1 << 40), spare: f64, is_reliable: bool,
        ) {
            let kind = if is_audio { Kind::Audio } else { Kind::Video };
            let round_trip = round_trip.map(Duration::from_millis);
            let lateness = Duration::from_millis(late);
            let decided = decide(&Conditions {
                kind, loss, burst, repeated, lateness, round_trip, spare, is_reliable,
            });
            prop_assert!(decided.red_distance <= 3);
            prop_assert!((0.0..=MAX_RATIO).contains(&decided.fec_ratio));
            prop_assert!((0.0..=MAX_RATIO).contains(&decided.key_frame_fec_ratio));
            prop_assert!((1..=4).contains(&decided.interleaving));
            prop_assert!(decided.playout_delay <= MAX_PLAYOUT_DELAY);
        }
    }
}
