//! A leaky bucket in front of every peer.
//!
//! In: packets as they are to be sent, each with a size and a kind, and the rate. Out: the packets,
//! in the order of their kinds and spread over time, and bursts that probe the link. The queue holds
//! items of any type, so that it can be indices of packets that are kept elsewhere.
//!
//! Audio is not held up at all, for it is little; it counts, though. What may leave within
//! [`BURST`] leaves together, so that packets of one frame still make runs for the kernel.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::bandwidth::probe::ProbeCluster;
use crate::bandwidth::sent::{ClusterId, PacketKind};
use crate::units::{Bitrate, DataSize};

/// What may be sent ahead of its time, so that there are fewer and longer bursts: as long as the
/// groups in which the receiver's delay is looked at (draft-ietf-rmcat-gcc-02 section 5.2).
pub(crate) const BURST: Duration = Duration::from_millis(5);

/// Within about this time a queue is drained, however much is in it: the rate goes up if need be. A
/// key frame of a low layer fits in at the rate of that layer (libwebrtc drains in two seconds, but
/// it can tell its encoder to wait).
pub(crate) const MAX_QUEUE_TIME: Duration = Duration::from_millis(500);

/// The least time to drain in, however old the queue is.
const MIN_DRAIN: Duration = Duration::from_millis(50);

/// FEC and padding that are older are of no use any more: what they repair was asked for again.
const STALE: Duration = Duration::from_millis(250);

/// Most bytes in the queue: those of a large key frame in every slot of a big room.
pub(crate) const MAX_QUEUE: DataSize = DataSize::bytes(256 * 1024);

/// Most packets in the queue.
pub(crate) const MAX_PACKETS: usize = 1024;

/// Most debt from audio and the like that has to be waited for.
const MAX_DEBT: Duration = Duration::from_millis(500);

/// A burst that has not got enough packets after this time ends (libwebrtc's
/// `kProbeClusterTimeout` is five seconds; here padding fills it at once).
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);

const MAX_PROBES: usize = 4;

/// Packets of a burst leave this much ahead of their time, so that a fast burst needs no more than
/// a timer of a millisecond (libwebrtc's `min_probe_delta`).
const PROBE_STEP: Duration = Duration::from_millis(1);

/// Least and most of one filler: what RTP can pad with, and a packet.
const MIN_FILLER: u64 = 255;
const MAX_FILLER: u64 = 1200;

/// What may leave at once before anything is known of the path: what TCP may send before its first
/// acknowledgement (RFC 6928 section 2), and most of a small key frame.
const FIRST_FLIGHT: DataSize = DataSize::bytes(14_600);

const KINDS: usize = 5;

/// What is to leave now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Departure<T> {
    /// A packet that was queued.
    Packet {
        item: T,
        /// The burst it is part of.
        cluster: Option<ClusterId>,
    },
    /// Something of about this size to fill a burst: a useful packet again, or else padding.
    Filler {
        /// How much is missing in the burst.
        size: DataSize,
        cluster: ClusterId,
    },
}

#[derive(Debug)]
struct Queued<T> {
    item: T,
    size: DataSize,
    since: Instant,
}

/// A probe being sent.
#[derive(Debug)]
struct Burst {
    cluster: ProbeCluster,
    queued: Instant,
    began: Option<Instant>,
    sent: DataSize,
    packets: u32,
}

impl Burst {
    fn is_complete(&self) -> bool {
        self.sent >= self.cluster.size && self.packets >= self.cluster.packets
    }

    /// When its next packet is due.
    fn due(&self) -> Instant {
        let offset = self.sent.time_at(self.cluster.rate).min(PROBE_TIMEOUT);
        let offset = offset.saturating_sub(PROBE_STEP);
        self.began.map_or(self.queued, |began| began + offset)
    }

    fn filler(&self) -> DataSize {
        let packets = u64::from(self.cluster.packets.max(1));
        let size = self.cluster.size.as_bytes() / packets;
        DataSize::bytes(size.clamp(MIN_FILLER, MAX_FILLER))
    }
}

/// The packets of one peer that wait to leave.
#[derive(Debug)]
pub(crate) struct Pacer<T> {
    queues: [VecDeque<Queued<T>>; KINDS],
    size: DataSize,
    packets: usize,
    /// The sum of the times since `epoch` at which what is queued was queued.
    since: Duration,
    epoch: Option<Instant>,
    dropped: VecDeque<T>,
    rate: Bitrate,
    /// What is left of the first flight.
    allowance: DataSize,
    /// Bytes that have been sent ahead of time, and up to when they have been paid off.
    debt: f64,
    paid: Option<Instant>,
    /// Nothing leaves until the debt is paid.
    waits: bool,
    bursts: VecDeque<Burst>,
}

