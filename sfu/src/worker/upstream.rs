//! Back up to the publishers: what subscribers report and ask for.
//!
//! In: what a peer's reports ask for, and what other workers pass on. Out: requests for key frames and news
//! of losses, to the publication if it is here, or to the worker that has it; retransmissions from here.

use std::time::Instant;

use super::Worker;
use super::mailbox::Message;
use crate::media::Kind;
use crate::peer::report::Action;
use crate::publish::encoding::SenderReportSeen;
use crate::publish::feed::{Feed, Origin};
use crate::types::{EncodingIndex, PeerId, TrackId, WorkerIndex};

impl Worker {
    /// Does what a subscriber's reports ask for.
    pub(super) fn act(&mut self, now: Instant, id: PeerId, action: Action) {
        match action {
            Action::KeyFrame { slot } => {
                let slot = self
                    .peers
                    .get(id)
                    .and_then(|p| p.slots.get(slot.0)?.as_ref());
                let wanted = slot.and_then(|s| s.track().zip(s.wanted_encoding()));
                if let Some((track, encoding)) = wanted {
                    self.request_key_frame(now, track, encoding);
                }
            }
            Action::Resend {
                slot,
                sequence,
                cause,
            } => self.resend(now, id, slot, sequence, cause),
            Action::ListenerLoss {
                track,
                fraction_lost,
            } => self.report_listener_loss(now, track, fraction_lost),
            Action::SenderReport {
                track,
                encoding,
                report,
            } => {
                let Some(feed) = self.feeds.get_mut(&track) else {
                    return;
                };
                feed.set_sender_report(encoding, report, &self.shared.clock);
                let workers: Vec<WorkerIndex> = feed.workers.keys().copied().collect();
                for worker in workers {
                    self.pass_sender_report(worker, track, encoding, report);
                }
            }
        }
    }

    /// Passes a publisher's sender report on to another worker.
    pub(super) fn pass_sender_report(
        &mut self,
        worker: WorkerIndex,
        track: TrackId,
        encoding: EncodingIndex,
        report: SenderReportSeen,
    ) {
        let report = Message::SenderReport {
            track,
            encoding,
            report,
        };
        self.send(worker, report);
    }

    /// Passes what a listener loses on to the publisher, or to the worker that has it.
    pub(super) fn report_listener_loss(&mut self, now: Instant, track: TrackId, fraction_lost: u8) {
        match self.feeds.get(&track).map(|f: &Feed| f.origin) {
            Some(Origin::Remote(worker)) => self.send(
                worker,
                Message::ListenerLoss {
                    track,
                    fraction_lost,
                },
            ),
            Some(Origin::Local(publisher)) => {
                let peer = self.peers.get_mut(publisher);
                if let Some(publication) = peer.and_then(|p| p.publication_of(track)) {
                    for encoding in &mut publication.encodings {
                        encoding.handle_listener(now, fraction_lost);
                    }
                }
            }
            None => {}
        }
    }

    /// Passes the request for a key frame on to the publisher, or to the worker that has it.
    pub(super) fn request_key_frame(
        &mut self,
        now: Instant,
        track: TrackId,
        encoding: EncodingIndex,
    ) {
        match self.feeds.get(&track).map(|f: &Feed| f.origin) {
            Some(Origin::Remote(worker)) => {
                self.send(worker, Message::KeyFrame { track, encoding });
            }
            Some(Origin::Local(publisher)) => {
                let peer = self.peers.get_mut(publisher);
                let publication = peer.and_then(|p| p.publication_of(track));
                let publication = publication.filter(|p| p.kind == Kind::Video);
                let stream = publication.and_then(|p| p.encodings.get_mut(usize::from(encoding)));
                if let Some(stream) = stream {
                    stream.key_frames.request(now);
                }
            }
            None => {}
        }
    }
}
