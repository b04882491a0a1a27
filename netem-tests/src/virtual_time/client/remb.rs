//! What a client without transport-wide feedback believes it can receive
//! (draft-alvestrand-rmcat-remb-03), by the rules of libwebrtc's receive-side estimator in short.
//!
//! In: when packets came, when they were sent (the header extension abs-send-time), their sizes.
//! Out: now and then an estimate to tell. A queue on the way makes it less than what arrives; without
//! one it grows slowly, but never far beyond what arrives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use confab_sfu::inside::rtp::extension::{ABS_SEND_TIME_TICKS, unwrap_abs_send_time};

/// The estimate before anything is known (libwebrtc's default start bitrate).
const START: f64 = 300_000.0;

/// How often it is told: libwebrtc's `kRembSendIntervalMs` is 200 ms, and less than a second is told
/// only of a fall.
const INTERVAL: Duration = Duration::from_millis(200);
const UNCHANGED: Duration = Duration::from_secs(1);

/// What arrives is measured over this time.
const RATE_WINDOW: Duration = Duration::from_millis(500);

/// The way without a queue is the fastest of this time.
const HISTORY: Duration = Duration::from_secs(10);

/// Every packet of an interval waiting for so long is a queue.
const QUEUE: Duration = Duration::from_millis(25);

/// Draft-ietf-rmcat-gcc-02 section 5.5: beta, and the growth in a second.
const BETA: f64 = 0.85;
const GROWTH: f64 = 1.08;

/// The estimate is at most this multiple of what arrives, and this more (libwebrtc's
/// `AimdRateControl`).
const BEYOND: f64 = 1.5;
const BEYOND_MORE: f64 = 10_000.0;

#[derive(Debug)]
struct Arrival {
    at: Instant,
    /// How much later it came than it was sent, up to a constant, seconds.
    transit: f64,
    bytes: usize,
}

/// The estimate of one client; it begins with the first packet.
#[derive(Debug, Default)]
pub struct Remb {
    epoch: Option<Instant>,
    /// The last time of sending, not wrapped.
    last_sent: Option<u64>,
    arrivals: VecDeque<Arrival>,
    estimate: f64,
    told: Option<(Instant, f64)>,
    next: Option<Instant>,
}

impl Remb {
    /// Takes a packet with its abs-send-time.
    pub fn handle_packet(&mut self, now: Instant, sent: u32, bytes: usize) {
        let epoch = *self.epoch.get_or_insert(now);
        let last = self.last_sent.unwrap_or(u64::from(sent));
        let ticks = unwrap_abs_send_time(last, sent);
        self.last_sent = Some(ticks);
        let transit = (now - epoch).as_secs_f64() - ticks as f64 / ABS_SEND_TIME_TICKS as f64;
        self.arrivals.push_back(Arrival {
            at: now,
            transit,
            bytes,
        });
        while self.arrivals.front().is_some_and(|a| a.at + HISTORY < now) {
            self.arrivals.pop_front();
        }
        if self.next.is_none() {
            self.estimate = START;
            self.next = Some(now + INTERVAL);
        }
    }

    /// When [`Remb::poll`] may say something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The estimate, bits a second, if it is to be told now.
    pub fn poll(&mut self, now: Instant) -> Option<u64> {
        self.next = Some(self.next.filter(|due| now >= *due)? + INTERVAL);
        self.update(now);
        let is_due = self
            .told
            .is_none_or(|(at, told)| now >= at + UNCHANGED || self.estimate < told);
        is_due.then(|| {
            self.told = Some((now, self.estimate));
            self.estimate as u64
        })
    }

    fn update(&mut self, now: Instant) {
        let since = |span: Duration| {
            let arrivals = self.arrivals.iter();
            arrivals.filter(move |arrival| arrival.at + span > now)
        };
        let base = fastest(self.arrivals.iter());
        let is_known = self.epoch.is_some_and(|epoch| epoch + RATE_WINDOW <= now);
        let lately = fastest(since(INTERVAL)).filter(|_| is_known);
        let Some((base, lately)) = base.zip(lately) else {
            return;
        };
        let bytes: usize = since(RATE_WINDOW).map(|arrival| arrival.bytes).sum();
        let rate = bytes as f64 * 8.0 / RATE_WINDOW.as_secs_f64();
        if lately - base > QUEUE.as_secs_f64() {
            self.estimate = self.estimate.min(BETA * rate);
        } else {
            let grown = self.estimate * GROWTH.powf(INTERVAL.as_secs_f64());
            let limit = BEYOND * rate + BEYOND_MORE;
            self.estimate = grown.min(limit.max(self.estimate));
        }
    }
}

/// The least transit, if anything came.
fn fastest<'a>(arrivals: impl Iterator<Item = &'a Arrival>) -> Option<f64> {
    arrivals.map(|arrival| arrival.transit).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use confab_sfu::inside::rtp::extension::abs_send_time;

    use super::*;

    /// What is told in the end of a stream at this rate over a link of that one, kbit/s.
    fn told(stream: f64, link: f64) -> f64 {
        let start = Instant::now();
        let mut remb = Remb::default();
        let (mut free, mut last) = (0.0_f64, 0);
        for n in 0..3000 {
            let sent = f64::from(n) * 8.0 / stream;
            free = free.max(sent) + 8.0 / link;
            let now = start + Duration::from_secs_f64(free);
            // It wraps on the way.
            let send_time = abs_send_time(Duration::from_secs_f64(60.0 + sent));
            remb.handle_packet(now, send_time, 1000);
            last = remb.poll(now).unwrap_or(last);
        }
        last as f64 / 1000.0
    }

    #[test]
    fn a_queue_takes_the_estimate_below_what_arrives_and_room_lets_it_grow() {
        let congested = told(800.0, 400.0);
        assert!((280.0..400.0).contains(&congested), "{congested}");
        let free = told(800.0, 5000.0);
        assert!((800.0..1300.0).contains(&free), "{free}");
    }
}
