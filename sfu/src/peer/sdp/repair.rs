//! Which means of repair beside retransmission an m-line agrees on: RED (RFC 2198), ULPFEC within it
//! (RFC 5109), FlexFEC-03.
//!
//! In: the payload types offered, and the codecs agreed on. Out: [`RepairFormats`], and how the
//! answer writes each.

use super::attribute::integer;
use super::codec::{Format, OfferedPayload};
use crate::media::{Codec, Kind, PayloadMap, RepairFormats};

/// The clock of video, and of what repairs it.
const VIDEO_CLOCK: u32 = 90_000;

/// Opus is always said to have two (RFC 7587 section 7).
const OPUS_CHANNELS: u8 = 2;

/// How long a FlexFEC sender may take over one repair packet, microseconds: what Chromium says.
const REPAIR_WINDOW: &str = "repair-window=10000000";

/// Agrees on the means of repair that the client offers and that have something to repair.
pub(super) fn negotiate(
    kind: Kind,
    offered: &[OfferedPayload],
    codecs: &[PayloadMap],
) -> RepairFormats {
    match kind {
        Kind::Audio => RepairFormats {
            red: offered
                .iter()
                .find(|payload| codecs.iter().any(|codec| is_red_of(payload, codec)))
                .map(|payload| payload.payload_type),
            ..RepairFormats::default()
        },
        Kind::Video => {
            let find = |name| {
                offered
                    .iter()
                    .find(|p| p.name == name && p.clock_rate == VIDEO_CLOCK)
                    .map(|p| p.payload_type)
            };
            // Neither is of use without the other: RED alone would only make packets longer.
            let (red, ulpfec) = find("red").zip(find("ulpfec")).unzip();
            let red_rtx = red.and_then(|red| {
                let repairs = offered.iter().filter(|p| p.clock_rate == VIDEO_CLOCK);
                let mut repairs = repairs.filter(|p| p.retransmits() == Some(red));
                Some(repairs.next()?.payload_type)
            });
            RepairFormats {
                red,
                red_rtx,
                ulpfec,
                flexfec: find("flexfec-03"),
            }
        }
    }
}

/// Whether a payload type is RED that carries a codec and nothing else: `111/111` (RFC 2198
/// section 5).
fn is_red_of(payload: &OfferedPayload, codec: &PayloadMap) -> bool {
    let mut blocks = payload.fmtp.split('/').map(integer::<u8>);
    payload.name == "red"
        && codec.codec == Codec::Opus
        && (payload.clock_rate, payload.channels) == (codec.codec.clock_rate(), OPUS_CHANNELS)
        && blocks.all(|block| block == Some(codec.payload_type))
}

/// How the answer writes a payload type, if it was agreed on.
pub(super) fn format(
    agreed: &RepairFormats,
    kind: Kind,
    payload: &OfferedPayload,
) -> Option<Format> {
    let payload_type = payload.payload_type;
    let is = |agreed: Option<u8>| agreed == Some(payload_type);
    let (rtpmap, fmtp) = if is(agreed.red) {
        match kind {
            // Asked for one old block beside the new one, clients decide for themselves all the same.
            Kind::Audio => ("red/48000/2", payload.fmtp.clone()),
            Kind::Video => ("red/90000", String::new()),
        }
    } else if is(agreed.red_rtx) {
        ("rtx/90000", format!("apt={}", agreed.red?))
    } else if is(agreed.ulpfec) {
        ("ulpfec/90000", String::new())
    } else if is(agreed.flexfec) {
        ("flexfec-03/90000", REPAIR_WINDOW.into())
    } else {
        return None;
    };
    let feedback = match is(agreed.flexfec) {
        true => payload.feedback.accepted(kind).values(),
        false => Vec::new(),
    };
    Some(Format {
        payload_type,
        rtpmap: rtpmap.into(),
        fmtp,
        feedback,
    })
}