impl<T> Pacer<T> {
    /// Begins at a rate.
    #[must_use]
    pub(crate) fn new(rate: Bitrate) -> Self {
        Pacer {
            queues: std::array::from_fn(|_| VecDeque::new()),
            size: DataSize::ZERO,
            packets: 0,
            since: Duration::ZERO,
            epoch: None,
            dropped: VecDeque::new(),
            rate,
            allowance: FIRST_FLIGHT,
            debt: 0.0,
            paid: None,
            waits: false,
            bursts: VecDeque::new(),
        }
    }

    pub(crate) fn set_rate(&mut self, now: Instant, rate: Bitrate) {
        self.pay(now);
        self.rate = rate;
    }

    /// Sends a burst, after those that wait.
    pub(crate) fn handle_probe(&mut self, now: Instant, cluster: ProbeCluster) {
        if self.bursts.len() < MAX_PROBES {
            self.bursts.push_back(Burst {
                cluster,
                queued: now,
                began: None,
                sent: DataSize::ZERO,
                packets: 0,
            });
        }
    }

    /// Whether a packet may leave at once, before it is queued; it is taken to have left then. Audio
    /// always may.
    pub(crate) fn admit(&mut self, now: Instant, size: DataSize, kind: PacketKind) -> bool {
        self.pay(now);
        let is_free = self.packets == 0 && self.bursts.is_empty() && !self.waits;
        let may_leave = is_free || kind == PacketKind::Audio;
        if may_leave {
            self.owe(size);
        }
        may_leave
    }

