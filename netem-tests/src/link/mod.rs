//! One direction of a client's network: the one model behind virtual time and real time both.
//!
//! In: datagrams, and the time each is sent. Out: what arrives, and when. The seed and the datagrams
//! decide everything: the same ones meet the same fate, on any machine. Each kind of misfortune is
//! drawn from a sequence of its own, once for every datagram, so that a change of one setting moves
//! no other.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use confab_netem_tests::link::{Impairment, Link};
//!
//! let delay = Duration::from_millis(50);
//! let mut link = Link::new(7, Impairment { delay, ..Impairment::default() });
//! let now = Instant::now();
//! link.send(now, b"hello".to_vec());
//! assert_eq!(link.next_deadline(), Some(now + delay));
//! assert_eq!(link.poll(now), None);
//! assert_eq!(link.poll(now + delay), Some(b"hello".to_vec()));
//! ```

mod impairment;
mod loss;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub use impairment::{GilbertElliott, Impairment, Loss, Queue, Rate, Stall};
use loss::LossProcess;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a link can carry.
pub trait Carried: Clone {
    /// Its size on the wire in bytes, IP headers included.
    fn wire_size(&self) -> usize;

    /// The bytes in which a bit may flip.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// A whole IP packet.
impl Carried for Vec<u8> {
    fn wire_size(&self) -> usize {
        self.len()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// One direction of a network, and the datagrams on it.
#[derive(Debug)]
pub struct Link<D> {
    impairment: Impairment,
    loss: LossProcess,
    dice: Dice,
    /// Where stalls begin, as a share of their period, counted from the first datagram.
    phase: f64,
    began: Option<Instant>,
    queue: VecDeque<Queued<D>>,
    queued_bytes: usize,
    /// The datagram in the bottleneck, and when the last of it is through.
    sending: Option<(Instant, Queued<D>)>,
    /// By time of arrival, and by order of sending among those that arrive together.
    travelling: BTreeMap<(Instant, u64), D>,
    order: u64,
    last_arrival: Option<Instant>,
    counters: Counters,
    /// The longest that a datagram has had to wait since that was last asked.
    longest_wait: Duration,
}

/// A link at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// What it did so far.
    pub counters: Counters,
    /// How long a datagram sent now would wait for those before it.
    pub queueing_delay: Duration,
    /// The longest that one had to wait since the reading before.
    pub longest_wait: Duration,
    /// The rate of its bottleneck, bits a second, if it has one.
    pub rate: Option<u64>,
}

/// What a link did so far, in datagrams unless it says bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Handed to it.
    pub sent: u64,
    /// Handed to it, bytes.
    pub sent_bytes: u64,
    /// Handed on, duplicates among them.
    pub delivered: u64,
    /// Handed on, bytes.
    pub delivered_bytes: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    /// Dropped because the link was down.
    pub cut: u64,
    /// Delivered a second time.
    pub duplicated: u64,
    /// With a bit flipped.
    pub corrupted: u64,
}

#[derive(Debug)]
struct Queued<D> {
    datagram: D,
    size: usize,
    fate: Fate,
}

/// What the dice said of a datagram. It does not depend on what else is on the link.
#[derive(Clone, Copy, Debug)]
struct Fate {
    is_lost: bool,
    /// From -1 to 1: to which side of the delay, and how far.
    jitter: f64,
    is_duplicated: bool,
    /// Which bit is flipped, as a share of the datagram.
    corrupt: Option<f64>,
}

#[derive(Debug)]
struct Dice {
    loss: ChaCha8Rng,
    jitter: ChaCha8Rng,
    duplicate: ChaCha8Rng,
    corrupt: ChaCha8Rng,
}

impl<D: Carried> Link<D> {
    /// A link as described, with nothing on it.
    #[must_use]
    pub fn new(seed: u64, impairment: Impairment) -> Self {
        let mut seeds = ChaCha8Rng::seed_from_u64(seed);
        let mut die = || ChaCha8Rng::seed_from_u64(seeds.next_u64());
        let dice = Dice {
            loss: die(),
            jitter: die(),
            duplicate: die(),
            corrupt: die(),
        };
        Link {
            loss: LossProcess::new(impairment.loss.clone()),
            impairment,
            dice,
            phase: die().random(),
            began: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sending: None,
            travelling: BTreeMap::new(),
            order: 0,
            last_arrival: None,
            counters: Counters::default(),
            longest_wait: Duration::ZERO,
        }
    }

    /// How the link behaves now.
    #[must_use]
    pub fn impairment(&self) -> &Impairment {
        &self.impairment
    }

    /// Changes how the link behaves from now on. What is past the bottleneck arrives as it would
    /// have; what waits before it is sent at the new rate.
    pub fn set(&mut self, now: Instant, impairment: Impairment) {
        self.advance(now);
        if impairment.loss != self.impairment.loss {
            self.loss = LossProcess::new(impairment.loss.clone());
        }
        self.impairment = impairment;
        self.advance(now);
    }

