//! The SDP side of one client's connection: an offer comes in, an answer goes out, and what both
//! agreed on stays here until the next offer.
//!
//! The client makes every offer (RFC 8829); the server is ICE-lite, and the DTLS server unless the
//! client wants to be that, and wants all media bundled on one transport (RFC 8843). [`Negotiation::answer`] changes nothing when it
//! refuses an offer.
//!
//! - `text.rs` reads the text as lines, `offer.rs` those into types; `answer.rs` writes the reply
//! - `accept.rs` decides on one m-line, with `codec.rs`, `repair.rs`, `extension.rs` and
//!   `simulcast.rs`
//! - `negotiated` is what was agreed on, [`SdpError`] why nothing was
//! - `transport.rs` has the ICE and DTLS attributes, `fragment.rs` restarts ICE without an offer

mod accept;
mod answer;
mod attribute;
mod codec;
mod extension;
mod fragment;
mod offer;
mod repair;
mod simulcast;
mod text;
mod transport;

use std::collections::HashSet;

use accept::{Accepted, accept};
use answer::Writer;
use offer::{Offer, OfferedLine};
pub use transport::Local;

use crate::peer::dtls::{Fingerprint, Role};
use crate::peer::ice::Credentials;

use crate::api::{LineName, SdpError, quote};
use crate::media::Kind;
use crate::negotiated::{MAX_LINES, Section};
use crate::types::{Mid, Ssrc};

/// Largest SDP that is read, in bytes: [`MAX_LINES`] m-lines of 4 KiB, which is what Chromium
/// writes for a video m-line with every codec it has.
pub const MAX_SDP_BYTES: usize = MAX_LINES * 4096;

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// It may send media; otherwise m-lines it would send on are answered without receiving.
    pub may_publish: bool,
    /// It may receive media; otherwise m-lines it would receive on are answered without sending.
    pub may_subscribe: bool,
    /// The client cannot be told of a part that is refused, so that an m-line to publish by that
    /// cannot be served refuses the offer (RFC 9725 section 4.2), and so does a first offer by which
    /// nothing can be done. Otherwise what can be served is, and the rest is in
    /// [`Negotiated::refused`].
    pub is_whole: bool,
}

/// The outcome of an accepted offer. The m-lines are in [`Negotiation::sections`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The SDP to send back.
    pub answer: String,
    /// The first offer, or ICE has been restarted: both credentials are new.
    pub ice_restart: bool,
    /// Our credentials.
    pub local_ice: Credentials,
    /// The client's credentials.
    pub remote_ice: Credentials,
    /// The client's certificate has one of these. Never empty, the same in every offer.
    pub fingerprints: Vec<Fingerprint>,
    /// Our role in DTLS, the same in every answer.
    pub role: Role,
    /// The m-lines on which the client sent before this offer and no longer does.
    pub stopped_receiving: Vec<Mid>,
    /// The m-lines on which we sent before this offer and no longer do.
    pub stopped_sending: Vec<Mid>,
    /// The m-lines that were offered and are not served, in the order of the SDP, and why.
    pub refused: Vec<(Mid, SdpError)>,
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
    pub local_ice: Credentials,
    /// The client's credentials.
    pub remote_ice: Credentials,
}

/// The SDP side of one connection, kept between offers.
#[derive(Debug)]
pub struct Negotiation {
    session_id: u64,
    cname: String,
    /// How many answers have been given.
    version: u64,
    /// Every m-line of the last offer, stopped ones included.
    lines: Vec<Line>,
    sections: Vec<Section>,
    /// The BUNDLE group of the last answer.
    bundle: Vec<Mid>,
    transport: Option<Transport>,
}

/// What is remembered of an m-line beyond its section.
#[derive(Debug)]
struct Line {
    name: LineName,
    /// The one in `name`, or one of ours.
    mid: Mid,
    /// It was accepted: until it is stopped it stays what it is (RFC 8829 section 5.2.2).
    live: bool,
    sources: SlotSources,
}

