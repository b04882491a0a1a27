//! What a probe has shown.
//!
//! In: how the packets of a [`ProbeCluster`] fared. Out: the rate at which they arrived, if enough
//! of them did (libwebrtc M125's `ProbeBitrateEstimator`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::probe::ProbeCluster;
use super::sent::PacketResult;
use crate::units::{Bitrate, DataSize};

/// Of the packets and bytes of a probe, the share that must arrive, but for what the link loses
/// anyway (libwebrtc M125: `kMinReceivedProbesRatio` and `kMinReceivedBytesRatio`).
const MIN_ARRIVED: f64 = 0.8;

/// Packets that arrive faster than they were sent by more than this were held up and say nothing
/// (libwebrtc M125: `kMaxValidRatio`).
const MAX_SPEED_UP: f64 = 2.0;

/// A probe that arrives slower than this share of its rate has found the link's capacity, of which
/// that share is to be used (libwebrtc M125: `kMinRatioForUnsaturatedLink` and
/// `kTargetUtilizationFraction`).
const SATURATED: f64 = 0.9;
const USED: f64 = 0.95;

/// Longest time between the first and the last of its packets (libwebrtc M125:
/// `kMaxProbeInterval`).
const MAX_SPAN: Duration = Duration::from_secs(1);

/// Most probes under way.
const MAX_CLUSTERS: usize = 4;

#[derive(Debug)]
struct Burst {
    cluster: ProbeCluster,
    packets: u32,
    size: DataSize,
    sent: Option<(Instant, Instant)>,
    last_sent_size: DataSize,
    arrived: Option<(Duration, Duration)>,
    first_arrived_size: DataSize,
}

/// The probes under way on one connection.
#[derive(Debug, Default)]
pub(crate) struct ProbeResults {
    bursts: VecDeque<Burst>,
}

impl ProbeResults {
    /// A probe is going to be sent.
    pub(crate) fn handle_probe(&mut self, cluster: ProbeCluster) {
        if self.bursts.len() == MAX_CLUSTERS {
            self.bursts.pop_front();
        }
        self.bursts.push_back(Burst {
            cluster,
            packets: 0,
            size: DataSize::ZERO,
            sent: None,
            last_sent_size: DataSize::ZERO,
            arrived: None,
            first_arrived_size: DataSize::ZERO,
        });
    }

    /// Notes how a packet fared.
    pub(crate) fn handle_result(&mut self, result: &PacketResult) {
        let packet = result.packet;
        let (Some(id), Some(arrival)) = (packet.cluster, result.arrival()) else {
            return;
        };
        if let Some(burst) = self.bursts.iter_mut().find(|burst| burst.cluster.id == id) {
            burst.handle_arrival(packet.at, arrival, packet.size);
        }
    }

    /// The highest rate that a probe has shown since the last call. `link_loss` is the share of
    /// packets the link loses whatever is sent, `probable` the same as far as it is to be guessed: so many
    /// may be missing, but what has not arrived is only believed to have fitted if it is known.
    pub(crate) fn poll(&mut self, link_loss: f64, probable: f64) -> Option<Bitrate> {
        let mut measured = None;
        self.bursts
            .retain(|burst| match burst.measure(link_loss, probable) {
                None => true,
                rate => {
                    measured = measured.max(rate);
                    false
                }
            });
        measured
    }
}

impl Burst {
    fn handle_arrival(&mut self, sent: Instant, arrival: Duration, size: DataSize) {
        self.packets += 1;
        self.size += size;
        let (first, last) = self.sent.unwrap_or((sent, sent));
        if sent >= last {
            self.last_sent_size = size;
        }
        self.sent = Some((first.min(sent), last.max(sent)));
        let is_first = self.arrived.is_none_or(|(first, _)| arrival < first);
        if is_first {
            self.first_arrived_size = size;
        }
        let (first, last) = self.arrived.unwrap_or((arrival, arrival));
        self.arrived = Some((first.min(arrival), last.max(arrival)));
    }

