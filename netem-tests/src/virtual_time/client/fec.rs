//! The FEC that a browser sends with its pictures: ULPFEC in RED, after libwebrtc's `UlpfecGenerator`.
//!
//! In: the packets of a picture, and the loss that the server reports. Out: the same packets in RED, and
//! behind them those that protect them.

use confab_sfu::inside::rtp::extension::HeaderExtensions;
use confab_sfu::inside::rtp::fec::{Mask, Parity, ulpfec};
use confab_sfu::inside::rtp::packet::HeaderFields;

use super::sdp::{RED, ULPFEC};
use super::send::{Outgoing, packet_buffer};

/// FEC packets for each packet and share of loss: about what libwebrtc's table comes to for pictures of
/// four packets.
const PER_LOSS: f64 = 2.0;

/// Puts a picture into RED, and adds its protection. Returns how many packets that has.
pub(super) fn protect(picture: &mut Vec<Outgoing>, loss: f64) -> u64 {
    let packets = picture.len().min(ulpfec::MAX_SPAN);
    let rows = ((PER_LOSS * loss * packets as f64).round() as usize).min(packets);
    let Some(last) = picture.last().cloned() else {
        return 0;
    };
    let base = picture[0].fields.sequence;
    let repair: Vec<Outgoing> = (0..rows)
        .filter_map(|row| {
            let (mut mask, mut parity) = (Mask::default(), Parity::default());
            for at in (row..packets).step_by(rows) {
                let mut buffer = packet_buffer();
                let len = picture[at].write(0, &mut buffer);
                parity.add(&buffer[..len]);
                mask.insert(at);
            }
            let mut buffer = packet_buffer();
            let len = ulpfec::write(&mut buffer, base, mask, &parity)?;
            Some(Outgoing {
                fields: HeaderFields {
                    marker: false,
                    payload_type: RED,
                    sequence: last.fields.sequence.wrapping_add(row as u16 + 1),
                    ..last.fields
                },
                extensions: HeaderExtensions {
                    rid: last.extensions.rid,
                    ..HeaderExtensions::default()
                },
                payload: [&[ULPFEC], &buffer[..len]].concat(),
                ..last.clone()
            })
        })
        .collect();
    for packet in picture.iter_mut() {
        packet.payload.insert(0, packet.fields.payload_type);
        packet.fields.payload_type = RED;
    }
    let count = repair.len() as u64;
    picture.extend(repair);
    count
}
