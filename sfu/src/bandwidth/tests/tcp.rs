//! A download by TCP Cubic (RFC 9438) without end, to share a link with.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::link::{Link, Parcel};
use crate::units::DataSize;

/// What marks its parcels.
pub(super) const FLOW: usize = usize::MAX;

const SEGMENT: DataSize = DataSize::bytes(1500);

/// RFC 9438 section 4.1 and 4.6: C and beta.
const GROWTH: f64 = 0.4;
const BETA: f64 = 0.7;

/// Segments in slow start at first (RFC 6928).
const FIRST_WINDOW: f64 = 10.0;

/// A segment is lost when one sent this much later has arrived (RFC 5681: three duplicates).
const REORDERING: u64 = 3;

#[derive(Debug)]
pub(super) struct Tcp {
    window: f64,
    /// The window before the last loss, and when that was.
    most: Option<(f64, Instant)>,
    next: u64,
    in_flight: VecDeque<u64>,
    /// Acknowledgements on their way back.
    acks: VecDeque<(Instant, u64)>,
    /// Losses up to here have been answered.
    answered: u64,
    last_ack: Instant,
    pub(super) delivered: DataSize,
}

impl Tcp {
    pub(super) fn new(now: Instant) -> Self {
        Tcp {
            window: FIRST_WINDOW,
            most: None,
            next: 0,
            in_flight: VecDeque::new(),
            acks: VecDeque::new(),
            answered: 0,
            last_ack: now,
            delivered: DataSize::ZERO,
        }
    }

    pub(super) fn arrive(&mut self, acknowledged: Instant, parcel: Parcel) {
        self.delivered += parcel.size;
        self.acks.push_back((acknowledged, parcel.sequence));
    }

    pub(super) fn run(&mut self, now: Instant, link: &mut Link) {
        while let Some((_, sequence)) = self.acks.pop_front_if(|(at, _)| *at <= now) {
            self.acknowledge(now, sequence);
        }
        // The retransmission timeout, much simplified.
        if now - self.last_ack > Duration::from_secs(1) {
            self.in_flight.clear();
            self.window = 2.0;
            self.last_ack = now;
        }
        while (self.in_flight.len() as f64) < self.window {
            let parcel = Parcel {
                flow: FLOW,
                sequence: self.next,
                size: SEGMENT,
            };
            self.in_flight.push_back(self.next);
            self.next += 1;
            link.send(now, parcel);
        }
    }

    fn acknowledge(&mut self, now: Instant, sequence: u64) {
        self.last_ack = now;
        let before = self.in_flight.len();
        self.in_flight.retain(|other| *other != sequence);
        if self.in_flight.len() < before {
            self.grow(now);
        }
        let is_lost = |other: u64| other + REORDERING <= sequence;
        while let Some(lost) = self.in_flight.pop_front_if(|other| is_lost(*other)) {
            if lost >= self.answered {
                self.answered = self.next;
                self.most = Some((self.window, now));
                self.window = (self.window * BETA).max(2.0);
            }
        }
    }

    fn grow(&mut self, now: Instant) {
        let Some((most, since)) = self.most else {
            self.window += 1.0;
            return;
        };
        let back = (most * (1.0 - BETA) / GROWTH).cbrt();
        let time = (now - since).as_secs_f64();
        let target = GROWTH * (time - back).powi(3) + most;
        if target > self.window {
            self.window += ((target - self.window) / self.window).min(0.5);
        }
    }
}