/// What an m-line is known by as a slot. It outlasts times in which it is none.
#[derive(Clone, Copy, Debug, Default)]
struct SlotSources {
    media: Option<Ssrc>,
    rtx: Option<Ssrc>,
    flexfec: Option<Ssrc>,
    /// The n-th audio and the n-th video slot share a stream: receivers keep audio and video in
    /// step within a stream only.
    stream: Option<u16>,
}

/// What was decided on the m-lines of an offer, each in the order of the SDP.
#[derive(Debug, Default)]
struct Decided {
    lines: Vec<Line>,
    accepted: Vec<Accepted>,
    refused: Vec<(Mid, SdpError)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Transport {
    local: Credentials,
    /// How often ICE has been restarted.
    restarts: u32,
    remote: Credentials,
    fingerprints: Vec<Fingerprint>,
    role: Role,
}

impl Negotiation {
    /// Before the first offer. `session_id` is a random number for the `o=` line, `cname` our
    /// canonical name on the connection: letters and digits.
    #[must_use]
    pub fn new(session_id: u64, cname: impl Into<String>) -> Self {
        Negotiation {
            // RFC 8829 section 5.2.1: 63 bits at most.
            session_id: session_id >> 1,
            cname: cname.into(),
            version: 0,
            lines: Vec::new(),
            sections: Vec::new(),
            bundle: Vec::new(),
            transport: None,
        }
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// When the offer breaks a rule of SDP, or cannot be served. Nothing has changed then.
    pub fn answer(
        &mut self,
        offer: &str,
        policy: Policy,
        local: &mut Local<'_>,
    ) -> Result<Negotiated, SdpError> {
        if !policy.may_publish && !policy.may_subscribe {
            return Err(SdpError::NotAllowed);
        }
        let offer = Offer::parse(offer)?;
        self.check_continuity(&offer)?;
        let Decided {
            lines,
            accepted,
            refused,
        } = self.accept_lines(&offer, policy, local.new_ssrc)?;
        check_conflicts(&offer, &accepted)?;
        let (transport, ice_restart) = self.agree_on_transport(&offer, &accepted, local)?;

        self.version += 1;
        let together = || bundled(&offer, &accepted);
        let parked = parked(&offer, &accepted);
        let bundle: Vec<Mid> = parked
            .and_then(|line| line.name.mid.as_deref().copied())
            .into_iter()
            .chain(
                together()
                    .filter(|(line, _)| offer.is_bundled(line))
                    .map(|(_, a)| a.section.mid),
            )
            .collect();
        let parked = parked.map(|line| line.name.index);
        let answer = Writer {
            session_id: self.session_id,
            version: self.version,
            cname: &self.cname,
            ice: &transport.local,
            fingerprint: local.fingerprint,
            candidates: local.candidates,
            restarts: transport.restarts,
            role: transport.role,
            bundle: &bundle,
            first: parked.or_else(|| together().next().map(|(line, _)| line.name.index)),
            parked,
        }
        .write(offer.lines.iter().map(|line| {
            let index = line.name.index;
            (line, accepted.iter().find(|a| a.section.index == index))
        }));

        let sections: Vec<Section> = accepted.into_iter().map(|a| a.section).collect();
        let before = std::mem::replace(&mut self.sections, sections);
        self.lines = lines;
        self.bundle = bundle;
        self.transport = Some(transport.clone());
        Ok(Negotiated {
            answer,
            ice_restart,
            local_ice: transport.local,
            remote_ice: transport.remote,
            fingerprints: transport.fingerprints,
            role: transport.role,
            stopped_receiving: stopped(&before, &self.sections, |s| s.receive.is_some()),
            stopped_sending: stopped(&before, &self.sections, |s| s.send.is_some()),
            refused,
        })
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
        fragment: &str,
        local: &mut Local<'_>,
    ) -> Result<Restarted, SdpError> {
        let transport = self.transport.as_mut().ok_or(SdpError::NotConnected)?;
        let remote = fragment::parse(fragment)?;
        let ice_restart = remote != transport.remote;
        let mut answer = String::new();
        if ice_restart {
            transport.remote = remote;
            transport.local = (local.new_credentials)();
            transport.restarts += 1;
            let (ice, restarts) = (&transport.local, transport.restarts);
            let first = self.sections.first().map(|section| {
                let line = self.lines.get(section.index);
                (
                    section,
                    line.and_then(|line| line.name.mid.as_deref().copied()),
                )
            });
            answer = fragment::write(&self.bundle, first, ice, local.candidates, restarts);
        }
        Ok(Restarted {
            fragment: answer,
            ice_restart,
            local_ice: transport.local.clone(),
            remote_ice: transport.remote.clone(),
        })
    }

    /// An m-line stays in its place, and what it is until it has been stopped.
    fn check_continuity(&self, offer: &Offer) -> Result<(), SdpError> {
        if offer.lines.len() < self.lines.len() {
            return Err(SdpError::LinesVanished {
                before: self.lines.len(),
                now: offer.lines.len(),
            });
        }
        for (before, now) in self.lines.iter().zip(&offer.lines) {
            if before.live && !now.stopped && before.name != now.name {
                return Err(SdpError::LineChanged {
                    line: now.name.clone(),
                    before: before.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// The names of the m-lines, in their order: those that the client gives, and ours for those it gives
    /// none (RFC 9429 section 5.10): their place, unless another is called so.
    fn names(&self, offer: &Offer) -> Result<Vec<Mid>, SdpError> {
        let named = |mid| {
            offer
                .lines
                .iter()
                .find(|line| line.name.mid.as_deref() == Some(&mid))
        };
        let name = |line: &OfferedLine| {
            let index = line.name.index;
            if line.has_bad_mid && line.kind.is_some() && !line.stopped {
                return Err(SdpError::BadMid(line.name.clone()));
            }
            if let Some(mid) = line.name.mid.as_deref().copied() {
                return Ok(mid);
            }
            // Of so many names one is free.
            let others = (0..=MAX_LINES).map(|n| format!("{index}_{n}"));
            let mut ours = std::iter::once(index.to_string())
                .chain(others)
                .filter_map(|name| Mid::new(name).ok());
            let before = self.lines.get(index).filter(|line| line.live);
            let mid = before
                .map(|line| line.mid)
                .or_else(|| ours.find(|mid| named(*mid).is_none()))
                .ok_or_else(|| SdpError::BadMid(line.name.clone()))?;
            match named(mid) {
                Some(twin) => Err(SdpError::DuplicateMid {
                    line: twin.name.clone(),
                    first: index,
                }),
                None => Ok(mid),
            }
        };
        offer.lines.iter().map(name).collect()
    }

    /// Decides on every m-line. One that cannot be served is refused alone, unless the policy has it
    /// otherwise; an offer of which nothing is left before there is a connection is refused.
    ///
    /// All that is served shares one transport (RFC 9429 section 5.3.1, policy `max-bundle`): that of
    /// the BUNDLE group or, without one, that of the first m-line that can be served.
    fn accept_lines(
        &self,
        offer: &Offer,
        policy: Policy,
        new_ssrc: &mut dyn FnMut() -> Ssrc,
    ) -> Result<Decided, SdpError> {
        let names = self.names(offer)?;
        let before = |index: usize| self.lines.get(index).filter(|line| line.live);
        let mut decided = Decided::default();
        for (offered, mid) in offer.lines.iter().zip(names) {
            decided.lines.push(Line {
                name: offered.name.clone(),
                mid,
                live: false,
                sources: before(offered.name.index).map_or_else(Default::default, |l| l.sources),
            });
        }
        let mut order: Vec<&OfferedLine> = offer.lines.iter().filter(|l| !l.stopped).collect();
        order.sort_by_key(|line| (!offer.is_bundled(line), before(line.name.index).is_none()));
        let mut streams: Vec<(Kind, u16)> = Vec::new();
        for offered in order {
            let Some(line) = decided.lines.get_mut(offered.name.index) else {
                continue;
            };
            if !offer.is_bundled(offered) && !decided.accepted.is_empty() {
                let reason = SdpError::NotBundled(offered.name.clone());
                decided.refused.push((line.mid, reason));
                continue;
            }
            // Streams are few, so that looking for a free one costs little.
            let free_stream = |kind| {
                let kept = self.sections.iter().filter(|s| s.kind == kind);
                let taken: Vec<u16> = kept
                    .filter_map(|s| self.lines.get(s.index)?.sources.stream)
                    .chain(streams.iter().filter(|s| s.0 == kind).map(|s| s.1))
                    .collect();
                (0..u16::MAX)
                    .find(|stream| !taken.contains(stream))
                    .unwrap_or_default()
            };
            match accept(
                offered,
                line.mid,
                policy,
                &mut line.sources,
                new_ssrc,
                free_stream,
            ) {
                Ok(accepted) => {
                    line.live = true;
                    let stream = line.sources.stream;
                    streams.extend(stream.map(|stream| (accepted.section.kind, stream)));
                    decided.accepted.push(accepted);
                }
                Err(reason @ SdpError::NoCommonCodec { .. })
                    if offered.client_sends && policy.may_publish && policy.is_whole =>
                {
                    return Err(reason);
                }
                Err(reason) => decided.refused.push((line.mid, reason)),
            }
        }
        let Decided { lines, refused, .. } = &mut decided;
        refused.sort_by_key(|(mid, _)| lines.iter().position(|line| line.mid == *mid));
        decided.accepted.sort_by_key(|a| a.section.index);
        if self.transport.is_none() {
            check_use(&decided, policy)?;
        }
        Ok(decided)
    }

    /// The transport as the first m-line of the bundle has it, and whether ICE starts anew.
    fn agree_on_transport(
        &self,
        offer: &Offer,
        accepted: &[Accepted],
        local: &mut Local<'_>,
    ) -> Result<(Transport, bool), SdpError> {
        if offer.ice_lite {
            return Err(SdpError::IceLite);
        }
        let Some((first, _)) = bundled(offer, accepted).next() else {
            // Everything was stopped: the transport idles.
            let idle = self.transport.clone().ok_or(SdpError::NothingOffered)?;
            return Ok((idle, false));
        };
        // The first accepted m-line counts (RFC 8843 section 7.3.1), but a `bundle-only` one may
        // leave its transport to one that we rejected.
        let rejected = |line: &&OfferedLine| !line.stopped && offer.is_bundled(line);
        let line = bundled(offer, accepted)
            .map(|(line, _)| line)
            .chain(offer.lines.iter().filter(rejected))
            .find(|line| line.transport.ufrag.is_some())
            .unwrap_or(first);
        let offered = &line.transport;
        if !line.rtcp_mux {
            return Err(SdpError::NoRtcpMux(line.name.clone()));
        }
        let before = self.transport.as_ref().map(|transport| transport.role);
        // RFC 4145 section 4: active when it is not said.
        let setup = offered.setup.as_deref().unwrap_or("active");
        let role = transport::role(setup, before).ok_or_else(|| SdpError::Setup {
            line: line.name.clone(),
            setup: quote(setup),
        })?;
        if offered.fingerprints.is_empty() {
            return Err(SdpError::NoFingerprint(line.name.clone()));
        }
        let fingerprints = offered.fingerprints.clone();
        let remote = transport::credentials(offered.ufrag.as_deref(), offered.pwd.as_deref())?;

        let local = match &self.transport {
            Some(before) if before.fingerprints != fingerprints => {
                return Err(SdpError::FingerprintChanged);
            }
            Some(before) if before.remote == remote => return Ok((before.clone(), false)),
            _ => (local.new_credentials)(),
        };
        let restarts = self.transport.as_ref().map_or(0, |t| t.restarts + 1);
        let transport = Transport {
            local,
            restarts,
            remote,
            fingerprints,
            role,
        };
        Ok((transport, true))
    }
}

/// A first offer is for something.
fn check_use(decided: &Decided, policy: Policy) -> Result<(), SdpError> {
    let mut sections = decided.accepted.iter().map(|accepted| &accepted.section);
    if decided.accepted.is_empty() {
        let mut reasons = decided.refused.iter().map(|(_, reason)| reason.clone());
        return Err(reasons.next().unwrap_or(SdpError::NothingOffered));
    }
    let is_of_use = sections.any(|section| section.receive.is_some() || section.send.is_some());
    match (is_of_use || !policy.is_whole, policy.may_publish) {
        (true, _) => Ok(()),
        (false, true) => Err(SdpError::NothingToPublish),
        (false, false) => Err(SdpError::NothingToReceive),
    }
}

/// The accepted m-lines in the order of the BUNDLE group, or the one that has its transport for itself.
fn bundled<'a>(
    offer: &'a Offer,
    accepted: &'a [Accepted],
) -> impl Iterator<Item = (&'a OfferedLine, &'a Accepted)> {
    let with_line = move |accepted: &'a Accepted| {
        let line = offer.lines.get(accepted.section.index)?;
        Some((line, accepted))
    };
    let in_group = offer.bundle.iter().filter_map(move |mid| {
        let accepted = accepted.iter().find(|a| a.section.mid == *mid);
        accepted.and_then(with_line)
    });
    let alone = accepted.iter().filter_map(with_line);
    in_group.chain(alone.filter(move |(line, _)| !offer.is_bundled(line)))
}

/// The m-line that tags the offer's BUNDLE group (RFC 8843 section 7.2.1), where it is not served and
/// others of the group are.
fn parked<'a>(offer: &'a Offer, accepted: &[Accepted]) -> Option<&'a OfferedLine> {
    let named = |mid: &Mid| {
        let mut lines = offer.lines.iter();
        lines.find(|line| line.name.mid.as_deref() == Some(mid))
    };
    // Such a group lends its transport to some other m-line, or to none.
    let mut group = offer.bundle.iter().filter_map(named);
    let tag = group.find(|line| !line.stopped)?;
    let served = |line: &OfferedLine| {
        let mut accepted = accepted.iter();
        accepted.any(|accepted| accepted.section.index == line.name.index)
    };
    (!served(tag) && group.any(served)).then_some(tag)
}

/// What bundled m-lines share must mean the same in all of them: an SSRC names one stream, and a
/// header extension id is read before the m-line of a packet is known.
fn check_conflicts(offer: &Offer, accepted: &[Accepted]) -> Result<(), SdpError> {
    let mut ssrcs = HashSet::new();
    let mut meanings = [None; u8::MAX as usize + 1];
    for (line, accepted) in bundled(offer, accepted) {
        let Some(receive) = &accepted.section.receive else {
            continue;
        };
        for (media, rtx) in &receive.ssrcs {
            for ssrc in [Some(*media), *rtx].into_iter().flatten() {
                if !ssrcs.insert(ssrc) {
                    return Err(SdpError::DuplicateSsrc {
                        line: line.name.clone(),
                        ssrc: ssrc.0,
                    });
                }
            }
        }
        for (extension, id) in receive.extensions.iter() {
            let meaning = meanings.get_mut(usize::from(id));
            let meaning = meaning.map(|meaning| *meaning.get_or_insert(extension));
            if meaning != Some(extension) {
                return Err(SdpError::ExtensionConflict {
                    line: line.name.clone(),
                    id,
                });
            }
        }
    }
    Ok(())
}

/// The m-lines that did something before and no longer do.
fn stopped(before: &[Section], now: &[Section], does: impl Fn(&Section) -> bool) -> Vec<Mid> {
    let goes_on = |mid: Mid| {
        now.iter()
            .any(|section| section.mid == mid && does(section))
    };
    before
        .iter()
        .filter(|section| does(section) && !goes_on(section.mid))
        .map(|section| section.mid)
        .collect()
}