    /// Queues a packet. When there is no room, the oldest of the least important packets go;
    /// they come out of [`Pacer::poll_dropped`].
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        item: T,
        size: DataSize,
        kind: PacketKind,
    ) {
        let queued = Queued {
            item,
            size,
            since: now,
        };
        self.put(kind as usize, queued);
        while self.size > MAX_QUEUE || self.packets > MAX_PACKETS {
            let Some(kind) = (0..KINDS).rev().find(|kind| !self.queues[*kind].is_empty()) else {
                return;
            };
            let dropped = self.take(kind);
            self.dropped.extend(dropped.map(|dropped| dropped.item));
        }
    }

    /// Something was sent that was not queued: data, or feedback.
    pub(crate) fn handle_unqueued(&mut self, now: Instant, size: DataSize) {
        self.pay(now);
        self.owe(size);
    }

    /// Drops packets that are of no use any more. They come out of [`Pacer::poll_dropped`].
    pub(crate) fn drop_if(&mut self, mut is_useless: impl FnMut(&T) -> bool) {
        for kind in 0..KINDS {
            for _ in 0..self.queues[kind].len() {
                let Some(queued) = self.take(kind) else {
                    break;
                };
                if is_useless(&queued.item) {
                    self.dropped.push_back(queued.item);
                } else {
                    self.put(kind, queued);
                }
            }
        }
    }

    /// A packet that was dropped for lack of room, or because it is of no use any more.
    pub(crate) fn poll_dropped(&mut self) -> Option<T> {
        self.dropped.pop_front()
    }

    /// What is to leave now, if anything. To be called until there is nothing.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Departure<T>> {
        self.pay(now);
        self.end_bursts(now);
        self.drop_stale(now);
        let may_leave = match self.bursts.front() {
            Some(burst) => burst.due() <= now,
            None => !self.waits,
        };
        if !may_leave && self.queues[PacketKind::Audio as usize].is_empty() {
            return None;
        }
        let kind = (0..KINDS).find(|kind| !self.queues[*kind].is_empty());
        let queued = kind.and_then(|kind| self.take(kind));
        let filler = self.bursts.front().map(Burst::filler);
        let size = queued.as_ref().map(|queued| queued.size).or(filler)?;
        self.owe(size);
        let cluster = self.bursts.front_mut().map(|burst| {
            burst.began.get_or_insert(now);
            burst.sent += size;
            burst.packets = burst.packets.saturating_add(1);
            burst.cluster.id
        });
        match (queued, cluster) {
            (Some(queued), cluster) => Some(Departure::Packet {
                item: queued.item,
                cluster,
            }),
            (None, cluster) => cluster.map(|cluster| Departure::Filler { size, cluster }),
        }
    }

    /// Says what the last filler really was; none if there was nothing to fill the burst with, which ends
    /// it.
    pub(crate) fn handle_filler(&mut self, claimed: DataSize, actual: Option<DataSize>) {
        let difference = claimed - actual.unwrap_or_default();
        self.debt = (self.debt - difference.as_bytes() as f64).max(0.0);
        match (self.bursts.front_mut(), actual) {
            (Some(burst), Some(actual)) => burst.sent = burst.sent - claimed + actual,
            (_, None) => drop(self.bursts.pop_front()),
            (None, _) => {}
        }
    }

    /// When to poll next; in the past when something may leave.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let oldest = self.oldest();
        if !self.queues[PacketKind::Audio as usize].is_empty() {
            return oldest;
        }
        match self.bursts.front() {
            Some(burst) => Some(burst.due()),
            None => oldest.map(|oldest| match self.paid.filter(|_| self.waits) {
                Some(paid) => paid + self.time_to_pay(paid),
                None => oldest,
            }),
        }
    }

    #[must_use]
    pub(crate) fn queued(&self) -> DataSize {
        self.size
    }

    /// Since when the oldest packet has waited.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let fronts = self.queues.iter().filter_map(VecDeque::front);
        fronts.map(|queued| queued.since).min()
    }

    fn put(&mut self, kind: usize, queued: Queued<T>) {
        self.size += queued.size;
        self.packets += 1;
        let epoch = *self.epoch.get_or_insert(queued.since);
        let since = queued.since.saturating_duration_since(epoch);
        self.since = self.since.saturating_add(since);
        self.queues[kind].push_back(queued);
    }

    fn take(&mut self, kind: usize) -> Option<Queued<T>> {
        let queued = self.queues[kind].pop_front()?;
        self.size -= queued.size;
        self.packets -= 1;
        let since = self
            .epoch
            .map(|epoch| queued.since.saturating_duration_since(epoch));
        self.since = self.since.saturating_sub(since.unwrap_or_default());
        Some(queued)
    }

    /// The rate, or what it takes to drain the queue in time.
    fn drain_rate(&self, now: Instant) -> Bitrate {
        let Some(epoch) = self.epoch.filter(|_| self.packets > 0) else {
            return self.rate;
        };
        let mean = self.since / u32::try_from(self.packets).unwrap_or(u32::MAX);
        let age = now.saturating_duration_since(epoch).saturating_sub(mean);
        let left = MAX_QUEUE_TIME.saturating_sub(age).max(MIN_DRAIN);
        self.rate.max(self.size.over(left))
    }

    fn pay(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.paid.unwrap_or(now));
        let paid = self.drain_rate(now).as_f64() / 8.0 * since.as_secs_f64();
        self.debt = (self.debt - paid).max(0.0);
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)));
        self.waits &= self.debt >= 1.0;
    }

    fn owe(&mut self, size: DataSize) {
        let rate = self.paid.map_or(self.rate, |now| self.drain_rate(now));
        let bytes_in = |time| rate.during(time).as_bytes() as f64;
        // Probes are paced in any case.
        let free = match self.bursts.is_empty() {
            true => size.min(self.allowance),
            false => DataSize::ZERO,
        };
        self.allowance -= free;
        let size = (size - free).as_bytes() as f64;
        self.debt = (self.debt + size).min(bytes_in(MAX_DEBT) + size);
        self.waits |= self.debt >= bytes_in(BURST).max(1.0);
    }

    fn time_to_pay(&self, now: Instant) -> Duration {
        let seconds = self.debt * 8.0 / self.drain_rate(now).as_f64().max(1.0);
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(MAX_DEBT)
            .min(MAX_DEBT)
    }

    fn end_bursts(&mut self, now: Instant) {
        while let Some(burst) = self.bursts.front() {
            let began = burst.began.unwrap_or(now);
            let is_late = now.saturating_duration_since(began) >= PROBE_TIMEOUT;
            if !burst.is_complete() && !is_late {
                return;
            }
            self.bursts.pop_front();
        }
    }

    fn drop_stale(&mut self, now: Instant) {
        for kind in [PacketKind::Fec, PacketKind::Padding].map(|kind| kind as usize) {
            while let Some(queued) = self.queues[kind].front()
                && now.saturating_duration_since(queued.since) > STALE
            {
                let dropped = self.take(kind);
                self.dropped.extend(dropped.map(|dropped| dropped.item));
            }
        }
    }
}

#[cfg(test)]
mod tests;
