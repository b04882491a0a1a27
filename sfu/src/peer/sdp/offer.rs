//! From the text of an offer to types. What is ill-formed beyond repair is refused here; what is
//! merely unknown is left out. Nothing is decided yet.

use std::io::Cursor;
use std::str::FromStr;

use rtc_sdp::SessionDescription;
use rtc_sdp::description::common::Attribute;
use rtc_sdp::description::media::MediaDescription;

use super::codec::OfferedPayload;
use super::error::{LineName, OfferError, quote};
use super::extension::OfferedExtension;
use super::simulcast::OfferedRid;
use super::{MAX_LINES, MAX_SDP_BYTES};
use crate::media::Kind;
use crate::peer::dtls::Fingerprint;
use crate::types::{Mid, Ssrc};

/// Most payload types of one m-line: as many as there are.
const MAX_PAYLOADS: usize = 128;
/// Most SSRCs of one m-line: those of [`MAX_RIDS`] encodings with a repair stream each.
const MAX_SSRCS: usize = 2 * MAX_RIDS;
/// Most `a=rid` of one m-line, several times what any client sends.
const MAX_RIDS: usize = 16;
/// Most fingerprints in one place: a few certificates under every hash.
const MAX_FINGERPRINTS: usize = 16;
/// Longest `cname` that is kept, in bytes: what an SDES item holds (RFC 3550 section 6.5).
const MAX_CNAME: usize = 255;

/// A whole offer.
#[derive(Debug)]
pub(super) struct Offer {
    /// The m-lines of the first BUNDLE group, in its order.
    pub(super) bundle: Vec<Mid>,
    pub(super) ice_lite: bool,
    pub(super) lines: Vec<OfferedLine>,
}

/// One m-line as offered. A stopped one has a name and nothing else worth reading.
#[derive(Debug)]
pub(super) struct OfferedLine {
    pub(super) name: LineName,
    /// `None` for what is neither audio nor video.
    pub(super) kind: Option<Kind>,
    pub(super) proto: String,
    /// The first of its formats, to be repeated when the m-line is rejected.
    pub(super) first_format: String,
    /// Port 0 without `a=bundle-only` (RFC 8843 section 6).
    pub(super) stopped: bool,
    pub(super) client_sends: bool,
    pub(super) client_receives: bool,
    pub(super) payloads: Vec<OfferedPayload>,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) extmap_allow_mixed: bool,
    pub(super) rids: Vec<OfferedRid>,
    pub(super) simulcast: Option<String>,
    /// Each SSRC with that of its retransmissions (RFC 4588 section 8.3, RFC 5576).
    pub(super) ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
    pub(super) cname: Option<String>,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) transport: OfferedTransport,
}

/// The transport attributes of an m-line, those of the session filled in.
#[derive(Clone, Debug, Default)]
pub(super) struct OfferedTransport {
    pub(super) ufrag: Option<String>,
    pub(super) pwd: Option<String>,
    pub(super) setup: Option<String>,
    pub(super) fingerprints: Vec<Fingerprint>,
}

impl Offer {
    pub(super) fn parse(text: &str) -> Result<Offer, OfferError> {
        if text.len() > MAX_SDP_BYTES {
            return Err(OfferError::TooLarge {
                bytes: text.len(),
                limit: MAX_SDP_BYTES,
            });
        }
        let sdp = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|error| OfferError::Syntax(quote(complaint(&error.to_string()))))?;
        if sdp.media_descriptions.len() > MAX_LINES {
            return Err(OfferError::TooManyLines {
                lines: sdp.media_descriptions.len(),
                limit: MAX_LINES,
            });
        }

        let session = Session::new(&sdp.attributes);
        let lines = sdp
            .media_descriptions
            .iter()
            .enumerate()
            .map(|(index, media)| OfferedLine::parse(index, media, &session))
            .collect::<Result<Vec<_>, _>>()?;
        for (at, line) in lines.iter().enumerate() {
            let twin = |other: &&OfferedLine| other.name.mid == line.name.mid;
            if line.name.mid.is_some()
                && let Some(first) = lines[..at].iter().find(twin)
            {
                return Err(OfferError::DuplicateMid {
                    line: line.name.clone(),
                    first: first.name.index,
                });
            }
        }
        Ok(Offer {
            bundle: session.bundle,
            ice_lite: session.ice_lite,
            lines,
        })
    }
}

/// What the session level says for every m-line.
struct Session {
    bundle: Vec<Mid>,
    ice_lite: bool,
    extmap_allow_mixed: bool,
    direction: (bool, bool),
    transport: OfferedTransport,
}

