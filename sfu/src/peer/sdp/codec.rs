//! Which codecs an m-line agrees on, and under which payload types.

use super::attribute::{integer, values};
use super::repair;
use super::text::Attribute;
use crate::media::{Codec, KeyFrameRequest, Kind, PayloadMap, RepairFormats};
use crate::negotiated::H264Profile;

/// Payload types that collide with RTCP packet types when both share a port (RFC 5761 section 4).
const RTCP_CONFLICTS: std::ops::RangeInclusive<u8> = 64..=95;
const MAX_PAYLOAD_TYPE: u8 = 127;
/// Payload types that mean something without an `a=rtpmap` (RFC 3551 section 6, RFC 3389 section 4).
const STATIC: [(u8, &str); 4] = [
    (0, "PCMU/8000"),
    (8, "PCMA/8000"),
    (9, "G722/8000"),
    (13, "CN/8000"),
];
/// The events that are meant when `telephone-event` does not say which (RFC 4733 section 2.4.1).
const DEFAULT_EVENTS: &str = "0-15";
/// Longest list of events that is repeated: every number there is, one by one.
const MAX_EVENTS_LEN: usize = 1024;
/// What is inferred when H.265 comes without parameters: main profile, main tier, a single stream, in
/// the order of decoding (RFC 7798 section 7.1).
const H265_DEFAULT_PROFILE: u8 = 1;
const H265_MAX_PROFILE: u8 = 31;
const H265_SINGLE_STREAM: &str = "SRST";
/// What is inferred when H.264 comes without `profile-level-id`: baseline, level 1
/// (RFC 6184 section 8.1).
const H264_DEFAULT_PROFILE: (u8, u8, u8) = (0x42, 0x00, 0x0a);

/// One payload type of an offered m-line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfferedPayload {
    pub(super) payload_type: u8,
    /// The encoding name in lower case. Empty without an `a=rtpmap`.
    pub(super) name: String,
    pub(super) clock_rate: u32,
    pub(super) channels: u8,
    /// The channels as the client spells them, for the answer: `/2`, or empty.
    channels_spelling: &'static str,
    pub(super) fmtp: String,
    pub(super) feedback: Feedback,
}

/// The feedback messages of one payload type that we know (RFC 4585, RFC 5104).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Feedback {
    nack: bool,
    pli: bool,
    fir: bool,
    transport_cc: bool,
    remb: bool,
}

/// What the m-line agrees on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Codecs {
    pub(super) payloads: Vec<PayloadMap>,
    pub(super) repair: RepairFormats,
    /// The formats of the answer, those of repair among them, in the client's order; but RED of audio
    /// comes first, for Chromium only sends it then.
    pub(super) formats: Vec<Format>,
}

/// One format as the answer writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    /// `VP8/90000`
    pub(super) rtpmap: String,
    pub(super) fmtp: String,
    pub(super) feedback: Vec<&'static str>,
}

impl OfferedPayload {
    /// The usable payload types of an m-line, in its order, with what the attributes say of each.
    pub(super) fn parse_all(formats: &[String], attributes: &[Attribute]) -> Vec<Self> {
        let mut payloads: Vec<OfferedPayload> = Vec::new();
        // Attributes may be many: each finds its payload through this table.
        let mut places = [None; MAX_PAYLOAD_TYPE as usize + 1];
        for format in formats {
            let Some(payload_type) = integer::<u8>(format) else {
                continue;
            };
            if payload_type > MAX_PAYLOAD_TYPE || RTCP_CONFLICTS.contains(&payload_type) {
                continue;
            }
            let place = places.get_mut(usize::from(payload_type));
            if let Some(place) = place.filter(|place| place.is_none()) {
                *place = Some(payloads.len());
                payloads.push(OfferedPayload {
                    payload_type,
                    name: String::new(),
                    clock_rate: 0,
                    channels: 1,
                    channels_spelling: "",
                    fmtp: String::new(),
                    feedback: Feedback::default(),
                });
            }
        }
        let place = |number: &str| *places.get(integer::<usize>(number)?)?;

        for (payload, value) in lines(attributes, "rtpmap") {
            if let Some(payload) = place(payload).and_then(|at| payloads.get_mut(at)) {
                payload.set_rtpmap(value);
            }
        }
        for payload in payloads.iter_mut().filter(|p| p.name.is_empty()) {
            let meant = STATIC.iter().find(|(pt, _)| *pt == payload.payload_type);
            if let Some((_, rtpmap)) = meant {
                payload.set_rtpmap(rtpmap);
            }
        }
        for (payload, value) in lines(attributes, "fmtp") {
            if let Some(payload) = place(payload).and_then(|at| payloads.get_mut(at)) {
                value.clone_into(&mut payload.fmtp);
            }
        }
        for (payload, value) in lines(attributes, "rtcp-fb") {
            if payload == "*" {
                payloads
                    .iter_mut()
                    .for_each(|payload| payload.feedback.add(value));
            } else if let Some(payload) = place(payload).and_then(|at| payloads.get_mut(at)) {
                payload.feedback.add(value);
            }
        }
        payloads
    }

