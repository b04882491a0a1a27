//! What is used against loss, and when: the one place where that is decided.
//!
//! In: what is known of the path to a subscriber. Out: how much redundancy and repair it is sent, and
//! whether retransmission is worth its time. A pure function; nothing is remembered here.
//!
//! Audio, by loss. A frame is lost when it and all its copies are, so that a distance of `d` leaves
//! `loss^(d+1)`; each step costs the bitrate of the audio once more, which is little beside video.
//!
//! | loss | RED distance | left, random loss |
//! | --- | --- | --- |
//! | under 1 % | 0 | under 1 %, of which in-band FEC hides most |
//! | under 3 % | 1 | under 0.1 % |
//! | under 8 % | 2 | under 0.1 % |
//! | from 8 % | 3 | 0.01 % at 10 %, 0.8 % at 30 % |
//! | bursts of 2 and more | one more, up to 3 | |
//!
//! Video, by what is cheapest. There are two ways to give a packet back: FEC, which is there at once and
//! paid for whether it is needed or not, and retransmission, which is cheap and takes a round trip each
//! time it is lost. Some waiting costs nothing: what a frame may be late without being missed, and what
//! is waited for since it was lost on the way to us. What retransmission gives back in that time needs no
//! FEC. For the rest there is as much FEC, and as much waiting, as is cheapest for its effect. FEC as a
//! share of the media, and the wait, where nothing is late to us and feedback tells of losses:
//!
//! | round trip | loss 2 % | 5 % | 10 % | 20 % | 30 % |
//! | --- | --- | --- | --- | --- | --- |
//! | 20 ms | none | none | none | none | none |
//! | 50 ms | none | none | none | 0.06, 44 ms | 0.16, 118 ms |
//! | 100 ms | 0.08, 6 ms | 0.02, 5 ms | 0.16, 48 ms | 0.41, 148 ms | 0.75, 271 ms |
//! | 300 ms | 0.22, 6 ms | 0.39, 31 ms | 0.82, 82 ms | 1, 448 ms | 1, 700 ms |
//!
//! Where 4 % and more are lost, what transport-wide feedback says is lost is sent again without waiting for a
//! request: that may be lost as well, and a receiver repeats it a round trip later.
//!
//! A frame is shown when all of its packets are there, and they are many: see `protect.rs`, and the
//! share of packets that is still missing after FEC below, which was simulated with frames of 4 to 8
//! packets. Key frames get twice that, for all that follows needs them. Repair is never more than the
//! media. The upper temporal layers go without until every tenth packet is lost: nothing depends on them.
//!
//! Retransmission is used while a packet that is sent again can still be played: libwebrtc's receiver
//! waits three seconds before it asks for a key frame, its audio jitter buffer drops what is later than
//! some 400 ms. Retransmissions are lost as well, and each costs a round trip:
//!
//! | loss | copies when asked | when asked again | of what came late to us |
//! | --- | --- | --- | --- |
//! | under 4 %, in bursts of 3 and more, or with room for less repair than media | 1 | 1 | 1 |
//! | under 8 % | 2 | 2 | 3 |
//! | under 15 % | 2 | 3 | 3 |
//! | more | 2 | 3 | 2 |
//!
//! The receiver is asked to wait for what comes late to us, some of which is lost there more than once,
//! and beyond that until what FEC leaves has been sent again often enough. Audio is held back with the
//! video.
//!
//! Over TCP nothing is lost but what was given up because the path is too slow: repair would make it
//! slower, so there is none.

use std::time::Duration;

use crate::media::Kind;

/// Loss below this is not worth a packet: at no loss, repair costs nothing.
const LOSS_FLOOR: f64 = 0.01;

/// What a jitter buffer holds anyway, or a frame may be late without being missed: less than the 150 ms
/// from which on `getStats` calls it a freeze.
const PATIENCE: Duration = Duration::from_millis(100);

/// Waiting for so long is as dear as FEC of the ratio 1.
const DEAR_DELAY: Duration = Duration::from_millis(200);

/// From the loss of a packet until it has come again, in round trips: it is to be noticed first.
const ROUND: f64 = 1.25;

