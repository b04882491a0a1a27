//! What tests of slots share: the path out of the server, and what is read at its end.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use super::slot::Slot;
use crate::api::WorkerStats;
use crate::clock::Clock;
use crate::publish::feed::Feed;
use crate::send::egress::Egress;
use crate::send::outbox::Outbox;
use crate::send::pacing::Pacing;
use crate::send::path_size::PathSize;
use crate::send::sealed::SealedRing;
use crate::srtp::{SrtpProfile, SrtpReceiver, SrtpSender};
use crate::types::PeerId;

/// Where the subscriber is.
pub(super) const DESTINATION: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// The path to one subscriber.
pub(super) struct Exit {
    sender: SrtpSender,
    sealed: SealedRing,
    pub(super) path_size: PathSize,
    receiver: SrtpReceiver,
    clock: Clock,
    pacing: Pacing,
    outbox: Outbox,
    stats: WorkerStats,
}

impl Exit {
    pub(super) fn new(start: Instant) -> Self {
        let (key, salt) = ([1; 16], [2; 12]);
        let profile = SrtpProfile::Aes128Gcm;
        Exit {
            sender: SrtpSender::new(profile, &key, &salt).unwrap(),
            receiver: SrtpReceiver::new(profile, &key, &salt).unwrap(),
            sealed: SealedRing::default(),
            path_size: PathSize::default(),
            clock: Clock::new(start, SystemTime::UNIX_EPOCH),
            pacing: Pacing::default(),
            outbox: Outbox::default(),
            stats: WorkerStats::default(),
        }
    }

    pub(super) fn egress(&mut self, now: Instant) -> Egress<'_> {
        Egress {
            now,
            peer: PeerId(1),
            clock: &self.clock,
            destination: DESTINATION.into(),
            path_size: &mut self.path_size,
            sealed: &mut self.sealed,
            srtp: &mut self.sender,
            pacing: &mut self.pacing,
            filling: None,
            outbox: &mut self.outbox,
            stats: &mut self.stats,
        }
    }

    /// Has a slot forward what has come into a feed; says how many packets were sent.
    pub(super) fn forward(&mut self, now: Instant, slot: &mut Slot, feed: &mut Feed) -> u64 {
        let mut egress = self.egress(now);
        let sent = slot.forward(feed, &mut egress);
        feed.clear_pending();
        sent
    }

    /// What has been sent, as it is on the wire.
    pub(super) fn sealed(&self) -> Vec<Vec<u8>> {
        let runs = self.outbox.runs().iter();
        runs.flat_map(|(run, bytes)| bytes.chunks(run.segment_size).map(<[u8]>::to_vec))
            .collect()
    }

    /// How many runs it has been sent in.
    pub(super) fn runs(&self) -> usize {
        self.outbox.runs().len()
    }

    /// What has been sent, in the clear.
    pub(super) fn datagrams(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = self.sealed();
        for datagram in &mut datagrams {
            // A number that was used twice would be refused as a replay.
            let len = self.receiver.open_rtp(datagram).unwrap().plain_len;
            datagram.truncate(len);
        }
        datagrams
    }
}