    /// `<name>/<clock rate>[/<channels>]`; one that does not read so stays without a name.
    fn set_rtpmap(&mut self, value: &str) {
        let mut parts = value.trim().split('/');
        let (Some(name), Some(clock_rate)) = (parts.next(), parts.next()) else {
            return;
        };
        let channels = parts.next().filter(|channels| !channels.is_empty());
        if let (Some(clock_rate), Some(number)) =
            (integer(clock_rate), integer(channels.unwrap_or("1")))
        {
            self.name = name.to_ascii_lowercase();
            self.clock_rate = clock_rate;
            self.channels = number;
            self.channels_spelling = match (channels, number) {
                (Some(_), 1) => "/1",
                (Some(_), 2) => "/2",
                _ => "",
            };
        }
    }

    /// The codec, if it is one that we forward. What repairs is named in `repair.rs`.
    fn codec(&self) -> Option<Codec> {
        let number = |name, default| match parameter(&self.fmtp, name) {
            Some(value) => integer(value),
            None => Some(default),
        };
        let codec = match self.name.as_str() {
            // Two channels always (RFC 7587 section 7), but cameras write one or none, and mean the same:
            // every decoder takes mono and stereo.
            "opus" if matches!(self.channels, 1 | 2) => Codec::Opus,
            "pcmu" if self.channels == 1 => Codec::Pcmu,
            "pcma" if self.channels == 1 => Codec::Pcma,
            "g722" if self.channels == 1 => Codec::G722,
            "telephone-event" if self.channels == 1 => Codec::TelephoneEvent {
                clock_rate: self.clock_rate,
            },
            "cn" if self.channels == 1 => Codec::ComfortNoise {
                clock_rate: self.clock_rate,
            },
            "vp8" => Codec::Vp8,
            "vp9" => Codec::Vp9 {
                profile: number("profile-id", 0).filter(|&profile| profile <= 3)?,
            },
            "av1" => Codec::Av1 {
                profile: number("profile", 0).filter(|&profile| profile <= 2)?,
            },
            "h264" => {
                let (idc, iop, _) = self.profile_level_id()?;
                let (profile_idc, profile_iop) = H264Profile::new(idc, iop)?.canonical();
                Codec::H264 {
                    profile_idc,
                    profile_iop,
                    packetization_mode: number("packetization-mode", 0)
                        .filter(|&mode| mode <= 1)?,
                }
            }
            "h265" => self.h265()?,
            _ => return None,
        };
        (codec.clock_rate() == self.clock_rate).then_some(codec)
    }

