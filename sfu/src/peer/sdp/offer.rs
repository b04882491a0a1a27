//! From the text of an offer to types. What is ill-formed beyond repair is refused here; what is
//! merely unknown is left out. Nothing is decided yet.

use super::MAX_SDP_BYTES;
use super::attribute::{integer, values, words};
use super::codec::OfferedPayload;
use super::extension::OfferedExtension;
use super::simulcast::OfferedRid;
use super::text::{Attribute, Description, Media};
use crate::api::{LineName, SdpError};
use crate::media::Kind;
use crate::negotiated::MAX_LINES;
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
    /// It has an `a=mid` that is none.
    pub(super) has_bad_mid: bool,
    /// `None` for what is neither audio nor video.
    pub(super) kind: Option<Kind>,
    pub(super) proto: String,
    /// The first of its formats, to be repeated when the m-line is not served.
    pub(super) first_format: String,
    /// What it says of that format.
    pub(super) first_format_attributes: Vec<Attribute>,
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
    /// Those are the encodings of one source, by `a=ssrc-group:SIM`.
    pub(super) is_sim_group: bool,
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
    pub(super) fn parse(text: &str) -> Result<Offer, SdpError> {
        if text.len() > MAX_SDP_BYTES {
            return Err(SdpError::TooLarge {
                bytes: text.len(),
                limit: MAX_SDP_BYTES,
            });
        }
        let sdp = Description::parse(text)?;
        if sdp.media.len() > MAX_LINES {
            return Err(SdpError::TooManyLines {
                lines: sdp.media.len(),
                limit: MAX_LINES,
            });
        }

        let session = Session::new(&sdp.attributes);
        let lines = sdp
            .media
            .iter()
            .enumerate()
            .map(|(index, media)| OfferedLine::parse(index, media, &session))
            .collect::<Result<Vec<_>, _>>()?;
        for (at, line) in lines.iter().enumerate() {
            let twin = |other: &&OfferedLine| other.name.mid == line.name.mid;
            if line.name.mid.is_some()
                && let Some(first) = lines.iter().take(at).find(twin)
            {
                return Err(SdpError::DuplicateMid {
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

impl Offer {
    /// Whether an m-line shares the transport of the BUNDLE group.
    pub(super) fn is_bundled(&self, line: &OfferedLine) -> bool {
        let mid = line.name.mid.as_deref().copied();
        mid.is_some_and(|mid| self.bundle.contains(&mid))
    }
}

/// What the session level says for every m-line.
struct Session {
    bundle: Vec<Mid>,
    ice_lite: bool,
    extmap_allow_mixed: bool,
    extensions: Vec<OfferedExtension>,
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
            extensions: extensions(attributes).collect(),
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
    fn parse(index: usize, media: &Media, session: &Session) -> Result<OfferedLine, SdpError> {
        let Media {
            formats,
            attributes,
            ..
        } = media;
        let offered_mid = values(attributes, "mid").next();
        let name = LineName {
            index,
            media: media.media.clone(),
            mid: offered_mid.and_then(mid).map(Box::new),
        };
        let too_many = |what, count, limit| {
            let line = name.clone();
            match count > limit {
                true => Err(SdpError::TooMany {
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
        let paired = pair_repairs(&ssrcs, attributes);
        let sim_group = sim_group(&paired, attributes);
        let (client_sends, client_receives) = direction(attributes).unwrap_or(session.direction);
        Ok(OfferedLine {
            kind: match name.media.to_ascii_lowercase().as_str() {
                "audio" => Some(Kind::Audio),
                "video" => Some(Kind::Video),
                _ => None,
            },
            has_bad_mid: offered_mid.is_some() && name.mid.is_none(),
            proto: media.proto.clone(),
            first_format: formats.first().cloned().unwrap_or_default(),
            first_format_attributes: first_format_attributes(formats, attributes),
            stopped: media.is_port_zero && !has(attributes, "bundle-only"),
            client_sends,
            client_receives,
            payloads: OfferedPayload::parse_all(formats, attributes),
            extensions: extensions(attributes)
                .chain(session.extensions.iter().copied())
                .collect(),
            extmap_allow_mixed: session.extmap_allow_mixed || has(attributes, "extmap-allow-mixed"),
            rids: values(attributes, "rid")
                .filter_map(OfferedRid::parse)
                .collect(),
            simulcast: values(attributes, "simulcast").next().map(str::to_owned),
            is_sim_group: sim_group.is_some(),
            ssrcs: sim_group.unwrap_or(paired),
            cname,
            rtcp_mux: has(attributes, "rtcp-mux"),
            rtcp_rsize: has(attributes, "rtcp-rsize"),
            transport: OfferedTransport::parse(attributes, &session.transport),
            name,
        })
    }
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

/// The header extensions that we understand, of one m-line or of all (RFC 8285 section 5).
fn extensions(attributes: &[Attribute]) -> impl Iterator<Item = OfferedExtension> {
    values(attributes, "extmap").filter_map(OfferedExtension::parse)
}

/// What an m-line says of the first of its formats: what it means (RFC 8866 section 6.6, RFC 8841
/// section 5.1), and with what parameters.
fn first_format_attributes(formats: &[String], attributes: &[Attribute]) -> Vec<Attribute> {
    let of_first = |attribute: &&Attribute| {
        let value = attribute.value.as_deref().unwrap_or_default();
        match attribute.key.as_str() {
            "rtpmap" | "fmtp" => words(value).next() == formats.first().map(String::as_str),
            "sctp-port" => true,
            _ => false,
        }
    };
    // One of each is all that means something.
    attributes
        .iter()
        .filter(of_first)
        .take(2)
        .cloned()
        .collect()
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

/// Of the announced SSRCs those that are simulcast encodings of one source, in the order of their
/// group: what clients wrote before there were rids.
fn sim_group(
    announced: &[(Ssrc, Option<Ssrc>)],
    attributes: &[Attribute],
) -> Option<Vec<(Ssrc, Option<Ssrc>)>> {
    let mut groups = values(attributes, "ssrc-group");
    let group = groups.find_map(|group| group.strip_prefix("SIM "))?;
    let mut encodings = Vec::new();
    for ssrc in words(group)
        .take(MAX_SSRCS)
        .filter_map(integer::<u32>)
        .map(Ssrc)
    {
        let found = announced.iter().find(|(media, _)| *media == ssrc);
        encodings.extend(found.filter(|found| !encodings.contains(*found)));
    }
    (encodings.len() > 1).then_some(encodings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
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
    fn a_sim_group_has_the_encodings_in_its_order() {
        let group = |lines: &[&str]| {
            let announced = [
                "ssrc:1 cname:x",
                "ssrc:2 cname:x",
                "ssrc:3 cname:x",
                "ssrc:4",
            ];
            let attributes = attributes(&[&announced[..], lines].concat());
            let (ssrcs, _) = sources(&attributes);
            sim_group(&pair_repairs(&ssrcs, &attributes), &attributes)
        };
        let plain = |ssrcs: &[u32]| Some(ssrcs.iter().map(|&s| (Ssrc(s), None)).collect());
        assert_eq!(group(&["ssrc-group:SIM 3 1 2"]), plain(&[3, 1, 2]));
        assert_eq!(
            group(&["ssrc-group:FID 1 4", "ssrc-group:SIM 1 2"]),
            Some(vec![(Ssrc(1), Some(Ssrc(4))), (Ssrc(2), None)])
        );
        // Neither of what was not announced, nor twice of the same, nor of one alone.
        assert_eq!(group(&["ssrc-group:SIM 9 1 1 2 x"]), plain(&[1, 2]));
        for none in [
            "ssrc-group:SIM 1",
            "ssrc-group:SIM 1 9",
            "ssrc-group:SIM",
            "x",
        ] {
            assert_eq!(group(&[none]), None, "{none}");
        }
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
        assert_eq!(mid(&"m".repeat(64)).unwrap().as_str().len(), 64);
        for bad in ["", "a b", "a;b", "a/b", "é", &"m".repeat(65)] {
            assert_eq!(mid(bad), None, "{bad}");
        }
    }
}