impl Session {
    fn new(attributes: &[Attribute]) -> Self {
        let mut bundle = Vec::new();
        let group = values(attributes, "group").find_map(|group| group.strip_prefix("BUNDLE "));
        for mid in words(group.unwrap_or_default()).take(MAX_LINES) {
            if let Ok(mid) = Mid::new(mid)
                && !bundle.contains(&mid)
            {
                bundle.push(mid);
            }
        }
        Session {
            bundle,
            ice_lite: has(attributes, "ice-lite"),
            extmap_allow_mixed: has(attributes, "extmap-allow-mixed"),
            direction: direction(attributes).unwrap_or((true, true)),
            transport: OfferedTransport::parse(attributes, &OfferedTransport::default()),
        }
    }
}

impl OfferedTransport {
    fn parse(attributes: &[Attribute], session: &OfferedTransport) -> Self {
        let one = |key, default: &Option<String>| {
            let value = values(attributes, key).next();
            value.map(str::to_owned).or_else(|| default.clone())
        };
        let mut fingerprints: Vec<_> = values(attributes, "fingerprint")
            .take(MAX_FINGERPRINTS)
            .filter_map(|value| value.parse::<Fingerprint>().ok())
            .collect();
        if !has(attributes, "fingerprint") {
            fingerprints.clone_from(&session.fingerprints);
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        OfferedTransport {
            ufrag: one("ice-ufrag", &session.ufrag),
            pwd: one("ice-pwd", &session.pwd),
            setup: one("setup", &session.setup),
            fingerprints,
        }
    }
}

impl OfferedLine {
    fn parse(
        index: usize,
        media: &MediaDescription,
        session: &Session,
    ) -> Result<OfferedLine, OfferError> {
        let attributes = &media.attributes;
        let name = LineName {
            index,
            media: media.media_name.media.clone(),
            mid: values(attributes, "mid").next().and_then(mid),
        };
        let formats = &media.media_name.formats;
        let too_many = |what, count, limit| {
            let line = name.clone();
            match count > limit {
                true => Err(OfferError::TooMany {
                    line,
                    what,
                    count,
                    limit,
                }),
                false => Ok(()),
            }
        };
        too_many("payload types", formats.len(), MAX_PAYLOADS)?;
        too_many("rids", values(attributes, "rid").count(), MAX_RIDS)?;

        let (ssrcs, cname) = sources(attributes);
        too_many("SSRCs", ssrcs.len(), MAX_SSRCS)?;
        let (client_sends, client_receives) = direction(attributes).unwrap_or(session.direction);
        Ok(OfferedLine {
            kind: match name.media.as_str() {
                "audio" => Some(Kind::Audio),
                "video" => Some(Kind::Video),
                _ => None,
            },
            proto: media.media_name.protos.join("/"),
            first_format: formats.first().cloned().unwrap_or_default(),
            stopped: media.media_name.port.value == 0 && !has(attributes, "bundle-only"),
            client_sends,
            client_receives,
            payloads: OfferedPayload::parse_all(formats, attributes),
            extensions: values(attributes, "extmap")
                .filter_map(OfferedExtension::parse)
                .collect(),
            extmap_allow_mixed: session.extmap_allow_mixed || has(attributes, "extmap-allow-mixed"),
            rids: values(attributes, "rid")
                .filter_map(OfferedRid::parse)
                .collect(),
            simulcast: values(attributes, "simulcast").next().map(str::to_owned),
            ssrcs: pair_repairs(&ssrcs, attributes),
            cname,
            rtcp_mux: has(attributes, "rtcp-mux"),
            rtcp_rsize: has(attributes, "rtcp-rsize"),
            transport: OfferedTransport::parse(attributes, &session.transport),
            name,
        })
    }
}

/// The values of the attributes of that name.
pub(super) fn values<'a>(
    attributes: &'a [Attribute],
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
        .map(str::trim)
}

/// The words of a value. Only spaces part them (RFC 8866 section 9).
pub(super) fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(' ').filter(|word| !word.is_empty())
}

/// A number as SDP writes it: no sign, no leading zeros (RFC 8866 section 9, `integer`).
pub(super) fn integer<T: FromStr>(text: &str) -> Option<T> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok())?
}

fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key == key)
}

/// A mid is a token (RFC 5888 section 4), and we repeat it within others.
fn mid(value: &str) -> Option<Mid> {
    let separator = |b: u8| b"\"(),/:;<=>?@[\\]".contains(&b);
    Mid::new(value)
        .ok()
        .filter(|mid| !mid.as_bytes().iter().any(|&b| separator(b)))
}

/// Whether the client sends and whether it receives (RFC 8866 section 6.7), if it says so.
fn direction(attributes: &[Attribute]) -> Option<(bool, bool)> {
    attributes
        .iter()
        .find_map(|attribute| match attribute.key.as_str() {
            "sendrecv" => Some((true, true)),
            "sendonly" => Some((true, false)),
            "recvonly" => Some((false, true)),
            "inactive" => Some((false, false)),
            _ => None,
        })
}