    fn measure(&self, link_loss: f64, probable: f64) -> Option<Bitrate> {
        let passes = 1.0 - link_loss;
        let needed = MIN_ARRIVED * (1.0 - probable);
        let enough = f64::from(self.packets) >= f64::from(self.cluster.packets) * needed
            && self.size.as_bytes() as f64 >= self.cluster.size.as_bytes() as f64 * needed;
        let (sent, arrived) = (self.sent?, self.arrived?);
        let sent_span = sent.1.saturating_duration_since(sent.0);
        let arrived_span = arrived.1.saturating_sub(arrived.0);
        let valid = |span: Duration| !span.is_zero() && span <= MAX_SPAN;
        if !enough || !valid(sent_span) || !valid(arrived_span) {
            return None;
        }
        // The last takes no time to be sent within the span, nor the first to arrive.
        let sent = (self.size - self.last_sent_size)
            .over(sent_span)
            .scale(1.0 / passes);
        let arrived = (self.size - self.first_arrived_size)
            .over(arrived_span)
            .scale(1.0 / passes);
        let speed = arrived.ratio(sent);
        if speed > MAX_SPEED_UP {
            return None;
        }
        Some(if speed < SATURATED {
            arrived.scale(USED)
        } else {
            arrived.min(sent)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sent::{ClusterId, Fate, PacketKind, SentPacket};
    use super::*;
    use crate::rtp::sequence::SequenceNumber;
    use proptest::prelude::*;

    fn cluster(kbps: u64) -> ProbeCluster {
        let rate = Bitrate::kbps(kbps);
        ProbeCluster {
            id: ClusterId(7),
            rate,
            size: rate.during(Duration::from_millis(15)),
            packets: 5,
        }
    }

    fn result(sent: Instant, arrival: Option<Duration>, size: DataSize) -> PacketResult {
        PacketResult {
            sequence: SequenceNumber(0),
            packet: SentPacket {
                at: sent,
                size,
                kind: PacketKind::Padding,
                cluster: Some(ClusterId(7)),
                media: None,
            },
            fate: arrival.map_or(Fate::Lost, Fate::Arrived),
        }
    }

    /// A probe over a link with a capacity, of which some packets are lost.
    fn probe(kbps: u64, capacity: u64, is_lost: fn(u32) -> bool, link_loss: f64) -> Option<u64> {
        guessed(kbps, capacity, is_lost, [link_loss, link_loss])
    }

    /// The same, where the link's loss is known to be so much and guessed to be so much.
    fn guessed(
        kbps: u64,
        capacity: u64,
        is_lost: fn(u32) -> bool,
        [link_loss, probable]: [f64; 2],
    ) -> Option<u64> {
        let mut results = ProbeResults::default();
        let cluster = cluster(kbps);
        results.handle_probe(cluster);
        let size = DataSize::bytes(1200);
        let start = Instant::now();
        let mut arrival = Duration::from_secs(3);
        let count = cluster.size.as_bytes().div_ceil(1200).max(6) as u32;
        for n in 0..count {
            let sent = size.time_at(cluster.rate) * n;
            let earliest = Duration::from_secs(3) + sent;
            arrival = earliest.max(arrival + size.time_at(Bitrate::kbps(capacity)));
            results.handle_result(&result(
                start + sent,
                (!is_lost(n)).then_some(arrival),
                size,
            ));
        }
        results
            .poll(link_loss, probable)
            .map(|rate| rate.as_bps() / 1000)
    }

    #[test]
    fn a_probe_shows_its_rate_or_nearly_the_capacity() {
        let none = |_| false;
        assert!(matches!(probe(2000, 10_000, none, 0.0), Some(1990..2010)));
        assert!(matches!(probe(6000, 2000, none, 0.0), Some(1880..1910)));
    }

    #[test]
    fn a_probe_that_is_lost_in_part_shows_nothing_unless_the_link_loses_that_much() {
        assert_eq!(probe(2000, 10_000, |n| n % 2 == 1, 0.0), None);
        let shown = probe(2000, 10_000, |n| n % 3 == 1, 0.33);
        assert!(matches!(shown, Some(1500..2500)), "{shown:?}");
        let is_lost = |n| n % 3 == 1;
        let shown = guessed(2000, 10_000, is_lost, [0.0, 0.33]);
        assert!(matches!(shown, Some(1000..1700)), "what arrives: {shown:?}");
        let shown = guessed(2000, 500, |n| n % 2 == 1, [0.0, 0.5]);
        assert!(matches!(shown, Some(200..500)), "a full queue: {shown:?}");
    }

    #[test]
    fn packets_that_come_all_at_once_show_nothing() {
        let mut results = ProbeResults::default();
        results.handle_probe(cluster(2000));
        let (start, size) = (Instant::now(), DataSize::bytes(1200));
        for n in 0..10 {
            let sent = start + Duration::from_millis(5) * n;
            let arrival = Duration::from_secs(1) + Duration::from_micros(250) * n;
            results.handle_result(&result(sent, Some(arrival), size));
        }
        assert_eq!(results.poll(0.0, 0.0), None);
    }

    proptest! {
        #[test]
        fn no_feedback_breaks_it(packets in prop::collection::vec((0u64..1 << 40, any::<u64>(), any::<u64>()), 0..50), loss in 0.0..=0.5f64) {
            let start = Instant::now();
            let mut results = ProbeResults::default();
            (0..10).for_each(|_| results.handle_probe(cluster(100)));
            for (sent, arrival, size) in packets {
                let sent = start + Duration::from_micros(sent);
                let arrival = Some(Duration::from_micros(arrival));
                results.handle_result(&result(sent, arrival, DataSize::bytes(size)));
                results.poll(loss, loss);
                prop_assert!(results.bursts.len() <= MAX_CLUSTERS);
            }
        }
    }
}
