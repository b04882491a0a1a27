//! The SDP side of one client's connection: an offer comes in, an answer goes out, and what both
//! agreed on stays here until the next offer.
//!
//! The client makes every offer (RFC 8829); the server is ICE-lite, the DTLS server, and wants all
//! media bundled on one transport (RFC 8843). [`Negotiation::answer`] changes nothing when it
//! refuses an offer.
//!
//! - `offer.rs` reads the text into types, `answer.rs` writes the reply
//! - `codec.rs`, `extension.rs`, `simulcast.rs` decide what an m-line agrees on
//! - `transport.rs` has the ICE and DTLS attributes, `error.rs` the refusals

mod error;
mod section;
mod transport;

pub use error::{LineName, OfferError};
pub use section::{ReceiveSection, Section, SendSection};
pub use transport::{Fingerprint, Hash, IceCredentials, Local};

use crate::media::{Codec, PayloadMap};
use crate::types::Mid;

/// Largest SDP that is read, in bytes: [`MAX_LINES`] m-lines of 4 KiB, which is what Chromium
/// writes for a video m-line with every codec it has.
pub const MAX_SDP_BYTES: usize = MAX_LINES * 4096;
/// Most m-lines of an offer, stopped ones included.
pub const MAX_LINES: usize = 64;
/// Most simulcast encodings of one m-line; the first ones listed are kept.
pub const MAX_ENCODINGS: usize = 3;

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// It may send media; otherwise m-lines it would send on are answered without receiving.
    pub may_publish: bool,
    /// It may receive media; otherwise m-lines it would receive on are answered without sending.
    pub may_subscribe: bool,
}

/// The outcome of an accepted offer. The m-lines are in [`Negotiation::sections`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The SDP to send back.
    pub answer: String,
    /// The first offer, or ICE has been restarted: both credentials are new.
    pub ice_restart: bool,
    /// Our credentials.
    pub local_ice: IceCredentials,
    /// The client's credentials.
    pub remote_ice: IceCredentials,
    /// The client's certificate has one of these. Never empty, the same in every offer.
    pub fingerprints: Vec<Fingerprint>,
    /// The m-lines on which the client sent before this offer and no longer does.
    pub stopped_receiving: Vec<Mid>,
    /// The m-lines on which we sent before this offer and no longer do.
    pub stopped_sending: Vec<Mid>,
}

/// The outcome of an ICE restart without an offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restarted {
    /// The `trickle-ice-sdpfrag` to send back; empty when nothing was restarted.
    pub fragment: String,
    /// The credentials were new. When not, the fragment only carried candidates, which an
    /// ICE-lite server has no use for.
    pub ice_restart: bool,
    /// Our credentials.
    pub local_ice: IceCredentials,
    /// The client's credentials.
    pub remote_ice: IceCredentials,
}

/// The SDP side of one connection, kept between offers.
#[derive(Debug)]
pub struct Negotiation {
    sections: Vec<Section>,
}

impl Negotiation {
    /// Before the first offer. `session_id` is a random number for the `o=` line, `cname` our
    /// canonical name on the connection.
    #[must_use]
    pub fn new(_session_id: u64, _cname: impl Into<String>) -> Self {
        todo!()
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// When the offer breaks a rule of SDP, or cannot be served. Nothing has changed then.
    pub fn answer(
        &mut self,
        _offer: &str,
        _policy: Policy,
        _local: &mut Local<'_>,
    ) -> Result<Negotiated, OfferError> {
        todo!()
    }

    /// The accepted m-lines as of the last accepted offer, in the order of the SDP.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Answers a `trickle-ice-sdpfrag` (RFC 8840) that may restart ICE (RFC 9725 section 4.3.3).
    ///
    /// # Errors
    /// When the fragment has no valid credentials, or before the first offer.
    pub fn restart_ice(
        &mut self,
        _fragment: &str,
        _local: &mut Local<'_>,
    ) -> Result<Restarted, OfferError> {
        todo!()
    }
}

/// The payload of a slot that can carry a track of this codec, the closest one first.
#[must_use]
pub fn match_payload(_track: Codec, _payloads: &[PayloadMap]) -> Option<&PayloadMap> {
    todo!()
}
