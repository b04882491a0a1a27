//! A client that offers, a builder for its offers, and a judge of the answers.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Cursor;

use confab_sfu::api::SdpError;
use confab_sfu::inside::negotiated::Section;
use confab_sfu::inside::peer::ice::Credentials;
use confab_sfu::inside::peer::sdp::{Local, Negotiated, Negotiation, Policy, Restarted};
use confab_sfu::path::Candidate;
use confab_sfu::types::Ssrc;
use rtc_sdp::SessionDescription;

pub(crate) const BOTH: Policy = Policy {
    may_publish: true,
    may_subscribe: true,
    is_whole: false,
};
pub(crate) const PUBLISH_ONLY: Policy = Policy {
    may_publish: true,
    may_subscribe: false,
    is_whole: false,
};
pub(crate) const SUBSCRIBE_ONLY: Policy = Policy {
    may_publish: false,
    may_subscribe: true,
    is_whole: false,
};
pub(crate) const WHIP: Policy = Policy {
    is_whole: true,
    ..PUBLISH_ONLY
};
pub(crate) const WHEP: Policy = Policy {
    is_whole: true,
    ..SUBSCRIBE_ONLY
};

/// The server's side of one connection, with predictable random values.
pub(crate) struct Server {
    pub(crate) negotiation: Negotiation,
    pub(crate) policy: Policy,
    next_ssrc: u32,
    next_credentials: u32,
}

impl Server {
    pub(crate) fn new(policy: Policy) -> Self {
        Server {
            negotiation: Negotiation::new(u64::MAX, "server"),
            policy,
            next_ssrc: 1000,
            next_credentials: 0,
        }
    }

    pub(crate) fn offer(&mut self, offer: &str) -> Result<Answer, SdpError> {
        let policy = self.policy;
        let negotiated = self.with_local(|n, local| n.answer(offer, policy, local))?;
        let (asked, sdp) = (Sdp::read(offer), Sdp::read(&negotiated.answer));
        judge(&asked, &sdp, self.negotiation.sections());
        judge_lines(&asked, &negotiated.answer);
        Ok(Answer { negotiated, sdp })
    }

    pub(crate) fn restart(&mut self, fragment: &str) -> Result<Restarted, SdpError> {
        self.with_local(|n, local| n.restart_ice(fragment, local))
    }

    pub(crate) fn section(&self, mid: &str) -> &Section {
        let mut sections = self.negotiation.sections().iter();
        sections
            .find(|section| section.mid.as_str() == mid)
            .expect(mid)
    }

    fn with_local<T>(&mut self, f: impl FnOnce(&mut Negotiation, &mut Local<'_>) -> T) -> T {
        let candidates = ["192.0.2.1:7000", "[2001:db8::1]:7000"]
            .map(|address| Candidate::udp(address.parse().unwrap()));
        let (next_ssrc, next_credentials) = (&mut self.next_ssrc, &mut self.next_credentials);
        let mut local = Local {
            fingerprint: "sha-256 AB:CD",
            candidates: &candidates,
            new_ssrc: &mut || {
                *next_ssrc += 1;
                Ssrc(*next_ssrc)
            },
            new_credentials: &mut || {
                *next_credentials += 1;
                Credentials {
                    ufrag: format!("ufrag{next_credentials}"),
                    pwd: format!("{next_credentials:022}"),
                }
            },
        };
        f(&mut self.negotiation, &mut local)
    }
}

pub(crate) struct Answer {
    pub(crate) negotiated: Negotiated,
    pub(crate) sdp: Sdp,
}

/// A description as the client side reads it: attributes and m-lines.
#[derive(Debug, Default)]
pub(crate) struct Sdp {
    pub(crate) attributes: Vec<String>,
    pub(crate) media: Vec<Media>,
}

#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) media: String,
    pub(crate) is_port_zero: bool,
    pub(crate) proto: String,
    pub(crate) formats: Vec<String>,
    pub(crate) attributes: Vec<String>,
}

impl Media {
    pub(crate) fn direction(&self) -> Option<&'static str> {
        direction(&self.attributes)
    }
}

impl Sdp {
    pub(crate) fn read(text: &str) -> Sdp {
        let mut sdp = Sdp::default();
        for line in text.split(['\r', '\n']).map(str::trim) {
            if let Some(line) = line.strip_prefix("m=") {
                let fields: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
                sdp.media.push(Media {
                    media: fields[0].clone(),
                    is_port_zero: fields[1].split('/').next() == Some("0"),
                    proto: fields[2].clone(),
                    formats: fields[3..].to_vec(),
                    attributes: Vec::new(),
                });
            } else if let Some(attribute) = line.strip_prefix("a=") {
                let media = sdp.media.last_mut().map(|media| &mut media.attributes);
                let attributes = media.unwrap_or(&mut sdp.attributes);
                attributes.push(attribute.to_owned());
            }
        }
        sdp
    }
}