    /// H.265 as browsers have it (draft-ietf-avtcore-hevc-webrtc): units of one stream in the order of
    /// decoding, so that no payload carries a decoding order number.
    fn h265(&self) -> Option<Codec> {
        let number = |name, default: u8| match parameter(&self.fmtp, name) {
            Some(value) => integer(value),
            None => Some(default),
        };
        let mode = parameter(&self.fmtp, "tx-mode").unwrap_or(H265_SINGLE_STREAM);
        let is_plain = mode.eq_ignore_ascii_case(H265_SINGLE_STREAM)
            && parameter(&self.fmtp, "sprop-max-don-diff").is_none_or(|most| most == "0")
            && number("profile-space", 0)? == 0;
        Some(Codec::H265 {
            profile: number("profile-id", H265_DEFAULT_PROFILE)
                .filter(|&profile| is_plain && profile <= H265_MAX_PROFILE)?,
            is_high_tier: match number("tier-flag", 0)? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }

    /// The events that the client knows, if it says so as RFC 4733 section 2.4.1 has it.
    fn events(&self) -> &str {
        let is_list = |fmtp: &str| {
            let is_of_list = |byte: u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-');
            (1..=MAX_EVENTS_LEN).contains(&fmtp.len()) && fmtp.bytes().all(is_of_list)
        };
        Some(self.fmtp.trim())
            .filter(|fmtp| is_list(fmtp))
            .unwrap_or(DEFAULT_EVENTS)
    }

    fn profile_level_id(&self) -> Option<(u8, u8, u8)> {
        let Some(hex) = parameter(&self.fmtp, "profile-level-id") else {
            return Some(H264_DEFAULT_PROFILE);
        };
        if hex.len() != 6 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let [_, idc, iop, level] = u32::from_str_radix(hex, 16).ok()?.to_be_bytes();
        Some((idc, iop, level))
    }

    /// The payload type whose packets this one retransmits (RFC 4588 section 8.6).
    pub(super) fn retransmits(&self) -> Option<u8> {
        (self.name == "rtx").then(|| integer(parameter(&self.fmtp, "apt")?))?
    }

    /// The parameters we answer with: the codec's configuration repeated, and nothing that would
    /// limit what the client may send.
    fn answer_fmtp(&self, codec: Codec) -> String {
        let repeat = |names: &[&str]| {
            let numbers = names.iter().filter_map(|name| {
                let value: u16 = integer(parameter(&self.fmtp, name)?)?;
                Some(format!("{name}={value}"))
            });
            numbers.collect::<Vec<_>>().join(";")
        };
        match codec {
            // Stereo only from a client that has it to send (RFC 7587 section 6.1): asked for it,
            // others would spend the bits on two equal channels.
            Codec::Opus if parameter(&self.fmtp, "sprop-stereo") == Some("1") => {
                "minptime=10;useinbandfec=1;stereo=1".into()
            }
            Codec::Opus => "minptime=10;useinbandfec=1".into(),
            Codec::TelephoneEvent { .. } => self.events().to_owned(),
            Codec::Vp8 | Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::ComfortNoise { .. } => {
                String::new()
            }
            Codec::H265 { .. } => {
                let numbers = repeat(&["level-id", "profile-id", "tier-flag"]);
                let mode = parameter(&self.fmtp, "tx-mode").map(|_| "tx-mode=SRST");
                let numbers = Some(numbers.as_str()).filter(|numbers| !numbers.is_empty());
                let all = numbers.into_iter().chain(mode);
                all.collect::<Vec<_>>().join(";")
            }
            Codec::Vp9 { .. } => repeat(&["profile-id"]),
            Codec::Av1 { .. } => repeat(&["level-idx", "profile", "tier"]),
            Codec::H264 {
                packetization_mode, ..
            } => {
                let (idc, iop, level) = self.profile_level_id().unwrap_or(H264_DEFAULT_PROFILE);
                format!(
                    "level-asymmetry-allowed=1;packetization-mode={packetization_mode};\
                     profile-level-id={idc:02x}{iop:02x}{level:02x}"
                )
            }
        }
    }
}

impl Feedback {
    /// Adds one `a=rtcp-fb` value.
    fn add(&mut self, value: &str) {
        match value {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "transport-cc" => self.transport_cc = true,
            "goog-remb" => self.remb = true,
            _ => {}
        }
    }

    /// What is left of it for that kind.
    pub(super) fn accepted(self, kind: Kind) -> Feedback {
        let video = kind == Kind::Video;
        Feedback {
            pli: self.pli && video,
            fir: self.fir && video,
            remb: self.remb && video,
            ..self
        }
    }

    fn key_frames(self) -> Option<KeyFrameRequest> {
        let by_fir = self.fir.then_some(KeyFrameRequest::FullIntra);
        self.pli.then_some(KeyFrameRequest::PictureLoss).or(by_fir)
    }

    pub(super) fn values(self) -> Vec<&'static str> {
        let all = [
            (self.remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
            (self.fir, "ccm fir"),
            (self.nack, "nack"),
            (self.pli, "nack pli"),
        ];
        all.into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, value)| value)
            .collect()
    }
}

