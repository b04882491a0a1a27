//! The media plane as the control plane sees it.
//!
//! In: a [`Command`]. Out: its [`Outcome`], which is one of [`Control`](crate::control::Control)'s
//! inputs. [`MediaPlane`] has two implementors: the SFU, and the stand-in of the tests.

use std::future::Future;

use confab_sfu::Sfu;
use confab_sfu::api::{
    Answer, CommandError, Content, Offer, OfferError, PeerQuality, SlotChoice, SlotView, Stats,
    TrackInfo,
};
use confab_sfu::types::{Mid, PeerId, RoomId, TrackId};

use crate::protocol::{ErrorCode, Failure};

/// What carries the media.
pub trait MediaPlane: Clone + Send + Sync + 'static {
    /// Answers an offer; the first one of a peer makes it.
    fn offer(
        &self,
        room: RoomId,
        peer: PeerId,
        offer: Offer,
    ) -> impl Future<Output = Result<Answer, OfferError>> + Send;
    /// Publishes an m-line that was negotiated as sending but is not published.
    fn publish(
        &self,
        peer: PeerId,
        mid: Mid,
        content: Content,
    ) -> impl Future<Output = Result<TrackInfo, CommandError>> + Send;
    /// Takes a track back.
    fn unpublish(
        &self,
        peer: PeerId,
        track: TrackId,
    ) -> impl Future<Output = Result<(), CommandError>> + Send;
    /// Stops or resumes the forwarding of a track.
    fn mute(
        &self,
        peer: PeerId,
        track: TrackId,
        muted: bool,
    ) -> impl Future<Output = Result<(), CommandError>> + Send;
    /// Decides what a slot shows, and says what it shows now.
    fn subscribe(
        &self,
        peer: PeerId,
        mid: Mid,
        to: SlotChoice,
    ) -> impl Future<Output = Result<Option<TrackId>, CommandError>> + Send;
    /// Notes what a client shows of its slots: of all of these or, on an error, of none.
    fn set_view(
        &self,
        peer: PeerId,
        views: Vec<(Mid, SlotView)>,
    ) -> impl Future<Output = Result<(), CommandError>> + Send;
    /// What the way to a peer carries and what is made of it, if there is such a peer.
    fn quality(&self, peer: PeerId) -> impl Future<Output = Option<PeerQuality>> + Send;
    /// Applies a `trickle-ice-sdpfrag` with new ICE credentials (RFC 9725 section 4.3.3), and
    /// gives the one to answer with.
    fn restart_ice(
        &self,
        peer: PeerId,
        fragment: String,
    ) -> impl Future<Output = Result<String, OfferError>> + Send;
    /// Forgets a peer.
    fn close(&self, peer: PeerId) -> impl Future<Output = ()> + Send;
    /// Counters.
    fn stats(&self) -> impl Future<Output = Stats> + Send;
}

impl MediaPlane for Sfu {
    async fn offer(&self, room: RoomId, peer: PeerId, offer: Offer) -> Result<Answer, OfferError> {
        Sfu::offer(self, room, peer, offer).await
    }

    async fn publish(
        &self,
        peer: PeerId,
        mid: Mid,
        content: Content,
    ) -> Result<TrackInfo, CommandError> {
        Sfu::publish(self, peer, mid, content).await
    }

    async fn unpublish(&self, peer: PeerId, track: TrackId) -> Result<(), CommandError> {
        Sfu::unpublish(self, peer, track).await
    }

    async fn mute(&self, peer: PeerId, track: TrackId, muted: bool) -> Result<(), CommandError> {
        Sfu::mute(self, peer, track, muted).await
    }

    async fn subscribe(
        &self,
        peer: PeerId,
        mid: Mid,
        to: SlotChoice,
    ) -> Result<Option<TrackId>, CommandError> {
        Sfu::subscribe(self, peer, mid, to).await
    }

    async fn set_view(
        &self,
        peer: PeerId,
        views: Vec<(Mid, SlotView)>,
    ) -> Result<(), CommandError> {
        Sfu::set_view(self, peer, views).await
    }

    async fn quality(&self, peer: PeerId) -> Option<PeerQuality> {
        Sfu::quality(self, peer).await
    }