impl Answer {
    pub(crate) fn line(&self, mid: &str) -> &Media {
        let mut lines = self.sdp.media.iter();
        lines
            .find(|line| values(&line.attributes, "mid") == [mid])
            .expect(mid)
    }

    pub(crate) fn attribute(&self, mid: &str, key: &str) -> Vec<&str> {
        values(&self.line(mid).attributes, key)
    }

    pub(crate) fn is_rejected(&self, mid: &str) -> bool {
        self.line(mid).is_port_zero
    }

    pub(crate) fn direction(&self, mid: &str) -> &'static str {
        direction(&self.line(mid).attributes).unwrap()
    }
}

pub(crate) fn values<'a>(attributes: &'a [String], key: &str) -> Vec<&'a str> {
    let split = |attribute: &'a String| attribute.split_once(':').unwrap_or((attribute, ""));
    let attributes = attributes.iter().map(split);
    let found = attributes.filter(|(other, _)| *other == key);
    found.map(|(_, value)| value.trim()).collect()
}

pub(crate) fn has(attributes: &[String], key: &str) -> bool {
    !values(attributes, key).is_empty()
}

fn direction(attributes: &[String]) -> Option<&'static str> {
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let keys = attributes.iter().map(|a| a.split(':').next());
    let mut keys = keys.flatten();
    keys.find_map(|key| directions.into_iter().find(|&direction| direction == key))
}

/// Another implementation, which is strict, reads the answer; it knows these kinds of media alone.
fn judge_lines(asked: &Sdp, answer: &str) {
    let known = ["audio", "video", "text", "application", "message", "image"];
    let mut media = asked.media.iter().map(|line| &line.media[..]);
    if media.all(|media| known.contains(&media)) {
        let read = SessionDescription::unmarshal(&mut Cursor::new(answer.as_bytes()));
        let read = read.expect(answer);
        assert_eq!(read.media_descriptions.len(), asked.media.len());
    }
}

/// What RFC 8829 lets a browser refuse an answer for. Holds for every answer to every offer.
fn judge(offer: &Sdp, answer: &Sdp, sections: &[Section]) {
    assert_eq!(offer.media.len(), answer.media.len());
    assert!(has(&answer.attributes, "ice-lite"));
    let groups = values(&answer.attributes, "group");
    let bundle: Vec<&str> = groups.first().map_or_else(Vec::new, |group| {
        group.strip_prefix("BUNDLE ").unwrap().split(' ').collect()
    });
    let mut accepted = Vec::new();
    let session_direction = direction(&offer.attributes).unwrap_or("sendrecv");

    for (index, (asked, got)) in offer.media.iter().zip(&answer.media).enumerate() {
        assert_eq!(asked.media, got.media);
        assert_eq!(asked.proto, got.proto);
        let section = sections.iter().find(|section| section.index == index);
        if got.is_port_zero {
            assert!(section.is_none());
            assert!(!got.formats.is_empty());
            continue;
        }
        let Some(section) = section else {
            judge_parked(asked, got, &bundle);
            continue;
        };
        let mid = values(&got.attributes, "mid").first().copied();
        assert_eq!(values(&asked.attributes, "mid").first().copied(), mid);
        assert!(mid.is_none_or(|mid| section.mid.as_str() == mid));
        assert!(!accepted.iter().any(|(name, _)| *name == section.mid));
        accepted.push((section.mid, mid));
        let setup = if values(&asked.attributes, "setup") == ["passive"] {
            "active"
        } else {
            "passive"
        };
        assert_eq!(values(&got.attributes, "setup"), [setup]);
        assert!(has(&got.attributes, "rtcp-mux"));
        let first = bundle.first().copied() == mid || bundle.is_empty();
        assert_eq!(has(&got.attributes, "candidate"), first);
        assert_eq!(has(&got.attributes, "end-of-candidates"), first);

        let offered = direction(&asked.attributes).unwrap_or(session_direction);
        let answered = direction(&got.attributes).unwrap();
        let allowed: &[&str] = match offered {
            "sendrecv" => &["sendrecv", "sendonly", "recvonly", "inactive"],
            "sendonly" => &["recvonly", "inactive"],
            "recvonly" => &["sendonly", "inactive"],
            _ => &["inactive"],
        };
        assert!(
            allowed.contains(&answered),
            "{offered} answered by {answered}"
        );
        assert_eq!(section.send.is_some(), answered.starts_with("send"));
        assert_eq!(
            section.receive.is_some(),
            answered == "sendrecv" || answered == "recvonly"
        );
        judge_formats(asked, got);
        judge_extensions(offer, asked, got);
        judge_rids(asked, got, section);
    }
    // All on one transport: in the group, or alone.
    let names: HashSet<&str> = accepted.iter().filter_map(|(_, mid)| *mid).collect();
    let bundle = match bundle.split_first() {
        Some((first, others)) if !names.contains(first) => others.to_vec(),
        _ => bundle,
    };
    match bundle.is_empty() {
        true => assert!(accepted.len() <= 1),
        false => assert_eq!(bundle.len(), accepted.len()),
    }
    assert!(bundle.is_empty() || bundle.into_iter().collect::<HashSet<_>>() == names);
}