impl Codecs {
    /// Answers the payload types of one m-line. None are accepted where there is no codec that a track
    /// can be made of, and what goes with audio only beside audio of its clock.
    pub(super) fn negotiate(kind: Kind, offered: &[OfferedPayload]) -> Self {
        let mut agreed = Codecs::default();
        let repairs: Vec<_> = offered
            .iter()
            .filter_map(|repair| Some((repair.retransmits()?, repair)))
            .collect();
        let codecs: Vec<(&OfferedPayload, Codec)> = offered
            .iter()
            .filter_map(|payload| Some((payload, payload.codec()?)))
            .filter(|(_, codec)| codec.kind() == kind)
            .collect();
        let has_clock = |clock_rate| {
            let mut alone = codecs.iter().filter(|(_, codec)| codec.stands_alone());
            alone.any(|(_, codec)| codec.clock_rate() == clock_rate)
        };
        for &(payload, codec) in &codecs {
            if !codec.stands_alone() && !has_clock(codec.clock_rate()) {
                continue;
            }
            let feedback = payload.feedback.accepted(kind);
            let rtx = repairs.iter().find(|(repaired, repair)| {
                *repaired == payload.payload_type && repair.clock_rate == payload.clock_rate
            });
            agreed.payloads.push(PayloadMap {
                codec,
                payload_type: payload.payload_type,
                rtx_payload_type: rtx.map(|(_, rtx)| rtx.payload_type),
                nack: feedback.nack,
                transport_cc: feedback.transport_cc,
                remb: feedback.remb,
                key_frames: feedback.key_frames(),
            });
        }
        agreed.repair = repair::negotiate(kind, offered, &agreed.payloads);
        agreed.formats = offered
            .iter()
            .filter_map(|payload| agreed.format(payload, kind))
            .collect();
        if kind == Kind::Audio {
            let red = agreed.repair.red;
            agreed
                .formats
                .sort_by_key(|format| Some(format.payload_type) != red);
        }
        agreed
    }

    /// The answer's format for a payload type, if it was accepted.
    fn format(&self, payload: &OfferedPayload, kind: Kind) -> Option<Format> {
        let payload_type = payload.payload_type;
        let media = |map: &&PayloadMap| map.payload_type == payload_type;
        let rtx = |map: &&PayloadMap| map.rtx_payload_type == Some(payload_type);
        if let Some(PayloadMap { codec, .. }) = self.payloads.iter().find(media) {
            let channels = payload.channels_spelling;
            Some(Format {
                payload_type,
                rtpmap: format!("{codec}/{}{channels}", codec.clock_rate()),
                fmtp: payload.answer_fmtp(*codec),
                feedback: payload.feedback.accepted(kind).values(),
            })
        } else if let Some(repaired) = self.payloads.iter().find(rtx) {
            Some(Format {
                payload_type,
                rtpmap: format!("rtx/{}", payload.clock_rate),
                fmtp: format!("apt={}", repaired.payload_type),
                feedback: Vec::new(),
            })
        } else {
            repair::format(&self.repair, kind, payload)
        }
    }
}

/// The names of the codecs in an offer, for a sentence.
pub(super) fn names(offered: &[OfferedPayload]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for payload in offered {
        if !payload.name.is_empty() && !names.contains(&payload.name.as_str()) {
            names.push(&payload.name);
        }
    }
    match names.is_empty() {
        true => "no named codec".into(),
        false => names.join(", "),
    }
}

