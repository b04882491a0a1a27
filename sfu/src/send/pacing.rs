//! What leaves for one peer, and when: its pacer, and the estimate the pacer goes by.
//!
//! In: packets in the clear that are to leave, feedback, and time. Out: which of them are to be
//! sealed and sent now. A packet gets its transport-wide sequence number when it leaves, so that
//! numbers are in the order in which the receiver should see them.

use std::time::Instant;

use crate::bandwidth::carried::Carried;
use crate::bandwidth::estimator::{BandwidthEstimator, MAX, PACING, START};
use crate::bandwidth::sent::{MediaPacket, PacketKind, PacketResult, SentPacket};
use crate::media::ExtensionMap;
use crate::path::Path;
use crate::rtp::rtcp::TransportFeedback;
use crate::rtp::sequence::SequenceNumber;
use crate::send::pacer::{Departure, Pacer};
use crate::types::Ssrc;
use crate::units::{Bitrate, DataSize};

/// The first transport-wide sequence number, extended: feedback on numbers before it must not wrap
/// below zero.
const FIRST: SequenceNumber = SequenceNumber(1 << 16);

/// A packet that waits, in the clear.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub bytes: Vec<u8>,
    /// Which extensions it has under which id.
    pub map: ExtensionMap,
    /// The stream it is of.
    pub ssrc: Ssrc,
    /// Its number there, extended.
    pub sequence: SequenceNumber,
    pub kind: PacketKind,
    /// The very same packet may be asked for again.
    pub is_kept: bool,
    /// What is sent again if it is lost.
    pub media: Option<MediaPacket>,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting {
            bytes: Vec::new(),
            map: ExtensionMap::default(),
            ssrc: Ssrc(0),
            sequence: SequenceNumber(0),
            kind: PacketKind::Padding,
            is_kept: false,
            media: None,
        }
    }
}

/// What leaves for one peer.
#[derive(Debug)]
pub(crate) struct Pacing {
    pacer: Pacer<usize>,
    /// What waits, by the pacer's items, and which of the places are free.
    waiting: Vec<Waiting>,
    free: Vec<usize>,
    estimator: BandwidthEstimator,
    /// What is sent whatever the estimate says.
    granted: Bitrate,
    /// Whether the receiver has told anything of what it gets.
    has_reported: bool,
    /// Whether it is to tell: transport-wide feedback is negotiated.
    is_negotiated: bool,
    /// The path that the estimate is of.
    path: Option<Path>,
    /// What the path to the client's former connection carried.
    former: Option<Carried>,
    next: SequenceNumber,
}

impl Default for Pacing {
    fn default() -> Self {
        let estimator = BandwidthEstimator::default();
        Pacing {
            pacer: Pacer::new(MAX),
            waiting: Vec::new(),
            free: Vec::new(),
            estimator,
            granted: Bitrate::ZERO,
            has_reported: false,
            is_negotiated: false,
            path: None,
            former: None,
            next: FIRST,
        }
    }
}

impl Pacing {
    /// Sets whether the receiver will give transport-wide feedback.
    pub(crate) fn set_negotiated(&mut self, now: Instant, is_negotiated: bool) {
        self.is_negotiated = is_negotiated;
        self.set_rate(now);
    }

    /// Says which path packets go from now on. Of another path nothing is known, but that it can carry what
    /// the former did if both are of one address: then it is mostly the same link that limits them.
    /// Returns whether the estimate has begun anew.
    pub(crate) fn set_way(&mut self, now: Instant, path: Path) -> bool {
        let Some(former) = self.path.replace(path) else {
            let carried = self.former.take();
            let is_same_link = |carried: &Carried| carried.address == path.address().ip();
            if let Some(carried) = carried.filter(is_same_link) {
                self.estimator.begin_anew(carried.rate);
                self.update(now);
            }
            return false;
        };
        let is_same_link = former.address().ip() == path.address().ip();
        if is_same_link && former.is_of_stream() == path.is_of_stream() {
            return false;
        }
        let start = match is_same_link {
            true => self.estimator.undisturbed(),
            false => START,
        };
        self.estimator.begin_anew(start);
        self.update(now);
        true
    }

    /// What the path carries, as far as the receiver has told.
    #[must_use]
    pub(crate) fn carried(&self) -> Option<Carried> {
        let address = self.path.filter(|_| self.has_reported)?.address().ip();
        let rate = self.estimator.undisturbed();
        Some(Carried { address, rate })
    }

    /// Says what the path to the client's former connection carried: from the same address, this begins with
    /// it.
    pub(crate) fn begin_with(&mut self, carried: Carried) {
        self.former = Some(carried).filter(|_| self.path.is_none());
    }

