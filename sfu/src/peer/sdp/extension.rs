//! Which header extensions an m-line agrees on (RFC 8285): the client's ids, each direction apart,
//! because a client may say that it only sends or only reads one.
//!
//! The answer keeps every extension that browsers offer by themselves, whether or not the m-line has a
//! use for it now: Chromium (143 to 156 at least) offers on a new m-line what the last answer had on the
//! first m-line of its kind, and on an m-line what the answer had there. Without `rid` in the answers to
//! slots, or to a camera that is off, it could not send simulcast afterwards. And what is left out gives
//! its id to another extension of a later offer, which Chromium 148 has refused to apply.

use super::attribute::{integer, words};
use crate::media::{Extension, ExtensionMap, Kind};

/// Highest id of the one-byte form (RFC 8285 section 4.2).
const MAX_ONE_BYTE_ID: u8 = 14;
/// The id that the one-byte form reserves, so that it is of no use in a mixed stream either.
const RESERVED_ID: u8 = 15;

/// One `a=extmap` that we understand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OfferedExtension {
    id: u8,
    extension: Extension,
    client_sends: bool,
    client_reads: bool,
}

/// What the packets of an m-line can carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// Header extensions of the two-byte form.
    pub(super) allows_mixed: bool,
    /// The name of the m-line.
    pub(super) says_mid: bool,
    /// The client sends packets.
    pub(super) receives: bool,
    pub(super) sends: bool,
}

/// What the m-line agrees on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Extensions {
    /// On packets from the client.
    pub(super) receive: ExtensionMap,
    /// On packets to the client.
    pub(super) send: ExtensionMap,
    /// The values of the answer's `a=extmap`.
    pub(super) attributes: Vec<String>,
    /// What the client sends, now or later, can say which encoding it is of.
    pub(super) names_encodings: bool,
}

impl OfferedExtension {
    /// From the value of `a=extmap`. `None` for an unknown extension or an id that no packet can
    /// have: 0, 15, or one of the range above 255 that only numbers alternatives.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = words(value);
        let (number, uri) = (words.next()?, words.next()?);
        let (id, direction) = number.split_once('/').unwrap_or((number, "sendrecv"));
        let id = integer(id).filter(|&id| id != 0 && id != RESERVED_ID)?;
        let (client_sends, client_reads) = match direction {
            "sendrecv" => (true, true),
            "sendonly" => (true, false),
            "recvonly" => (false, true),
            _ => return None,
        };
        Some(OfferedExtension {
            id,
            extension: Extension::from_uri(uri)?,
            client_sends,
            client_reads,
        })
    }
}

impl Extensions {
    /// Answers the extensions of one m-line. Of two with the same id or the same meaning, the
    /// first counts.
    pub(super) fn negotiate(kind: Kind, offered: &[OfferedExtension], carried: Carried) -> Self {
        let mut agreed = Extensions::default();
        let mut seen = ExtensionMap::default();
        for offer in offered {
            let OfferedExtension {
                id,
                extension,
                client_sends,
                client_reads,
            } = *offer;
            if seen.id(extension).is_some() || seen.extension(id).is_some() {
                continue;
            }
            seen.set(extension, id);
            if !belongs_to(extension, kind) || (id > MAX_ONE_BYTE_ID && !carried.allows_mixed) {
                continue;
            }
            agreed.names_encodings |= extension == Extension::Rid && client_sends;
            let receives = carried.receives && client_sends;
            let sends = carried.sends && client_reads;
            if receives {
                agreed.receive.set(extension, id);
            }
            if sends && is_sent(extension, carried) {
                agreed.send.set(extension, id);
            }
            let direction = match (client_sends, client_reads) {
                // That of the m-line, whatever it is now or will be.
                (true, true) => "",
                (true, false) if receives => "/recvonly",
                (false, true) if sends => "/sendonly",
                _ => continue,
            };
            agreed
                .attributes
                .push(format!("{id}{direction} {}", extension.uri()));
        }
        agreed
    }
}

fn belongs_to(extension: Extension, kind: Kind) -> bool {
    match extension {
        Extension::Mid
        | Extension::TransportSequence
        | Extension::AbsSendTime
        | Extension::AbsCaptureTime
        | Extension::TransmissionOffset => true,
        Extension::AudioLevel => kind == Kind::Audio,
        Extension::Rid
        | Extension::RepairedRid
        | Extension::VideoOrientation
        | Extension::PlayoutDelay
        | Extension::DependencyDescriptor
        | Extension::VideoContentType
        | Extension::VideoTiming
        | Extension::ColorSpace
        | Extension::VideoLayersAllocation => kind == Kind::Video,
    }
}

