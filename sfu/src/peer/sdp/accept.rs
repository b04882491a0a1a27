//! One m-line: what was offered against what the client may do and what we can do.

use super::codec::{self, Codecs, Format};
use super::extension::{Carried, Extensions};
use super::offer::OfferedLine;
use super::simulcast::Simulcast;
use super::{Policy, SlotSources};
use crate::api::SdpError;
use crate::media::Kind;
use crate::negotiated::{ReceiveSection, Section, SendSection};
use crate::types::{MAX_SHORT_MID_LEN, Mid, Ssrc};

/// What `<proto>` may say. All of it means RTP over DTLS with feedback, whatever it says: RFC 8829
/// section 5.1.2 has the first eight taken for that, and the last is what was written before it.
const PROFILES: [&str; 9] = [
    "UDP/TLS/RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "TCP/DTLS/RTP/SAVPF",
    "TCP/DTLS/RTP/SAVP",
    "RTP/SAVPF",
    "RTP/SAVP",
    "RTP/AVPF",
    "RTP/AVP",
    "TCP/TLS/RTP/SAVPF",
];

/// An m-line that is served, with what only the answer needs to know.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) section: Section,
    pub(super) formats: Vec<Format>,
    /// The values of `a=extmap`.
    pub(super) extmaps: Vec<String>,
    /// The encodings that the client is asked for.
    pub(super) simulcast: Option<Simulcast>,
}

/// Accepts an m-line, or says why it cannot be served. `mid` is its name; `sources` are the SSRCs it
/// had as a slot, filled in when it becomes one; `free_stream` numbers the stream of a new slot.
pub(super) fn accept(
    line: &OfferedLine,
    mid: Mid,
    policy: Policy,
    sources: &mut SlotSources,
    new_ssrc: &mut dyn FnMut() -> Ssrc,
    free_stream: impl FnOnce(Kind) -> u16,
) -> Result<Accepted, SdpError> {
    let kind = supported_kind(line)?;
    let Codecs {
        payloads,
        repair,
        formats,
    } = Codecs::negotiate(kind, &line.payloads);
    if payloads.is_empty() {
        return Err(SdpError::NoCommonCodec {
            line: line.name.clone(),
            offered: codec::names(&line.payloads),
            handled: codec::handled(kind),
        });
    }

    let receives = line.client_sends && policy.may_publish;
    let sends = line.client_receives && policy.may_subscribe;
    let extensions = Extensions::negotiate(
        kind,
        &line.extensions,
        Carried {
            allows_mixed: line.extmap_allow_mixed,
            // Longer than that it needs the two-byte form.
            says_mid: mid.as_bytes().len() <= MAX_SHORT_MID_LEN || line.extmap_allow_mixed,
            receives,
            sends,
        },
    );
    // Also while nothing is sent: Chromium forgets the encodings that an answer leaves out.
    let simulcast = line
        .simulcast
        .as_deref()
        .filter(|_| extensions.names_encodings)
        .and_then(|simulcast| {
            let accepted: Vec<_> = payloads
                .iter()
                .map(|payload| payload.payload_type)
                .collect();
            Simulcast::negotiate(simulcast, &line.rids, &accepted)
        });
    let rids = simulcast.as_ref().map(|agreed| agreed.rids.clone());
    let rids = rids.unwrap_or_default();

    let has_rtx = payloads
        .iter()
        .any(|payload| payload.rtx_payload_type.is_some());
    let receive = receives.then(|| ReceiveSection {
        ssrcs: line.ssrcs.clone(),
        is_sim_group: line.is_sim_group && rids.is_empty() && kind == Kind::Video,
        rids,
        cname: line.cname.clone(),
        extensions: extensions.receive,
    });
    let send = sends.then(|| SendSection {
        ssrc: *sources.media.get_or_insert_with(&mut *new_ssrc),
        rtx_ssrc: has_rtx.then(|| *sources.rtx.get_or_insert_with(&mut *new_ssrc)),
        flexfec_ssrc: repair
            .flexfec
            .map(|_| *sources.flexfec.get_or_insert_with(&mut *new_ssrc)),
        msid: format!(
            "slot-{}",
            sources.stream.get_or_insert_with(|| free_stream(kind))
        ),
        extensions: extensions.send,
    });
    Ok(Accepted {
        section: Section {
            index: line.name.index,
            mid,
            kind,
            receive,
            send,
            payloads,
            repair,
            extmap_allow_mixed: line.extmap_allow_mixed,
            rtcp_rsize: line.rtcp_rsize,
        },
        formats,
        extmaps: extensions.attributes,
        simulcast,
    })
}

fn supported_kind(line: &OfferedLine) -> Result<Kind, SdpError> {
    line.kind
        .filter(|_| PROFILES.contains(&line.proto.to_ascii_uppercase().as_str()))
        .ok_or_else(|| SdpError::UnsupportedMedia {
            line: line.name.clone(),
            proto: crate::api::quote(&line.proto),
        })
}