    /// The estimate; none of a receiver that gives no feedback to estimate by.
    #[must_use]
    pub(crate) fn estimate(&self) -> Option<Bitrate> {
        let is_known = self.is_negotiated || self.has_reported;
        is_known.then(|| self.estimator.estimate())
    }

    /// Whether the receiver gives transport-wide feedback.
    #[must_use]
    pub(crate) fn gives_feedback(&self) -> bool {
        self.is_negotiated
    }

    /// How the estimate came about.
    #[must_use]
    pub(crate) fn estimator(&self) -> &BandwidthEstimator {
        &self.estimator
    }

    /// Says how much could be put to use, and how much is sent whatever the estimate says.
    pub(crate) fn set_demand(&mut self, now: Instant, wanted: Bitrate, granted: Bitrate) {
        self.granted = granted;
        self.estimator.set_wanted(wanted);
        self.update(now);
    }

    /// Takes transport-wide feedback. Says whether it ends a silence in which nothing may have arrived.
    pub(crate) fn handle_feedback(
        &mut self,
        now: Instant,
        feedback: &TransportFeedback<'_>,
    ) -> bool {
        // Otherwise it is of numbers that we have never given.
        if !self.is_negotiated {
            return false;
        }
        let was_overdue = self.estimator.is_overdue();
        self.has_reported = true;
        self.estimator.handle_feedback(now, feedback);
        self.update(now);
        was_overdue && !self.estimator.is_overdue()
    }

    /// What the last feedback has settled.
    #[must_use]
    pub(crate) fn settled(&self) -> &[PacketResult] {
        self.estimator.settled()
    }

    /// When the first packet was sent that arrived after an outage, if feedback has told of one.
    pub(crate) fn take_outage(&mut self) -> Option<Instant> {
        self.estimator.take_outage()
    }

    /// Takes the receiver's own estimate, in bits per second.
    pub(crate) fn handle_remb(&mut self, now: Instant, bitrate: u64) {
        self.has_reported = true;
        self.estimator.handle_remb(now, bitrate);
        self.update(now);
    }

    /// Notes a packet that has truly left.
    pub(crate) fn handle_sent(&mut self, sequence: SequenceNumber, packet: SentPacket) {
        self.estimator.handle_sent(sequence, packet);
    }

    /// Notes that a packet leaves once more as it is, number and all.
    pub(crate) fn handle_repeated(&mut self, sequence: SequenceNumber) {
        self.estimator.handle_repeated(sequence);
    }

    /// Notes something that left and was not queued: feedback, data.
    pub(crate) fn handle_unqueued(&mut self, now: Instant, size: DataSize) {
        self.pacer.handle_unqueued(now, size);
    }

    /// Does what is due, departures aside. `is_silent` says whether nothing at all is heard of the client.
    pub(crate) fn handle_timeout(&mut self, now: Instant, is_silent: bool) {
        if self.estimator_deadline().is_some_and(|due| now >= due) {
            self.estimator.handle_timeout(now, is_silent);
            self.update(now);
        }
    }

