use super::super::sent::{Fate, PacketKind, SentPacket};
use super::*;
use crate::rtp::sequence::SequenceNumber;
use crate::units::DataSize;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// A sender that follows the limit, up to what it has, over a link that loses packets.
struct Call {
    loss: LossBased,
    now: Instant,
    wants: Bitrate,
    random: u64,
    tokens: f64,
    /// How many are lost in a row, and whether the last was.
    burst: f64,
    is_bad: bool,
}

impl Call {
    fn new(kbps: u64) -> Self {
        Call {
            loss: LossBased::default(),
            now: Instant::now(),
            wants: Bitrate::kbps(kbps),
            random: 7,
            tokens: 0.0,
            burst: 1.0,
            is_bad: false,
        }
    }

    fn rate(&self) -> Bitrate {
        self.loss
            .limit()
            .map_or(self.wants, |limit| limit.min(self.wants))
    }

    /// Whether the next packet is lost, of a link that loses as many in a row on average.
    fn loses(&mut self, share: f64, burst: f64) -> bool {
        let stays = match self.is_bad {
            true => 1.0 - 1.0 / burst,
            false => share / (burst * (1.0 - share)),
        };
        self.is_bad = self.chance(stays);
        self.is_bad
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.random >> 33) as f64) < share * f64::from(1u32 << 31)
    }

    /// Runs for a time over a link with random loss and a policer that lets `kbps` through.
    /// Returns the mean rate.
    fn run(&mut self, seconds: u64, random_loss: f64, kbps: u64, queueing: Duration) -> Bitrate {
        let end = self.now + Duration::from_secs(seconds);
        let size = DataSize::bytes(1200);
        let mut sent = DataSize::ZERO;
        while self.now < end {
            let step = size.time_at(self.rate());
            self.now += step;
            sent += size;
            let earned = Bitrate::kbps(kbps).during(step).as_bytes() as f64;
            self.tokens = (self.tokens + earned).min(6000.0);
            let passes = self.tokens >= 1200.0;
            if passes {
                self.tokens -= 1200.0;
            }
            let is_lost = match self.burst > 1.0 {
                true => self.loses(random_loss, self.burst),
                false => self.chance(random_loss),
            };
            let arrives = passes && !is_lost;
            let result = PacketResult {
                sequence: SequenceNumber(0),
                packet: SentPacket {
                    at: self.now,
                    size,
                    kind: PacketKind::Video,
                    cluster: None,
                    media: None,
                },
                fate: if arrives {
                    Fate::Arrived(MS)
                } else {
                    Fate::Lost
                },
            };
            self.loss
                .handle_result(self.now + 100 * MS, &result, arrives.then_some(queueing));
        }
        sent.over(Duration::from_secs(seconds))
    }
}

const AMPLE: u64 = 1_000_000;

#[test]
fn loss_that_does_not_respond_is_the_links_and_limits_for_a_moment_only() {
    for percent in [3, 5, 7, 10, 20, 30, 45] {
        for kbps in [500, 2000, 5000] {
            let mut call = Call::new(kbps);
            call.run(5, 0.0, AMPLE, Duration::ZERO);
            let loss = f64::from(percent) / 100.0;
            let first = call.run(20, loss, AMPLE, 10 * MS);
            let mean = call.run(60, loss, AMPLE, 10 * MS);
            let context = format!("{percent} % at {kbps} kbit/s: {first}, then {mean}");
            assert!(first.ratio(call.wants) > 0.8, "{context}");
            assert!(mean.ratio(call.wants) > 0.85, "{context}");
        }
    }
}

#[test]
fn the_links_loss_is_known_from_the_first_seconds_and_forgotten_when_it_ends() {
    let mut call = Call::new(1000);
    call.run(10, 0.3, AMPLE, Duration::ZERO);
    assert!((0.2..0.4).contains(&call.loss.link_loss()));
    call.run(20, 0.0, AMPLE, Duration::ZERO);
    assert!(call.loss.link_loss() < 0.01);
}

#[test]
fn a_link_that_gets_worse_little_by_little_is_believed() {
    let mut call = Call::new(2000);
    for percent in (15..=30).step_by(3) {
        call.run(20, f64::from(percent) / 100.0, AMPLE, Duration::ZERO);
    }
    let loss = call.loss.link_loss();
    assert!((0.27..0.33).contains(&loss), "{loss}");
}