/// For how much longer to wait at least than what was lost on the way to us is late on average: what is
/// lost there again, and once more, comes one and two round trips later. In virtual time, at 10 % loss on both
/// links of 50 ms, frames are 0.34 s late with this, and the video stands still for 0.1 to 1 % of the time.
const LATE_TAIL: f64 = 1.6;

/// The share of time for which a video may stand still for what comes even later.
const STILL: f64 = 0.06;

/// What a round trip is taken for until it is known: long enough not to rely on retransmission alone.
pub(super) const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(150);

/// More loss is not reckoned with, and no shorter round, seconds.
const MAX_LOSS: f64 = 0.9;
const MIN_ROUND: f64 = 0.001;

/// From this loss on what is asked for is sent twice: of a packet in ten that costs as much as FEC of the ratio
/// 0.1, and leaves a tenth of what would be lost again. What came late to us is sent three times: no FEC has
/// it, and there is no more time.
const LIGHT_LOSS: f64 = 0.04;

/// From this loss on what is asked for again is sent three times.
const HEAVY_LOSS: f64 = 0.08;

/// From this loss on what came late is sent twice only.
const SEVERE_LOSS: f64 = 0.15;

/// What may be spent on repair for each bit of media, from which on packets are sent again without being asked
/// for, or twice.
const AMPLE: f64 = 1.0;

/// FEC of ratio `f` leaves `exp(-f * STRENGTH / (loss + OFFSET))` of the lost packets missing (fitted to
/// random loss of 5 to 30 % and ratios of 0.25 to 1, within a third). Bursts take more of a frame than
/// it gives back.
const STRENGTH: f64 = 0.5;
const OFFSET: f64 = 0.02;

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
/// it is lost, asked for and sent again on the way from us: several round trips, or a video that stands still.
const MAX_PLAYOUT_DELAY: Duration = Duration::from_millis(700);

/// The share of packets that may come so late that they are missed: one frame in 500 of four packets,
/// which is one in 17 seconds.
const MISSING: f64 = 0.0005;

/// Packets that were lost on the way to us, and were sent again.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Late {
    /// How late they are on average.
    pub by: Duration,
    /// The standard deviation of that.
    pub spread: Duration,
    /// The share of packets that they are, 0 to 1, and how many there are in a second.
    pub share: f64,
    pub per_second: f64,
}

/// What is known of the path to a subscriber.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Conditions {
    pub kind: Kind,
    /// Packets lost, 0 to 1, smoothed.
    pub loss: f64,
    /// Packets lost in a row, on average: 1 or more.
    pub burst: f64,
    /// Retransmissions that had to be repeated, 0 to 1.
    pub repeated: f64,
    /// The packets that were lost on the way to us and came late, if there are any to speak of.
    pub late: Option<Late>,
    /// The round trip, if known.
    pub round_trip: Option<Duration>,
    /// What may be spent on repair for each bit of media.
    pub spare: f64,
    /// Transport-wide feedback tells of losses too, also where a request is lost.
    pub hears_losses: bool,
    /// The path loses nothing by itself.
    pub is_reliable: bool,
}

/// What a subscriber is sent beside the media.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Protection {
    /// How many old frames each packet of audio repeats, 0 to 3.
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
    /// What transport-wide feedback says is lost is sent again without being asked for.
    pub heeds_feedback: bool,
    /// How often a packet is sent at once when it is asked for, 1 or 2, and when it is asked for again, 1
    /// to 3.
    pub first_copies: u8,
    pub later_copies: u8,
    /// How often a packet is sent at once that came late to us, 1 to 3.
    pub late_copies: u8,
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
            heeds_feedback: false,
            first_copies: 1,
            later_copies: 1,
            late_copies: 1,
            playout_delay: Duration::ZERO,
        }
    }
}