/// The SSRCs in the order of their first `a=ssrc`, one more than accepted at most, and the cname.
fn sources(attributes: &[Attribute]) -> (Vec<Ssrc>, Option<String>) {
    let mut ssrcs = Vec::new();
    let mut cname = None;
    for value in values(attributes, "ssrc") {
        let (number, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let Some(ssrc) = integer(number).map(Ssrc) else {
            continue;
        };
        if !ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
        if ssrcs.len() > MAX_SSRCS {
            break;
        }
        if let Some(name) = attribute.trim().strip_prefix("cname:")
            && name.len() <= MAX_CNAME
        {
            cname.get_or_insert_with(|| name.to_owned());
        }
    }
    (ssrcs, cname)
}

/// Puts each repair SSRC beside the one it repairs. An SSRC that repairs by other means (FEC) is
/// left out, since we accept none of those.
fn pair_repairs(ssrcs: &[Ssrc], attributes: &[Attribute]) -> Vec<(Ssrc, Option<Ssrc>)> {
    let groups: Vec<(&str, Ssrc, Ssrc)> = values(attributes, "ssrc-group")
        .take(MAX_SSRCS)
        .filter_map(|group| {
            let mut words = words(group);
            let semantics = words
                .next()
                .filter(|&s| s == "FID" || s.starts_with("FEC"))?;
            let mut next = || integer(words.next()?).map(Ssrc);
            Some((semantics, next()?, next()?))
        })
        .filter(|(_, media, repair)| media != repair)
        .collect();
    ssrcs
        .iter()
        .filter(|&ssrc| !groups.iter().any(|(_, _, repair)| repair == ssrc))
        .map(|&ssrc| {
            let rtx = groups
                .iter()
                .find(|(semantics, media, repair)| {
                    *semantics == "FID" && *media == ssrc && ssrcs.contains(repair)
                })
                .map(|&(_, _, repair)| repair);
            (ssrc, rtx)
        })
        .collect()
}

/// What the parser stopped at: its errors have a name of the parser's own before it.
fn complaint(error: &str) -> &str {
    error.split_once(": ").map_or(error, |(_, what)| what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn attributes(lines: &[&str]) -> Vec<Attribute> {
        lines
            .iter()
            .map(|line| match line.split_once(':') {
                Some((key, value)) => Attribute::new(key.into(), Some(value.into())),
                None => Attribute::new((*line).into(), None),
            })
            .collect()
    }

    #[test]
    fn repair_ssrcs_are_paired_and_fec_left_out() {
        let attributes = attributes(&[
            "ssrc-group:FID 1 2",
            "ssrc-group:FEC-FR 1 3",
            "ssrc-group:FID 4 5",
            "ssrc-group:FID 6 6",
            "ssrc-group:FID x",
            "ssrc:1 cname:alice",
            "ssrc:1 msid:a b",
            "ssrc:2 cname:alice",
            "ssrc:3 cname:alice",
            "ssrc:4 cname:alice",
            "ssrc:6",
            "ssrc:4294967296 cname:overflow",
        ]);
        let (ssrcs, cname) = sources(&attributes);
        assert_eq!(cname.as_deref(), Some("alice"));
        assert_eq!(
            pair_repairs(&ssrcs, &attributes),
            // 5 was never announced, so it is no repair of 4.
            [(Ssrc(1), Some(Ssrc(2))), (Ssrc(4), None), (Ssrc(6), None)]
        );
    }

    #[test]
    fn the_media_level_wins_over_the_session_level() {
        let digest = |byte: &str| format!("fingerprint:sha-256 {}", [byte; 32].join(":"));
        let session = OfferedTransport::parse(
            &attributes(&["ice-ufrag:session", "setup:actpass", &digest("AA")]),
            &OfferedTransport::default(),
        );
        let media =
            OfferedTransport::parse(&attributes(&["ice-ufrag:media", &digest("BB")]), &session);
        assert_eq!(media.ufrag.as_deref(), Some("media"));
        assert_eq!(media.setup.as_deref(), Some("actpass"));
        assert_eq!(media.fingerprints.len(), 1);
        assert_eq!(
            Ok(media.fingerprints[0].clone()),
            digest("BB")["fingerprint:".len()..].parse()
        );
    }

    #[test]
    fn integers_are_written_one_way() {
        assert_eq!(integer::<u8>("0"), Some(0));
        assert_eq!(integer::<u8>("255"), Some(255));
        for bad in ["", "+1", "-1", "01", "00", "256", "1 ", "x"] {
            assert_eq!(integer::<u8>(bad), None, "{bad}");
        }
    }

    #[test]
    fn mids_are_tokens() {
        assert_eq!(mid("cam-1").unwrap().as_str(), "cam-1");
        for bad in ["", "a b", "a;b", "a/b", "seventeen-letters"] {
            assert_eq!(mid(bad), None, "{bad}");
        }
    }
}