/// An m-line that is not served, and yet not rejected: the first of several in the group.
fn judge_parked(asked: &Media, got: &Media, bundle: &[&str]) {
    // Of an m-line with two names the first counts, as where it is served.
    let mid = values(&got.attributes, "mid");
    assert_eq!(values(&asked.attributes, "mid")[..1], mid);
    assert!(bundle.len() > 1 && bundle[0] == mid[0]);
    assert_eq!(direction(&got.attributes), Some("inactive"));
    assert_eq!(asked.formats[..1], got.formats);
    assert!(has(&got.attributes, "ice-ufrag") && has(&got.attributes, "candidate"));
}

/// What payload types mean that need no `a=rtpmap` (RFC 3551 section 6).
const STATIC: [&str; 4] = ["0 PCMU/8000", "8 PCMA/8000", "9 G722/8000", "13 CN/8000"];

/// A subset of the offered payload types, in their order, each still meaning the same; but RED of
/// audio comes first.
fn judge_formats(asked: &Media, got: &Media) {
    let formats = &got.formats;
    let mut offered = asked.formats.iter();
    assert!(!formats.is_empty());
    let rtpmaps = values(&got.attributes, "rtpmap");
    let is_red = |format: &String| rtpmaps.contains(&format!("{format} red/48000/2").as_str());
    for format in formats.iter().skip_while(|format| is_red(format)) {
        assert!(
            offered.any(|other| other == format),
            "{format} is new or out of order"
        );
    }
    assert_eq!(rtpmaps.len(), formats.len());
    let asked_rtpmaps: Vec<_> = values(&asked.attributes, "rtpmap")
        .iter()
        // A slash without channels behind it means nothing.
        .map(|r| r.trim_end_matches('/').to_ascii_lowercase())
        .collect();
    for rtpmap in rtpmaps {
        assert!(
            asked_rtpmaps.contains(&rtpmap.to_ascii_lowercase()) || STATIC.contains(&rtpmap),
            "{rtpmap}"
        );
    }
    for fmtp in values(&got.attributes, "fmtp") {
        let (payload_type, parameters) = fmtp.split_once(' ').unwrap();
        assert!(formats.iter().any(|format| format == payload_type));
        if let Some(apt) = parameters.strip_prefix("apt=") {
            assert!(
                formats.iter().any(|format| format == apt),
                "apt={apt} was not accepted"
            );
        }
    }
    let offered = values(&asked.attributes, "rtcp-fb");
    for feedback in values(&got.attributes, "rtcp-fb") {
        let (_, message) = feedback.split_once(' ').unwrap();
        let wildcard = format!("* {message}");
        assert!(offered.contains(&feedback) || offered.contains(&wildcard.as_str()));
    }
}

/// Offered ids with the offered meaning, and no id twice.
fn judge_extensions(offer: &Sdp, asked: &Media, got: &Media) {
    let parse = |extmap: &str| {
        let (number, uri) = extmap.split_once(' ').unwrap_or((extmap, ""));
        let (id, direction) = number.split_once('/').unwrap_or((number, "sendrecv"));
        (id.to_owned(), direction.to_owned(), uri.trim().to_owned())
    };
    let offered: Vec<_> = values(&asked.attributes, "extmap")
        .into_iter()
        .chain(values(&offer.attributes, "extmap"))
        .map(parse)
        .collect();
    let mut ids = HashSet::new();
    for (id, direction, uri) in values(&got.attributes, "extmap").into_iter().map(parse) {
        let (_, asked, _) = offered
            .iter()
            .find(|(other, _, name)| *other == id && name.starts_with(&uri))
            .expect("an extension that was offered");
        match asked.as_str() {
            "sendonly" => assert_eq!(direction, "recvonly"),
            "recvonly" => assert_eq!(direction, "sendonly"),
            _ => {}
        }
        assert!(ids.insert(id));
    }
}