/// The names of the codecs we handle, for a sentence.
pub(super) fn handled(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "Opus, PCMU, PCMA, G722",
        Kind::Video => "VP8, VP9, H264 up to high profile, H265 in a single stream, AV1",
    }
}

/// The values of an attribute that starts with a payload type, split there.
fn lines<'a>(
    attributes: &'a [Attribute],
    key: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    values(attributes, key).filter_map(|value| value.split_once(' '))
}

/// A parameter of an `a=fmtp`.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    fn offered(formats: &str, attributes: &[&str]) -> Vec<OfferedPayload> {
        let formats: Vec<String> = formats.split(' ').map(str::to_owned).collect();
        let attributes: Vec<_> = attributes
            .iter()
            .map(|line| {
                let (key, value) = line.split_once(':').unwrap();
                Attribute::new(key.into(), Some(value.into()))
            })
            .collect();
        OfferedPayload::parse_all(&formats, &attributes)
    }

    fn h264(profile_level_id: &str, mode: u8) -> Option<Codec> {
        let fmtp = format!("fmtp:96 packetization-mode={mode};profile-level-id={profile_level_id}");
        offered("96", &["rtpmap:96 H264/90000", &fmtp])[0].codec()
    }

    #[test]
    fn static_payload_types_need_no_rtpmap_and_what_goes_with_sound_needs_its_clock() {
        let answer = |formats: &str, attributes: &[&str]| {
            let agreed = Codecs::negotiate(Kind::Audio, &offered(formats, attributes));
            let format = |f: Format| {
                let fmtp = Some(f.fmtp).filter(|fmtp| !fmtp.is_empty());
                let fmtp = fmtp.map_or(String::new(), |fmtp| format!(" {fmtp}"));
                format!("{} {}{fmtp}", f.payload_type, f.rtpmap)
            };
            agreed.formats.into_iter().map(format).collect::<Vec<_>>()
        };
        assert_eq!(
            answer(
                "8 0 9 13 18 101",
                &["rtpmap:8 PCMA/8000/1", "rtpmap:101 telephone-event/8000"]
            ),
            [
                "8 PCMA/8000/1",
                "0 PCMU/8000",
                "9 G722/8000",
                "13 CN/8000",
                "101 telephone-event/8000 0-15"
            ]
        );
        let events = [
            "rtpmap:110 telephone-event/48000",
            "fmtp:110 0-11,66",
            "rtpmap:126 telephone-event/8000",
        ];
        let with_opus = [&["rtpmap:111 opus/48000"][..], &events].concat();
        assert_eq!(
            answer("111 13 110 126", &with_opus),
            [
                "111 opus/48000 minptime=10;useinbandfec=1",
                "110 telephone-event/48000 0-11,66"
            ]
        );
        assert_eq!(answer("13 110 126", &events), [""; 0], "there is no sound");
        // A number is what its rtpmap says, and not what it would be without.
        assert_eq!(
            answer("0", &["rtpmap:0 opus/48000/2"]),
            ["0 opus/48000/2 minptime=10;useinbandfec=1"]
        );
    }

    fn h265(profile: u8, is_high_tier: bool) -> Option<Codec> {
        Some(Codec::H265 {
            profile,
            is_high_tier,
        })
    }

    #[test]
    fn codecs_are_told_by_name_clock_and_profile() {
        let cases = [
            ("opus/48000/2", "", Some(Codec::Opus)),
            ("OPUS/48000/2", "", Some(Codec::Opus)),
            ("opus/48000", "", Some(Codec::Opus)),
            ("opus/48000/1", "", Some(Codec::Opus)),
            ("opus/48000/", "", Some(Codec::Opus)),
            ("opus/48000/6", "", None),
            ("opus/16000/2", "", None),
            ("PCMU/8000", "", Some(Codec::Pcmu)),
            ("pcma/8000/1", "", Some(Codec::Pcma)),
            ("PCMA/8000/2", "", None),
            ("PCMA/16000", "", None),
            ("G722/8000", "", Some(Codec::G722)),
            ("G722/16000", "", None),
            (
                "telephone-event/48000",
                "0-16",
                Some(Codec::TelephoneEvent { clock_rate: 48_000 }),
            ),
            (
                "CN/16000",
                "",
                Some(Codec::ComfortNoise { clock_rate: 16_000 }),
            ),
            ("VP8/90000", "", Some(Codec::Vp8)),
            ("VP8/48000", "", None),
            ("VP9/90000", "", Some(Codec::Vp9 { profile: 0 })),
            ("VP9/90000", "profile-id=2", Some(Codec::Vp9 { profile: 2 })),
            ("VP9/90000", "profile-id=9", None),
            ("VP9/90000", "profile-id=x", None),
            (
                "AV1/90000",
                "level-idx=5; PROFILE=1 ;tier=0",
                Some(Codec::Av1 { profile: 1 }),
            ),
            ("AV1/90000", "profile=3", None),
            ("H264/90000", "packetization-mode=2", None),
            ("H265/90000", "", h265(1, false)),
            (
                "H265/90000",
                "level-id=180;profile-id=2;tier-flag=1;tx-mode=SRST",
                h265(2, true),
            ),
            (
                "h265/90000",
                "profile-id=1;sprop-max-don-diff=0",
                h265(1, false),
            ),
            ("H265/90000", "profile-id=32", None),
            ("H265/90000", "profile-id=x", None),
            ("H265/90000", "tier-flag=2", None),
            ("H265/90000", "tx-mode=MRST", None),
            ("H265/90000", "sprop-max-don-diff=2", None),
            ("H265/90000", "profile-space=1", None),
            ("H265/48000", "", None),
            ("red/90000", "", None),
            ("VP8", "", None),
        ];
        for (rtpmap, fmtp, codec) in cases {
            let lines = [format!("rtpmap:96 {rtpmap}"), format!("fmtp:96 {fmtp}")];
            let payloads = offered("96", &[&lines[0], &lines[1]]);
            assert_eq!(payloads[0].codec(), codec, "{rtpmap} {fmtp}");
        }
    }

    #[test]
    fn h264_profiles_are_those_of_table_5() {
        let cases = [
            ("42e01f", Some((0x42, 0x40))),
            ("42c01f", Some((0x42, 0x40))),
            ("4d801f", Some((0x42, 0x40))),
            ("58c01f", Some((0x42, 0x40))),
            ("42001f", Some((0x42, 0x00))),
            ("58801f", Some((0x42, 0x00))),
            ("4d001f", Some((0x4d, 0x00))),
            ("4D401F", Some((0x4d, 0x00))),
            ("640c1f", Some((0x64, 0x0c))),
            ("64001f", Some((0x64, 0x00))),
            ("f4001f", None),
            ("58001f", None),
            ("42e01", None),
            ("+2e01f", None),
        ];
        for (profile_level_id, canonical) in cases {
            let codec = h264(profile_level_id, 1);
            let expected = canonical.map(|(profile_idc, profile_iop)| Codec::H264 {
                profile_idc,
                profile_iop,
                packetization_mode: 1,
            });
            assert_eq!(codec, expected, "{profile_level_id}");
        }
    }

    #[test]
    fn the_client_order_and_numbers_are_kept() {
        let payloads = offered(
            "100 97 96 101 72 96 200 x",
            &[
                "rtpmap:96 VP8/90000",
                "rtpmap:97 rtx/90000",
                "rtpmap:100 VP9/90000",
                "rtpmap:101 rtx/90000",
                "rtpmap:72 VP8/90000",
                "fmtp:97 apt=96",
                "fmtp:101 apt=99",
                "rtcp-fb:* nack",
                "rtcp-fb:96 nack pli",
                "rtcp-fb:96 x-unknown",
            ],
        );
        let agreed = Codecs::negotiate(Kind::Video, &payloads);
        let order: Vec<_> = agreed.formats.iter().map(|f| f.payload_type).collect();
        // 101 repairs what is not there, 72 would be taken for RTCP.
        assert_eq!(order, [100, 97, 96]);
        assert_eq!(agreed.payloads[0].rtx_payload_type, None);
        assert_eq!(agreed.payloads[1].rtx_payload_type, Some(97));
        assert_eq!(agreed.formats[2].feedback, ["nack", "nack pli"]);
        assert_eq!(Codecs::negotiate(Kind::Audio, &payloads), Codecs::default());
    }

    #[test]
    fn repair_is_agreed_on_where_there_is_something_to_repair() {
        let audio = |fmtp: &str| {
            let payloads = offered(
                "111 63",
                &["rtpmap:111 opus/48000/2", "rtpmap:63 red/48000/2", fmtp],
            );
            let agreed = Codecs::negotiate(Kind::Audio, &payloads);
            let order: Vec<_> = agreed.formats.iter().map(|f| f.payload_type).collect();
            (agreed.repair.red, order)
        };
        assert_eq!(audio("fmtp:63 111/111"), (Some(63), vec![63, 111]));
        assert_eq!(audio("fmtp:63 111/0"), (None, vec![111]));
        assert_eq!(audio("fmtp:111 x=1"), (None, vec![111]));

        let video = |formats: &str| {
            let payloads = offered(
                formats,
                &[
                    "rtpmap:96 VP8/90000",
                    "rtpmap:118 red/90000",
                    "rtpmap:119 rtx/90000",
                    "fmtp:119 apt=118",
                    "rtpmap:120 ulpfec/90000",
                    "rtpmap:121 flexfec-03/90000",
                    "rtcp-fb:121 transport-cc",
                ],
            );
            let agreed = Codecs::negotiate(Kind::Video, &payloads);
            let RepairFormats {
                red,
                red_rtx,
                ulpfec,
                flexfec,
            } = agreed.repair;
            let written: Vec<_> = agreed.formats.into_iter().map(|f| f.rtpmap).collect();
            ([red, red_rtx, ulpfec, flexfec], written.join(" "))
        };
        assert_eq!(
            video("96 118 119 120 121"),
            (
                [Some(118), Some(119), Some(120), Some(121)],
                "VP8/90000 red/90000 rtx/90000 ulpfec/90000 flexfec-03/90000".into()
            )
        );
        assert_eq!(video("96 118 119"), ([None; 4], "VP8/90000".into()));
        assert_eq!(video("118 120").0, [Some(118), None, Some(120), None]);
    }

    #[test]
    fn parameters_are_answered_without_limits() {
        let cases = [
            (
                "opus/48000/2",
                "maxplaybackrate=48000;stereo=1",
                "minptime=10;useinbandfec=1",
            ),
            (
                "opus/48000/2",
                "sprop-stereo=1",
                "minptime=10;useinbandfec=1;stereo=1",
            ),
            ("VP8/90000", "max-fs=12288;max-fr=60", ""),
            ("VP9/90000", "profile-id=2;max-fs=1", "profile-id=2"),
            (
                "AV1/90000",
                "tier=0;level-idx=5;profile=0",
                "level-idx=5;profile=0;tier=0",
            ),
            (
                "H264/90000",
                "profile-level-id=4D001F;packetization-mode=1;max-br=1",
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
            ),
            (
                "H265/90000",
                "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
                "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
            ),
            ("H265/90000", "", ""),
            ("PCMU/8000", "ptime=20", ""),
            ("telephone-event/8000", "0-15,x", "0-15"),
        ];
        for (rtpmap, fmtp, answer) in cases {
            let lines = [format!("rtpmap:96 {rtpmap}"), format!("fmtp:96 {fmtp}")];
            let payloads = offered("96", &[&lines[0], &lines[1]]);
            let codec = payloads[0].codec().unwrap();
            assert_eq!(payloads[0].answer_fmtp(codec), answer, "{rtpmap} {fmtp}");
        }
    }
}