    /// Takes a datagram.
    pub fn send(&mut self, now: Instant, datagram: D) {
        self.advance(now);
        self.began.get_or_insert(now);
        self.longest_wait = self.longest_wait.max(self.queueing_delay(now));
        let size = datagram.wire_size();
        self.counters.sent += 1;
        self.counters.sent_bytes += size as u64;
        let queued = Queued {
            datagram,
            size,
            fate: self.draw(),
        };
        if !self.impairment.is_up {
            self.counters.cut += 1;
        } else if self.sending.is_some() {
            let room = self.impairment.rate.map_or(usize::MAX, |r| r.queue_bytes());
            if self.queued_bytes + size > room {
                self.counters.overflowed += 1;
            } else {
                self.queued_bytes += size;
                self.queue.push_back(queued);
            }
        } else {
            self.start(now, queued);
        }
    }

    /// The next datagram that has arrived by now.
    pub fn poll(&mut self, now: Instant) -> Option<D> {
        self.advance(now);
        let entry = self.travelling.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let datagram = entry.remove();
        self.counters.delivered += 1;
        self.counters.delivered_bytes += datagram.wire_size() as u64;
        Some(datagram)
    }

    /// When [`Link::poll`] may have something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let arrival = self.travelling.first_key_value().map(|(key, _)| key.0);
        let through = self.sending.as_ref().map(|(at, _)| *at);
        arrival.into_iter().chain(through).min()
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How it stands, and the longest wait since this was asked last.
    pub fn take_reading(&mut self, now: Instant) -> Reading {
        Reading {
            counters: self.counters,
            queueing_delay: self.queueing_delay(now),
            longest_wait: std::mem::take(&mut self.longest_wait),
            rate: self.impairment.rate.map(|rate| rate.bits_per_second),
        }
    }

    /// How long a datagram sent now would wait for those before it.
    #[must_use]
    pub fn queueing_delay(&self, now: Instant) -> Duration {
        let Some((through, _)) = &self.sending else {
            return Duration::ZERO;
        };
        let behind = self
            .impairment
            .rate
            .map(|r| r.serialization(self.queued_bytes));
        through.saturating_duration_since(now) + behind.unwrap_or_default()
    }

    fn draw(&mut self) -> Fate {
        let one = |die: &mut ChaCha8Rng| die.random::<f64>();
        let is_lost = self.loss.next(&mut self.dice.loss);
        let jitter = one(&mut self.dice.jitter).mul_add(2.0, -1.0);
        let is_duplicated = one(&mut self.dice.duplicate) < self.impairment.duplicate;
        let corrupt = one(&mut self.dice.corrupt);
        let which_bit = one(&mut self.dice.corrupt);
        Fate {
            is_lost,
            jitter,
            is_duplicated,
            corrupt: (corrupt < self.impairment.corrupt).then_some(which_bit),
        }
    }

    /// Moves what the bottleneck is through with by `now` onto the way.
    fn advance(&mut self, now: Instant) {
        while let Some((through, _)) = self.sending
            && through <= now
        {
            if let Some((_, queued)) = self.sending.take() {
                self.depart(through, queued);
            }
            if let Some(next) = self.queue.pop_front() {
                self.queued_bytes -= next.size;
                self.start(through, next);
            }
        }
    }

    /// Puts a datagram into the bottleneck, which is free.
    fn start(&mut self, at: Instant, queued: Queued<D>) {
        match self.impairment.rate {
            Some(rate) => self.sending = Some((at + rate.serialization(queued.size), queued)),
            None => {
                self.depart(at, queued);
                // The rate was taken away while others waited.
                while let Some(next) = self.queue.pop_front() {
                    self.queued_bytes -= next.size;
                    self.depart(at, next);
                }
            }
        }
    }

    fn depart(&mut self, at: Instant, queued: Queued<D>) {
        let Queued {
            mut datagram, fate, ..
        } = queued;
        if fate.is_lost {
            self.counters.lost += 1;
            return;
        }
        let jitter = self.impairment.jitter.mul_f64(fate.jitter.abs());
        let delay = if fate.jitter < 0.0 {
            self.impairment.delay.saturating_sub(jitter)
        } else {
            self.impairment.delay + jitter
        };
        let mut arrival = self.after_stall(at) + delay;
        if !self.impairment.reorders {
            arrival = self.last_arrival.map_or(arrival, |last| arrival.max(last));
        }
        self.last_arrival = Some(self.last_arrival.map_or(arrival, |last| arrival.max(last)));
        if let Some(which) = fate.corrupt {
            flip_bit(datagram.bytes_mut(), which);
            self.counters.corrupted += 1;
        }
        if fate.is_duplicated {
            self.counters.duplicated += 1;
            self.travel(arrival, datagram.clone());
        }
        self.travel(arrival, datagram);
    }

    fn travel(&mut self, arrival: Instant, datagram: D) {
        self.travelling.insert((arrival, self.order), datagram);
        self.order += 1;
    }

    /// When what leaves the bottleneck at this time gets onto the way.
    fn after_stall(&self, at: Instant) -> Instant {
        let (Some(stall), Some(began)) = (self.impairment.stall, self.began) else {
            return at;
        };
        if stall.every.is_zero() {
            return at;
        }
        let since = at.saturating_duration_since(began) + stall.every.mul_f64(self.phase);
        let into = Duration::from_nanos((since.as_nanos() % stall.every.as_nanos()) as u64);
        at + stall.length.saturating_sub(into)
    }
}

fn flip_bit(bytes: &mut [u8], which: f64) {
    let bit = (which * (bytes.len() * 8) as f64) as usize;
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests;
