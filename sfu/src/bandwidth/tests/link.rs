//! A bottleneck: a rate, a queue that drops at its tail, a delay, and random loss behind it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize};

/// A packet under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel {
    pub(super) flow: usize,
    pub(super) sequence: u64,
    pub(super) size: DataSize,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) capacity: Bitrate,
    pub(super) depth: DataSize,
    pub(super) delay: Duration,
    /// How much longer some packets take, at most; none overtakes another.
    pub(super) jitter: Duration,
    pub(super) loss: f64,
    queue: VecDeque<(Instant, Parcel)>,
    queued: DataSize,
    free: Instant,
    last_arrival: Instant,
    random: u64,
}

impl Link {
    pub(super) fn new(start: Instant, capacity: Bitrate, seed: u64) -> Self {
        Link {
            capacity,
            depth: DataSize::bytes(300_000),
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            queue: VecDeque::new(),
            queued: DataSize::ZERO,
            free: start,
            last_arrival: start,
            random: seed.wrapping_mul(2).wrapping_add(1),
        }
    }

    /// A number from 0 to 1.
    pub(super) fn random(&mut self) -> f64 {
        let random = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = random.wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as f64 / f64::from(1u32 << 31)
    }

    pub(super) fn send(&mut self, now: Instant, parcel: Parcel) {
        if self.queued + parcel.size <= self.depth {
            self.queued += parcel.size;
            self.queue.push_back((now, parcel));
        }
    }

    /// How long a packet that is sent now will wait.
    pub(super) fn queueing(&self, now: Instant) -> Duration {
        self.free.saturating_duration_since(now) + self.queued.time_at(self.capacity)
    }

    /// What has passed the bottleneck by now and not been lost, with when it arrives.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Instant, Parcel)> {
        while let Some(&(since, parcel)) = self.queue.front() {
            let through = self.free.max(since) + parcel.size.time_at(self.capacity);
            if through > now {
                return None;
            }
            self.free = through;
            self.queue.pop_front();
            self.queued -= parcel.size;
            let jitter = self.jitter.mul_f64(self.random());
            if self.random() >= self.loss {
                self.last_arrival = self.last_arrival.max(through + self.delay + jitter);
                return Some((self.last_arrival, parcel));
            }
        }
        None
    }
}