/// Whether our packets have it where it was agreed on. A slot shows one stream, known by its SSRC:
/// there is nothing for a `rid` to tell apart. What is not read cannot be sent on.
fn is_sent(extension: Extension, carried: Carried) -> bool {
    match extension {
        Extension::Rid
        | Extension::RepairedRid
        | Extension::TransmissionOffset
        | Extension::VideoContentType
        | Extension::VideoTiming
        | Extension::ColorSpace
        | Extension::VideoLayersAllocation => false,
        Extension::Mid => carried.says_mid,
        _ => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    const DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

    fn video(lines: &[String], allows_mixed: bool, receives: bool, sends: bool) -> Extensions {
        let carried = Carried {
            allows_mixed,
            says_mid: true,
            receives,
            sends,
        };
        negotiate(lines, carried)
    }

    fn negotiate(lines: &[String], carried: Carried) -> Extensions {
        let offered: Vec<_> = lines
            .iter()
            .filter_map(|l| OfferedExtension::parse(l))
            .collect();
        Extensions::negotiate(Kind::Video, &offered, carried)
    }

    #[test]
    fn directions_are_reversed_and_what_has_none_is_kept() {
        // offered, we receive, we send, answered
        let cases = [
            (format!("4 {MID}"), true, true, Some(format!("4 {MID}"))),
            (format!("4 {MID}"), true, false, Some(format!("4 {MID}"))),
            (format!("4 {MID}"), false, true, Some(format!("4 {MID}"))),
            (format!("4 {MID}"), false, false, Some(format!("4 {MID}"))),
            (
                format!("6/recvonly {DELAY}"),
                true,
                true,
                Some(format!("6/sendonly {DELAY}")),
            ),
            (format!("6/recvonly {DELAY}"), true, false, None),
            (
                format!("6/sendonly {DELAY}"),
                true,
                false,
                Some(format!("6/recvonly {DELAY}")),
            ),
            (format!("6/sendonly {DELAY}"), false, true, None),
            (format!("6/inactive {DELAY}"), true, true, None),
            (
                format!("9/sendonly {RID}"),
                true,
                true,
                Some(format!("9/recvonly {RID}")),
            ),
            (format!("9 {RID}"), true, true, Some(format!("9 {RID}"))),
            (format!("9 {RID}"), true, false, Some(format!("9 {RID}"))),
            (format!("9 {RID}"), false, true, Some(format!("9 {RID}"))),
            (format!("9 {RID}"), false, false, Some(format!("9 {RID}"))),
            (format!("1 {LEVEL}"), true, true, None),
        ];
        for (offered, receive, send, answered) in cases {
            let agreed = video(std::slice::from_ref(&offered), false, receive, send);
            assert_eq!(agreed.attributes.first(), answered.as_ref(), "{offered}");
        }
    }

    #[test]
    fn each_direction_has_its_own_map() {
        let agreed = video(
            &[
                format!("4 {MID}"),
                format!("9/sendonly {RID}"),
                format!("6/recvonly {DELAY}"),
            ],
            false,
            true,
            true,
        );
        assert_eq!(agreed.receive.id(Extension::Mid), Some(4));
        assert_eq!(agreed.receive.id(Extension::Rid), Some(9));
        assert_eq!(agreed.receive.id(Extension::PlayoutDelay), None);
        assert_eq!(agreed.send.id(Extension::Mid), Some(4));
        assert_eq!(agreed.send.id(Extension::Rid), None);
        assert_eq!(agreed.send.id(Extension::PlayoutDelay), Some(6));
    }

    #[test]
    fn a_slot_agrees_on_rid_and_never_sends_it() {
        let agreed = video(
            &[format!("9 {RID}"), format!("4 {MID}")],
            false,
            false,
            true,
        );
        assert_eq!(agreed.attributes.len(), 2);
        assert_eq!(
            agreed.send.iter().collect::<Vec<_>>(),
            [(Extension::Mid, 4)]
        );
    }

    #[test]
    fn a_name_that_does_not_fit_is_agreed_on_and_not_sent() {
        let carried = Carried {
            allows_mixed: false,
            says_mid: false,
            receives: true,
            sends: true,
        };
        let agreed = negotiate(&[format!("4 {MID}")], carried);
        assert_eq!(agreed.attributes, [format!("4 {MID}")]);
        assert_eq!(agreed.receive.id(Extension::Mid), Some(4));
        assert_eq!(agreed.send.id(Extension::Mid), None);
    }

    #[test]
    fn useless_and_repeated_ids_are_dropped() {
        for bad in ["0", "15", "256", "4096", "-1", "04", "x", ""] {
            assert_eq!(
                OfferedExtension::parse(&format!("{bad} {MID}")),
                None,
                "{bad}"
            );
        }
        let agreed = video(
            &[format!("4 {MID}"), format!("4 {RID}"), format!("5 {MID}")],
            false,
            true,
            false,
        );
        assert_eq!(
            agreed.receive.iter().collect::<Vec<_>>(),
            [(Extension::Mid, 4)]
        );
    }

    #[test]
    fn ids_of_the_two_byte_form_need_mixed_streams() {
        let offered = [format!("16 {MID}")];
        assert_eq!(video(&offered, false, true, true).attributes.len(), 0);
        assert_eq!(
            video(&offered, true, true, true).send.id(Extension::Mid),
            Some(16)
        );
    }
}