/// `a=rid` and `a=simulcast` say the same as the section, and nothing that was not offered.
fn judge_rids(asked: &Media, got: &Media, section: &Section) {
    let word = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
    let answered: Vec<_> = values(&got.attributes, "rid")
        .into_iter()
        .map(word)
        .collect();
    let offered: Vec<_> = values(&asked.attributes, "rid")
        .into_iter()
        .map(word)
        .collect();
    assert!(answered.iter().all(|rid| offered.contains(rid)));
    // While nothing is sent they are agreed on all the same, for when it is.
    let rids = match &section.receive {
        Some(receive) => receive.rids.iter().map(ToString::to_string).collect(),
        None => answered.clone(),
    };
    assert_eq!(answered, rids);
    let simulcast = values(&got.attributes, "simulcast");
    match rids.is_empty() {
        true => assert!(simulcast.is_empty()),
        false => assert_eq!(simulcast, [format!("recv {}", answered.join(";"))]),
    }
}

/// An offer built by hand, for what the recorded ones do not show.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) ufrag: &'static str,
    pub(crate) pwd: &'static str,
    pub(crate) setup: &'static str,
    pub(crate) fingerprint: &'static str,
    pub(crate) session: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) media: &'static str,
    pub(crate) mid: &'static str,
    pub(crate) port: u16,
    pub(crate) bundled: bool,
    pub(crate) proto: &'static str,
    pub(crate) direction: &'static str,
    pub(crate) formats: &'static str,
    pub(crate) attributes: Vec<String>,
}

const AUDIO: &[&str] = &[
    "rtcp-mux",
    "rtpmap:111 opus/48000/2",
    "fmtp:111 minptime=10;useinbandfec=1",
    "extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
];
const VIDEO: &[&str] = &[
    "rtcp-mux",
    "rtcp-rsize",
    "rtpmap:96 VP8/90000",
    "rtcp-fb:96 nack",
    "rtcp-fb:96 nack pli",
    "rtpmap:97 rtx/90000",
    "fmtp:97 apt=96",
    "extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    "extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
];

impl Line {
    pub(crate) fn audio(mid: &'static str, direction: &'static str) -> Self {
        Line::new("audio", mid, direction, "111", AUDIO)
    }

    pub(crate) fn video(mid: &'static str, direction: &'static str) -> Self {
        Line::new("video", mid, direction, "96 97", VIDEO)
    }

    fn new(
        media: &'static str,
        mid: &'static str,
        direction: &'static str,
        formats: &'static str,
        attributes: &[&str],
    ) -> Self {
        Line {
            media,
            mid,
            port: 9,
            bundled: true,
            proto: "UDP/TLS/RTP/SAVPF",
            direction,
            formats,
            attributes: attributes.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn with(mut self, attributes: &[&str]) -> Self {
        self.attributes
            .extend(attributes.iter().map(ToString::to_string));
        self
    }

    pub(crate) fn without(mut self, attribute: &str) -> Self {
        self.attributes.retain(|a| !a.starts_with(attribute));
        self
    }

    pub(crate) fn stopped(mut self) -> Self {
        self.port = 0;
        self.bundled = false;
        self
    }
}

impl Offer {
    pub(crate) fn new(lines: impl Into<Vec<Line>>) -> Self {
        Offer {
            ufrag: "abcd",
            pwd: "0123456789abcdefghijkl",
            setup: "actpass",
            fingerprint: "sha-256 \
                AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:\
                AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA",
            session: Vec::new(),
            lines: lines.into(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mids: Vec<_> = self
            .lines
            .iter()
            .filter(|l| l.bundled)
            .map(|l| l.mid)
            .collect();
        let mut text = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned();
        if !mids.is_empty() {
            write!(text, "a=group:BUNDLE {}\r\n", mids.join(" ")).unwrap();
        }
        for attribute in &self.session {
            write!(text, "a={attribute}\r\n").unwrap();
        }
        for line in &self.lines {
            write!(
                text,
                "m={} {} {} {}\r\nc=IN IP4 0.0.0.0\r\na={}\r\n",
                line.media, line.port, line.proto, line.formats, line.direction
            )
            .unwrap();
            let transport = [
                ("mid", line.mid),
                ("ice-ufrag", self.ufrag),
                ("ice-pwd", self.pwd),
                ("setup", self.setup),
                ("fingerprint", self.fingerprint),
            ];
            for (key, value) in transport.iter().filter(|(_, value)| !value.is_empty()) {
                write!(text, "a={key}:{value}\r\n").unwrap();
            }
            for attribute in &line.attributes {
                write!(text, "a={attribute}\r\n").unwrap();
            }
        }
        text
    }
}