#[test]
fn the_losses_of_the_first_second_are_guessed_to_be_the_links() {
    let mut call = Call::new(1000);
    call.run(1, 0.3, AMPLE, Duration::ZERO);
    let loss = call.loss.probable_link_loss();
    assert!((0.15..0.45).contains(&loss), "{loss}");
    call.run(10, 0.0, AMPLE, Duration::ZERO);
    assert!(call.loss.probable_link_loss() < 0.05, "it is over");
    let mut call = Call::new(2000);
    call.run(10, 0.0, 1000, Duration::ZERO);
    assert!(call.loss.probable_link_loss() < 0.05, "it is a policer's");
}

#[test]
fn bursts_limit_nothing_once_they_are_known() {
    let mut mean = 0.0;
    const SEEDS: u64 = 20;
    for seed in 1..=SEEDS {
        let mut call = Call::new(2000);
        (call.burst, call.random) = (4.0, seed);
        call.run(20, 0.1, AMPLE, Duration::ZERO);
        let rate = call.run(120, 0.1, AMPLE, Duration::ZERO);
        mean += rate.ratio(call.wants) / SEEDS as f64;
    }
    assert!(mean > 0.97, "{mean}");
}

#[test]
fn a_policer_is_found_without_any_delay() {
    for (wants, kbps) in [(2000, 1000), (5000, 300), (1000, 800)] {
        let mut call = Call::new(wants);
        call.run(5, 0.0, AMPLE, Duration::ZERO);
        call.run(5, 0.0, kbps, Duration::ZERO);
        let mean = call.run(60, 0.0, kbps, Duration::ZERO);
        let used = mean.ratio(Bitrate::kbps(kbps));
        assert!((0.85..1.1).contains(&used), "{kbps} of {wants}: {used}");
        assert!(call.loss.link_loss() < 0.05, "{}", call.loss.link_loss());
    }
}

#[test]
fn congestion_on_a_lossy_link_is_told_from_the_links_loss() {
    let mut call = Call::new(3000);
    call.run(10, 0.2, AMPLE, Duration::ZERO);
    call.run(10, 0.2, 1000, Duration::ZERO);
    let mean = call.run(60, 0.2, 1000, Duration::ZERO);
    assert!((700..1200).contains(&(mean.as_bps() / 1000)), "{mean}");
}

#[test]
fn loss_with_a_standing_queue_is_acted_upon_at_once() {
    let mut call = Call::new(2000);
    call.run(5, 0.0, AMPLE, Duration::ZERO);
    call.run(1, 0.0, 1000, 200 * MS);
    assert!(call.rate() < Bitrate::kbps(1100), "{}", call.rate());
}

#[test]
fn little_loss_and_a_short_burst_limit_nothing() {
    let mut call = Call::new(2000);
    call.run(60, 0.02, AMPLE, Duration::ZERO);
    assert_eq!(call.loss.limit(), None);
    call.run(1, 0.0, AMPLE, Duration::ZERO);
    call.loss.judge(Observation {
        ended: call.now,
        span: 250 * MS,
        rate: Bitrate::kbps(2000),
        arrived: Bitrate::kbps(400),
        loss: 0.8,
        packets: 50,
        bursts: 1,
        spread: 1.0,
        has_queue: false,
    });
    call.run(5, 0.0, AMPLE, Duration::ZERO);
    assert_eq!(call.loss.limit(), None);
}

proptest! {
    #[test]
    fn the_links_loss_is_a_share(fates in prop::collection::vec((0u8..3, 0u64..500, any::<u64>(), any::<u32>()), 0..300)) {
        let start = Instant::now();
        let mut loss = LossBased::default();
        let mut at = start;
        for (fate, step, size, queueing) in fates {
            at += MS * step as u32;
            let result = PacketResult {
                sequence: SequenceNumber(0),
                packet: SentPacket { at, size: DataSize::bytes(size), kind: PacketKind::Video, cluster: None, media: None },
                fate: [Fate::Lost, Fate::Arrived(MS), Fate::ArrivedLate(MS)][usize::from(fate)],
            };
            loss.handle_result(at, &result, Some(Duration::from_micros(queueing.into())));
            prop_assert!((0.0..=MAX_LINK_LOSS).contains(&loss.link_loss()));
            prop_assert!(loss.observations.len() <= POOL);
        }
    }
}