    async fn restart_ice(&self, peer: PeerId, fragment: String) -> Result<String, OfferError> {
        Sfu::restart_ice(self, peer, fragment).await
    }

    async fn close(&self, peer: PeerId) {
        Sfu::close(self, peer).await;
    }

    async fn stats(&self) -> Stats {
        Sfu::stats(self).await
    }
}

/// What the control plane wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(
    missing_docs,
    reason = "as the methods of `MediaPlane` of the same names"
)]
pub enum Command {
    Offer {
        room: RoomId,
        peer: PeerId,
        offer: Offer,
    },
    Publish {
        peer: PeerId,
        mid: Mid,
        content: Content,
    },
    Unpublish {
        peer: PeerId,
        track: TrackId,
    },
    Mute {
        peer: PeerId,
        track: TrackId,
        muted: bool,
    },
    Subscribe {
        peer: PeerId,
        mid: Mid,
        to: SlotChoice,
    },
    SetView {
        peer: PeerId,
        views: Vec<(Mid, SlotView)>,
    },
    Quality {
        peer: PeerId,
    },
    RestartIce {
        peer: PeerId,
        fragment: String,
    },
    Close {
        peer: PeerId,
    },
}

/// How a [`Command`] went.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// An offer was answered.
    Answered(Answer),
    /// An m-line was published.
    Published(TrackInfo),
    /// A track was unpublished, muted or unmuted, views were noted, or a peer was closed.
    Done,
    /// What a slot shows now.
    Shows(Option<TrackId>),
    /// What the way to a peer carries.
    Quality(PeerQuality),
    /// The fragment to answer an ICE restart with.
    Restarted(String),
    /// It was refused.
    Refused(Failure),
}

impl From<OfferError> for Outcome {
    fn from(error: OfferError) -> Outcome {
        refused(error.code(), &error.to_string())
    }
}

impl From<CommandError> for Outcome {
    fn from(error: CommandError) -> Outcome {
        refused(error.code(), &error.to_string())
    }
}

fn refused(code: &str, message: &str) -> Outcome {
    Outcome::Refused(failure(code, message))
}

/// A refusal of the media plane as clients are told of it.
pub(crate) fn failure(code: &str, message: &str) -> Failure {
    Failure::new(ErrorCode::from_media(code), sentence(message))
}

/// An error's text as a sentence: errors are written to be put after a colon.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let mut sentence: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    sentence.push_str(chars.as_str());
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

/// Carries a command out.
pub async fn carry_out(media: &impl MediaPlane, command: Command) -> Outcome {
    match command {
        Command::Offer { room, peer, offer } => media
            .offer(room, peer, offer)
            .await
            .map_or_else(Outcome::from, Outcome::Answered),
        Command::Publish { peer, mid, content } => media
            .publish(peer, mid, content)
            .await
            .map_or_else(Outcome::from, Outcome::Published),
        Command::Unpublish { peer, track } => done(media.unpublish(peer, track).await),
        Command::Mute { peer, track, muted } => done(media.mute(peer, track, muted).await),
        Command::Subscribe { peer, mid, to } => media
            .subscribe(peer, mid, to)
            .await
            .map_or_else(Outcome::from, Outcome::Shows),
        Command::SetView { peer, views } => done(media.set_view(peer, views).await),
        Command::Quality { peer } => {
            let quality = media.quality(peer).await;
            quality.map_or(CommandError::UnknownPeer.into(), Outcome::Quality)
        }
        Command::RestartIce { peer, fragment } => media
            .restart_ice(peer, fragment)
            .await
            .map_or_else(Outcome::from, Outcome::Restarted),
        Command::Close { peer } => {
            media.close(peer).await;
            Outcome::Done
        }
    }
}

fn done(result: Result<(), CommandError>) -> Outcome {
    result.map_or_else(Outcome::from, |()| Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_sentence_with_its_code() {
        assert_eq!(
            Outcome::from(CommandError::UnknownTrack(TrackId(7))),
            Outcome::Refused(Failure::new(
                ErrorCode::UnknownTrack,
                "There is no track t_7 that this can be done with."
            ))
        );
    }
}