/// Decides; see the tables above.
#[must_use]
pub(crate) fn decide(conditions: &Conditions) -> Protection {
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
            let (ratio, playout_delay) = cheapest(conditions, round_trip);
            let (first_copies, later_copies, late_copies) = copies(conditions);
            Protection {
                fec_ratio: ratio,
                key_frame_fec_ratio: (2.0 * ratio).min(MAX_RATIO),
                interleaving: (conditions.burst.round() as usize).clamp(1, MAX_INTERLEAVING),
                protects_all: loss >= PROTECT_ALL_FROM,
                playout_delay,
                heeds_feedback: heeds_feedback(conditions),
                first_copies,
                later_copies,
                late_copies,
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
    // One copy is always worth it: audio comes before everything else.
    let affordable = conditions.spare.max(1.0) as u8;
    (by_loss + by_burst).min(3).min(affordable)
}

/// How much FEC there is to be, and how long to wait: what is cheapest of all that leaves no more than
/// [`MISSING`].
fn cheapest(conditions: &Conditions, round_trip: Duration) -> (f64, Duration) {
    let loss = conditions.loss;
    // Request and answer are lost independently, and so are feedback and copies.
    let lost = loss.min(MAX_LOSS);
    let (first_copies, ..) = copies(conditions);
    let unheard = match heeds_feedback(conditions) {
        true => lost * lost,
        false => lost,
    };
    let fails = 1.0 - (1.0 - unheard) * (1.0 - lost.powi(first_copies.into()));
    let fails = fails.max(conditions.repeated.min(MAX_LOSS));
    // By how much FEC of the ratio 1, and waiting for a second, lessen the logarithm of what is missing.
    let by_fec = STRENGTH / (loss + OFFSET) / conditions.burst.max(1.0).sqrt();
    let by_waiting = -fails.ln() / (round_trip.as_secs_f64() * ROUND).max(MIN_ROUND);
    let late = conditions.late.unwrap_or_default();
    let for_what_is_late = wait_for(&late);
    // What comes late has no such time itself.
    let for_nothing = for_what_is_late * (1.0 - late.share) + PATIENCE.as_secs_f64();
    let without = (loss / MISSING).ln() - by_waiting * for_nothing;
    let excess = without.max(0.0);
    // The least sum of the squares of both, that of waiting by its price, for this much effect.
    let price = 1.0 / DEAR_DELAY.as_secs_f64();
    let effect = by_fec.powi(2) + (by_waiting / price).powi(2);
    let affordable = conditions.spare.max(0.0);
    let ratio = (excess * by_fec / effect).min(MAX_RATIO).min(affordable);
    let longer = (excess - ratio * by_fec).max(0.0) / by_waiting;
    let delay = (for_what_is_late + longer).min(MAX_PLAYOUT_DELAY.as_secs_f64());
    (ratio, Duration::from_secs_f64(delay))
}

/// How long to wait for what comes late to us, seconds.
fn wait_for(late: &Late) -> f64 {
    let (by, spread) = (late.by.as_secs_f64(), late.spread.as_secs_f64());
    // What is lost again and again comes later and later, each time the same share of it: beyond the time
    // that the first takes, lateness falls off exponentially, and its mean there is its deviation.
    let first = by - spread;
    let stands_still = late.per_second * spread;
    let longer = spread * (stands_still / STILL).max(1.0).ln();
    (by * LATE_TAIL).max(first + longer - PATIENCE.as_secs_f64())
}

/// Whether to send again what transport-wide feedback says is lost.
fn heeds_feedback(conditions: &Conditions) -> bool {
    conditions.hears_losses && conditions.loss >= LIGHT_LOSS && has_room(conditions)
}

/// Whether there is room for more repair than what is asked for.
fn has_room(conditions: &Conditions) -> bool {
    conditions.spare >= AMPLE
}

/// How often to send a packet when it is asked for, when it is asked for again, and when it came late to us.
fn copies(conditions: &Conditions) -> (u8, u8, u8) {
    match conditions.loss {
        // A burst takes all copies together.
        _ if conditions.burst >= BURSTY => (1, 1, 1),
        // What is lost may be lost to what is sent.
        _ if !has_room(conditions) => (1, 1, 1),
        loss if loss < LIGHT_LOSS => (1, 1, 1),
        loss if loss < HEAVY_LOSS => (2, 2, 3),
        loss if loss < SEVERE_LOSS => (2, 3, 3),
        // There is so much that another copy is dearer than a wait.
        _ => (2, 3, 2),
    }
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
            late: None,
            round_trip: Some(Duration::from_millis(round_trip)),
            spare: f64::INFINITY,
            hears_losses: true,
            is_reliable: false,
        }
    }

    /// Packets that are late by about so many milliseconds.
    fn late(milliseconds: u64) -> Option<Late> {
        Some(Late {
            by: Duration::from_millis(milliseconds),
            ..Late::default()
        })
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
    fn video_is_repaired_as_the_table_says() {
        let losses = [0.02, 0.05, 0.1, 0.2, 0.3];
        for (round_trip, expected) in [
            (20, [(0.0, 0); 5]),
            (50, [(0.0, 0), (0.0, 0), (0.0, 0), (0.06, 44), (0.16, 118)]),
            (
                100,
                [(0.08, 6), (0.02, 5), (0.16, 48), (0.41, 148), (0.75, 271)],
            ),
            (
                300,
                [(0.22, 6), (0.39, 31), (0.82, 82), (1.0, 448), (1.0, 700)],
            ),
        ] {
            for (loss, (ratio, delay)) in losses.into_iter().zip(expected) {
                let decided = decide(&conditions(Kind::Video, loss, round_trip));
                let rounded = (decided.fec_ratio * 100.0).round() / 100.0;
                let waits = decided.playout_delay.as_secs_f64() * 1000.0;
                assert_eq!(
                    (rounded, waits.round() as u64),
                    (ratio, delay),
                    "{loss}, {round_trip} ms"
                );
                let key_frames = (2.0 * decided.fec_ratio).min(1.0);
                assert_eq!(decided.key_frame_fec_ratio, key_frames);
            }
        }
    }

    #[test]
    fn what_fec_cannot_do_is_waited_for() {
        let video = conditions(Kind::Video, 0.1, 100);
        let usual = decide(&video);
        let poor = decide(&Conditions {
            spare: 0.3,
            ..video
        });
        let bursty = decide(&Conditions {
            burst: 4.0,
            ..video
        });
        let repeated = decide(&Conditions {
            repeated: 0.5,
            ..video
        });
        assert_eq!(poor.fec_ratio, 0.3);
        assert!(!poor.heeds_feedback && poor.first_copies == 1);
        for worse in [poor, bursty, repeated] {
            assert!(worse.playout_delay > usual.playout_delay, "{worse:?}");
        }
        assert!(repeated.fec_ratio > usual.fec_ratio);
    }

    #[test]
    fn more_loss_and_a_longer_way_never_mean_less_repair() {
        for percent in 1..40 {
            for round_trip in (10..400).step_by(10) {
                let loss = f64::from(percent) / 100.0;
                let here = decide(&conditions(Kind::Video, loss, round_trip));
                let lossier = decide(&conditions(Kind::Video, loss + 0.01, round_trip));
                let farther = decide(&conditions(Kind::Video, loss, round_trip + 10));
                // More copies leave less to FEC.
                let all = [lossier, farther].into_iter();
                for other in all.filter(|other| other.first_copies == here.first_copies) {
                    assert!(
                        other.fec_ratio >= here.fec_ratio,
                        "{loss}, {round_trip} ms: {here:?}, {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_waited_for_anyway_saves_fec() {
        let ratio = |lateness| {
            let conditions = Conditions {
                late: late(lateness),
                ..conditions(Kind::Video, 0.2, 100)
            };
            decide(&conditions).fec_ratio
        };
        assert!(ratio(0) > ratio(50) && ratio(50) > ratio(150));
        assert_eq!(ratio(400), 0.0);
    }

    #[test]
    fn what_is_a_little_different_is_answered_a_little_differently() {
        for loss in (2..80).map(|percent| f64::from(percent) / 200.0) {
            for round_trip in 10..400 {
                let [here, farther] = [round_trip, round_trip + 1]
                    .map(|ms| decide(&conditions(Kind::Video, loss, ms)));
                let lossier = decide(&conditions(Kind::Video, loss * 1.01, round_trip));
                for other in [farther, lossier] {
                    let ratio = (other.fec_ratio - here.fec_ratio).abs();
                    let delay = other.playout_delay.abs_diff(here.playout_delay);
                    assert!(
                        ratio <= 0.12 && delay < Duration::from_millis(20),
                        "{loss}, {round_trip} ms: {here:?}, {other:?}"
                    );
                }
            }
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
    fn a_receiver_waits_for_what_comes_late() {
        let delay = |loss, round_trip, lateness| {
            let conditions = Conditions {
                late: late(lateness),
                ..conditions(Kind::Video, loss, round_trip)
            };
            decide(&conditions).playout_delay.as_millis()
        };
        assert_eq!(delay(0.0, 200, 150), 0);
        // With two links of 50 ms, frames are 340 ms late.
        assert!((205..=212).contains(&delay(0.1, 100, 130)));
        assert!((300..=400).contains(&delay(0.3, 100, 200)));
    }

    #[test]
    fn the_more_comes_late_and_the_later_the_longer_a_receiver_waits() {
        let delay = |spread, per_second| {
            let late = Some(Late {
                by: Duration::from_millis(190),
                spread: Duration::from_millis(spread),
                share: 0.3,
                per_second,
            });
            let conditions = Conditions {
                late,
                ..conditions(Kind::Video, 0.3, 20)
            };
            decide(&conditions).playout_delay
        };
        let usual = delay(105, 10.0);
        assert!(delay(105, 40.0) > usual && delay(150, 40.0) > delay(105, 40.0));
        // Four times as many are as rare as before that after so long.
        let longer = Duration::from_secs_f64(0.105 * 4.0_f64.ln());
        let grown = delay(105, 160.0) - delay(105, 40.0);
        assert!(
            grown.abs_diff(longer) < Duration::from_millis(1),
            "{grown:?}"
        );
    }

    #[test]
    fn what_feedback_tells_of_is_waited_for_less() {
        let deaf = Conditions {
            hears_losses: false,
            ..conditions(Kind::Video, 0.3, 100)
        };
        let hears = Conditions {
            hears_losses: true,
            ..deaf
        };
        let [deaf, hears] = [deaf, hears].map(|conditions| decide(&conditions));
        assert!(
            hears.playout_delay < deaf.playout_delay,
            "{hears:?}, {deaf:?}"
        );
        assert!(hears.heeds_feedback && !deaf.heeds_feedback);
        assert!(!decide(&conditions(Kind::Video, 0.03, 100)).heeds_feedback);
    }

    #[test]
    fn what_is_likely_to_be_lost_again_is_sent_several_times() {
        for (loss, burst, expected) in [
            (0.03, 1.0, (1, 1, 1)),
            (0.05, 1.0, (2, 2, 3)),
            (0.10, 1.0, (2, 3, 3)),
            (0.10, 4.0, (1, 1, 1)),
            (0.30, 2.0, (2, 3, 2)),
        ] {
            let conditions = Conditions {
                burst,
                ..conditions(Kind::Video, loss, 100)
            };
            let decided = decide(&conditions);
            let copies = (
                decided.first_copies,
                decided.later_copies,
                decided.late_copies,
            );
            assert_eq!(copies, expected, "{conditions:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_measured_the_answer_is_in_range(
            is_audio: bool, loss: f64, burst: f64, repeated: f64, by in 0u64..1 << 40,
            spread in 0u64..1 << 40, share in 0.0..=1.0, per_second: f64,
            round_trip in prop::option::of(0u64..1 << 40), spare: f64, hears_losses: bool,
            is_reliable: bool,
        ) {
            let kind = if is_audio { Kind::Audio } else { Kind::Video };
            let round_trip = round_trip.map(Duration::from_millis);
            let late = Some(Late {
                by: Duration::from_millis(by),
                spread: Duration::from_millis(spread),
                share,
                per_second,
            });
            let decided = decide(&Conditions {
                kind, loss, burst, repeated, late, round_trip, spare, hears_losses, is_reliable,
            });
            prop_assert!(decided.red_distance <= 3);
            prop_assert!((0.0..=MAX_RATIO).contains(&decided.fec_ratio));
            prop_assert!((0.0..=MAX_RATIO).contains(&decided.key_frame_fec_ratio));
            prop_assert!((1..=4).contains(&decided.interleaving));
            prop_assert!(decided.playout_delay <= MAX_PLAYOUT_DELAY);
        }
    }
}