    /// When something is due.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.estimator_deadline(), self.pacer.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn estimator_deadline(&self) -> Option<Instant> {
        self.estimator
            .next_deadline()
            .filter(|_| self.is_negotiated)
    }

    fn update(&mut self, now: Instant) {
        while self.is_negotiated
            && let Some(cluster) = self.estimator.poll_probe(now)
        {
            self.pacer.handle_probe(now, cluster);
        }
        self.set_rate(now);
    }

    fn set_rate(&mut self, now: Instant) {
        let rate = self
            .estimate()
            .map_or(MAX, |_| self.estimator.pacing_rate())
            .max(self.granted.scale(PACING));
        self.pacer.set_rate(now, rate);
    }

    /// Whether a packet may leave at once; it is taken to have left then.
    pub(crate) fn admit(&mut self, now: Instant, size: DataSize, kind: PacketKind) -> bool {
        self.pacer.admit(now, size, kind)
    }

    /// The transport-wide sequence number of a packet that leaves now.
    #[must_use]
    pub(crate) fn sequence(&self) -> SequenceNumber {
        self.next
    }

    /// The number has been used.
    pub(crate) fn advance(&mut self) {
        self.next = self.next.next();
    }

    /// Queues a packet that `write` puts into a buffer; it returns whether it could.
    pub(crate) fn queue(
        &mut self,
        now: Instant,
        size: DataSize,
        kind: PacketKind,
        write: impl FnOnce(&mut Waiting) -> Option<()>,
    ) -> Option<()> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.waiting.push(Waiting::default());
            self.waiting.len() - 1
        });
        let waiting = &mut self.waiting[place];
        waiting.bytes.clear();
        waiting.kind = kind;
        if write(waiting).is_none() {
            self.free.push(place);
            return None;
        }
        self.pacer.handle_packet(now, place, size, kind);
        Some(())
    }

    /// What is to leave now, if anything. A packet's place is to be given back with
    /// [`Pacing::release`].
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Departure<usize>> {
        self.pacer.poll(now)
    }

    /// Says what the last filler really was.
    pub(crate) fn handle_filler(&mut self, claimed: DataSize, actual: Option<DataSize>) {
        self.pacer.handle_filler(claimed, actual);
    }

    /// Drops what waits of these streams. Returns the numbers of what was dropped of the first, the
    /// lowest first: none of them has been used.
    pub(crate) fn drop_waiting(&mut self, of: Ssrc, and: [Option<Ssrc>; 2]) -> Vec<SequenceNumber> {
        let waiting = &self.waiting;
        let mut dropped = Vec::new();
        self.pacer.drop_if(|place| {
            let Waiting { ssrc, sequence, .. } = waiting[*place];
            if ssrc == of {
                dropped.push(sequence);
            }
            ssrc == of || and.contains(&Some(ssrc))
        });
        dropped.sort_unstable();
        dropped
    }

    /// How many packets were dropped since the last call, for lack of room or because they are of no
    /// use any more.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        let mut dropped = 0;
        while let Some(place) = self.pacer.poll_dropped() {
            self.free.push(place);
            dropped += 1;
        }
        dropped
    }

    /// A packet that waits.
    #[must_use]
    pub(crate) fn waiting(&self, place: usize) -> &Waiting {
        &self.waiting[place]
    }

    /// The packet has left.
    pub(crate) fn release(&mut self, place: usize) {
        self.free.push(place);
    }

    #[must_use]
    pub(crate) fn queued(&self) -> DataSize {
        self.pacer.queued()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use crate::bandwidth::sent::tests::{picture, with_feedback};

    use super::*;
    use crate::path::ConnectionId;

    #[test]
    fn of_another_way_only_the_rate_is_kept_and_that_only_on_the_same_link() {
        let udp = |address: &str| Path::from(address.parse::<SocketAddr>().expect("an address"));
        let tcp = |address: &str| Path::Tcp {
            connection: ConnectionId(1),
            address: address.parse::<SocketAddr>().expect("an address"),
        };
        let table = [
            (udp("192.0.2.1:1000"), udp("192.0.2.1:1000"), false, 2000),
            (udp("192.0.2.1:1000"), udp("192.0.2.1:1001"), false, 2000),
            (udp("192.0.2.1:1000"), tcp("192.0.2.1:1001"), true, 2000),
            (tcp("192.0.2.1:1001"), udp("192.0.2.1:1000"), true, 2000),
            (udp("192.0.2.1:1000"), udp("192.0.2.2:1000"), true, 300),
        ];
        for (former, path, is_new, kbps) in table {
            let now = Instant::now();
            let mut pacing = Pacing {
                estimator: BandwidthEstimator::new(Bitrate::kbps(2000)),
                ..Pacing::default()
            };
            pacing.set_negotiated(now, true);
            assert!(!pacing.set_way(now, former), "there was none before");
            assert_eq!(pacing.set_way(now, path), is_new, "{former} {path}");
            assert_eq!(pacing.estimate(), Some(Bitrate::kbps(kbps)));
        }
    }

    #[test]
    fn a_new_connection_begins_with_the_rate_of_the_former_from_the_same_address() {
        let now = Instant::now();
        let path = |address: &str| Path::from(address.parse::<SocketAddr>().expect("an address"));
        let mut former = Pacing {
            estimator: BandwidthEstimator::new(Bitrate::kbps(2000)),
            ..Pacing::default()
        };
        former.set_negotiated(now, true);
        former.set_way(now, path("192.0.2.1:1000"));
        assert_eq!(former.carried(), None, "nothing has been told");
        former.handle_sent(FIRST, picture(now, 1200));
        with_feedback(
            FIRST.wire(),
            &[(FIRST.wire(), Duration::ZERO)],
            |feedback| {
                former.handle_feedback(now, feedback);
            },
        );
        let carried = former.carried().expect("it is known");
        for (address, kbps) in [("192.0.2.1:2000", 2000), ("192.0.2.2:1000", 300)] {
            let mut pacing = Pacing::default();
            pacing.set_negotiated(now, true);
            pacing.begin_with(carried);
            pacing.set_way(now, path(address));
            assert_eq!(pacing.estimate(), Some(Bitrate::kbps(kbps)), "{address}");
        }
    }
}
