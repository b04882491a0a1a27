//! A browser's side of SDP: the offers it writes, and what it reads in the answers.
//!
//! In: the m-lines a client wants, and whose numbers it uses. Out: an offer; from an answer, the
//! parameters of each m-line.
#![allow(
    missing_docs,
    reason = "what has no line of its own is what its name says"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;

use confab_sfu::media::{Extension, ExtensionMap, Kind};
use confab_sfu::types::Ssrc;

/// The payload type of RED for video, as both browsers number it.
pub const RED: u8 = 122;

pub const ULPFEC: u8 = 123;

/// Which directions an extension is offered in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Both,
    Send,
    Receive,
}

/// How a browser numbers what it offers.
#[derive(Debug)]
pub struct Dialect {
    /// The payload type of Opus.
    pub opus: u8,
    /// The payload type of VP8.
    pub vp8: u8,
    /// The payload type of VP8's retransmissions.
    pub vp8_rtx: u8,
    audio: &'static [(u8, Direction, Extension)],
    video: &'static [(u8, Direction, Extension)],
    /// Announces the SSRCs of simulcast encodings.
    announces_simulcast: bool,
}

pub static CHROMIUM: Dialect = Dialect {
    opus: 111,
    vp8: 96,
    vp8_rtx: 97,
    audio: &[
        (1, Direction::Both, Extension::AudioLevel),
        (2, Direction::Both, Extension::AbsSendTime),
        (3, Direction::Both, Extension::TransportSequence),
        (4, Direction::Both, Extension::Mid),
    ],
    video: &[
        (2, Direction::Both, Extension::AbsSendTime),
        (13, Direction::Both, Extension::VideoOrientation),
        (3, Direction::Both, Extension::TransportSequence),
        (5, Direction::Both, Extension::PlayoutDelay),
        (4, Direction::Both, Extension::Mid),
        (10, Direction::Both, Extension::Rid),
        (11, Direction::Both, Extension::RepairedRid),
    ],
    announces_simulcast: false,
};

pub static FIREFOX: Dialect = Dialect {
    opus: 109,
    vp8: 120,
    vp8_rtx: 124,
    audio: &[
        (1, Direction::Both, Extension::AudioLevel),
        (3, Direction::Both, Extension::Mid),
        (7, Direction::Both, Extension::TransportSequence),
    ],
    video: &[
        (3, Direction::Both, Extension::Mid),
        (4, Direction::Both, Extension::AbsSendTime),
        (6, Direction::Receive, Extension::PlayoutDelay),
        (7, Direction::Both, Extension::TransportSequence),
        (9, Direction::Send, Extension::Rid),
        (10, Direction::Send, Extension::RepairedRid),
    ],
    announces_simulcast: true,
};

/// What the client uses an m-line for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Use {
    /// It sends. The SSRCs of each encoding, with those of their retransmissions.
    Send {
        /// More than one in simulcast.
        encodings: Vec<(Ssrc, Option<Ssrc>)>,
        /// The simulcast names; empty without.
        rids: Vec<String>,
    },
    /// It receives: the m-line is a slot.
    Slot,
    /// It is stopped; its place may be used again.
    Stopped,
}

/// An m-line that a client offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub mid: String,
    pub kind: Kind,
    pub usage: Use,
    /// Not for the time being: it is offered as inactive.
    pub is_paused: bool,
}

/// What an offer says of the connection.
#[derive(Clone, Debug)]
pub struct Transport {
    /// The ICE user name fragment.
    pub ufrag: String,
    pub pwd: String,
    /// `sha-256` and the digest.
    pub fingerprint: String,
    /// Its role in DTLS: `a=setup`.
    pub setup: &'static str,
}

#[must_use]
pub fn offer(dialect: &Dialect, lines: &[Line], transport: &Transport, version: u64) -> String {
    let mids: Vec<&str> = lines
        .iter()
        .filter(|line| line.usage != Use::Stopped)
        .map(|line| line.mid.as_str())
        .collect();
    let mut sdp = format!(
        "v=0\r\no=- 4611731400430051336 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
         a=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
        mids.join(" ")
    );
    for line in lines {
        write_line(&mut sdp, dialect, line, transport);
    }
    sdp
}

/// An offer as a client writes it that knows no transport-wide feedback.
#[must_use]
pub fn without_transport_feedback(offer: &str) -> String {
    let uri = Extension::TransportSequence.uri();
    let lines = offer.split_inclusive("\r\n");
    let others = lines.filter(|line| !line.contains(uri) && !line.contains(" transport-cc"));
    others.collect()
}

/// An offer as a client writes it that knows no RTX.
#[must_use]
pub fn without_rtx(offer: &str, dialect: &Dialect) -> String {
    let rtx = format!(" {}\r\n", dialect.vp8_rtx);
    let lines = offer.split_inclusive("\r\n");
    let others = lines.filter(|line| {
        let is_of_rtx = ["rtx/", " apt=", "ssrc-group:FID"];
        !is_of_rtx.iter().any(|part| line.contains(part))
    });
    let without = |line: &str| match line.strip_suffix(&rtx) {
        Some(rest) if line.starts_with("m=video") => format!("{rest}\r\n"),
        _ => line.to_owned(),
    };
    others.map(without).collect()
}

/// An offer as a client writes it that knows FEC.
#[must_use]
pub fn with_fec(offer: &str, dialect: &Dialect) -> String {
    let vp8 = format!("a=rtpmap:{} VP8/90000\r\n", dialect.vp8);
    let lines = offer.split_inclusive("\r\n").map(|line| match line {
        media if media.starts_with("m=video") => {
            format!("{} {RED} {ULPFEC}\r\n", media.trim_end())
        }
        line if line == vp8 => {
            format!("{line}a=rtpmap:{RED} red/90000\r\na=rtpmap:{ULPFEC} ulpfec/90000\r\n")
        }
        line => line.to_owned(),
    });
    lines.collect()
}

/// An offer as a client writes it that knows no PLI.
#[must_use]
pub fn without_pli(offer: &str) -> String {
    let lines = offer.split_inclusive("\r\n");
    lines.filter(|line| !line.contains(" nack pli")).collect()
}

fn write_line(sdp: &mut String, dialect: &Dialect, line: &Line, transport: &Transport) {
    let mut put = |text: std::fmt::Arguments<'_>| {
        let _ = write!(sdp, "{text}\r\n");
    };
    let port = if line.usage == Use::Stopped { 0 } else { 9 };
    let kind = line.kind;
    match kind {
        Kind::Audio => put(format_args!(
            "m=audio {port} UDP/TLS/RTP/SAVPF {} 9 0",
            dialect.opus
        )),
        Kind::Video => put(format_args!(
            "m=video {port} UDP/TLS/RTP/SAVPF {} {}",
            dialect.vp8, dialect.vp8_rtx
        )),
    }
    put(format_args!("c=IN IP4 0.0.0.0"));
    put(format_args!("a=mid:{}", line.mid));
    if line.usage == Use::Stopped {
        return put(format_args!("a=inactive"));
    }
    put(format_args!("a=ice-ufrag:{}", transport.ufrag));
    put(format_args!("a=ice-pwd:{}", transport.pwd));
    put(format_args!("a=ice-options:trickle"));
    put(format_args!("a=fingerprint:{}", transport.fingerprint));
    put(format_args!("a=setup:{}", transport.setup));
    put(format_args!("a=rtcp-mux"));
    put(format_args!("a=rtcp-rsize"));
    let extensions = match kind {
        Kind::Audio => dialect.audio,
        Kind::Video => dialect.video,
    };
    for (id, way, extension) in extensions {
        let direction = match way {
            Direction::Both => "",
            Direction::Send => "/sendonly",
            Direction::Receive => "/recvonly",
        };
        put(format_args!("a=extmap:{id}{direction} {}", extension.uri()));
    }
    match kind {
        Kind::Audio => {
            put(format_args!("a=rtpmap:{} opus/48000/2", dialect.opus));
            put(format_args!("a=rtcp-fb:{} transport-cc", dialect.opus));
            put(format_args!(
                "a=fmtp:{} minptime=10;useinbandfec=1",
                dialect.opus
            ));
            put(format_args!("a=rtpmap:9 G722/8000"));
        }
        Kind::Video => {
            put(format_args!("a=rtpmap:{} VP8/90000", dialect.vp8));
            for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
                put(format_args!("a=rtcp-fb:{} {feedback}", dialect.vp8));
            }
            put(format_args!("a=rtpmap:{} rtx/90000", dialect.vp8_rtx));
            put(format_args!(
                "a=fmtp:{} apt={}",
                dialect.vp8_rtx, dialect.vp8
            ));
        }
    }
    let (encodings, rids) = match &line.usage {
        Use::Send { encodings, rids } => (encodings, rids),
        _ if line.is_paused => return put(format_args!("a=inactive")),
        _ => return put(format_args!("a=recvonly")),
    };
    match line.is_paused {
        true => put(format_args!("a=inactive")),
        false => put(format_args!("a=sendonly")),
    }
    put(format_args!("a=msid:stream track-{}", line.mid));
    for rid in rids {
        put(format_args!("a=rid:{rid} send"));
    }
    if !rids.is_empty() {
        put(format_args!("a=simulcast:send {}", rids.join(";")));
    }
    if rids.is_empty() || dialect.announces_simulcast {
        for (ssrc, rtx) in encodings {
            put(format_args!("a=ssrc:{} cname:client", ssrc.0));
            if let Some(rtx) = rtx {
                put(format_args!("a=ssrc:{} cname:client", rtx.0));
                put(format_args!("a=ssrc-group:FID {} {}", ssrc.0, rtx.0));
            }
        }
    }
}

/// An m-line of an answer.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    pub mid: String,
    /// Port 0: it is rejected or stopped.
    pub is_stopped: bool,
    /// The server sends on it.
    pub sends: bool,
    /// The server receives on it.
    pub receives: bool,
    /// The SSRC that the server sends with.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// Ids of the header extensions that may be sent to the server.
    pub to_server: ExtensionMap,
    /// Ids of the header extensions that the server may send.
    pub from_server: ExtensionMap,
    pub payload_types: Vec<u8>,
    /// The simulcast names that the server takes.
    pub rids: Vec<String>,
}

/// What an answer says.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The server's ICE user name fragment.
    pub ufrag: String,
    /// The server's ICE password.
    pub pwd: String,
    /// The fingerprint of the server's certificate.
    pub fingerprint: String,
    /// The server's role in DTLS: `a=setup`.
    pub setup: String,
    pub candidates: Vec<SocketAddr>,
    pub lines: Vec<Answered>,
}

impl Answer {
    #[must_use]
    pub fn parse(sdp: &str) -> Self {
        let mut answer = Answer::default();
        for text in sdp.lines() {
            if let Some(media) = text.strip_prefix("m=") {
                let mut words = media.split(' ').skip(1);
                answer.lines.push(Answered {
                    is_stopped: words.next() == Some("0"),
                    payload_types: words.skip(1).filter_map(|pt| pt.parse().ok()).collect(),
                    ..Answered::default()
                });
            }
            let Some(attribute) = text.strip_prefix("a=") else {
                continue;
            };
            let (key, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            if let Some(line) = answer.lines.last_mut() {
                line.read(key, value);
            }
            match key {
                "ice-ufrag" => value.clone_into(&mut answer.ufrag),
                "ice-pwd" => value.clone_into(&mut answer.pwd),
                "fingerprint" => value.clone_into(&mut answer.fingerprint),
                "setup" => value.clone_into(&mut answer.setup),
                "candidate" => {
                    let words: Vec<&str> = value.split(' ').collect();
                    let address = words.get(4).zip(words.get(5));
                    let address =
                        address.map(|(ip, port)| format!("{ip}:{port}").parse::<SocketAddr>().ok());
                    answer.candidates.extend(address.flatten());
                }
                _ => {}
            }
        }
        answer
    }
}

impl Answered {
    fn read(&mut self, key: &str, value: &str) {
        match key {
            "mid" => value.clone_into(&mut self.mid),
            "sendonly" => self.sends = true,
            "recvonly" => self.receives = true,
            "sendrecv" => (self.sends, self.receives) = (true, true),
            "ssrc" => {
                let ssrc = value.split(' ').next().and_then(|n| n.parse().ok());
                self.ssrc = self.ssrc.or(ssrc.map(Ssrc));
            }
            "ssrc-group" => {
                let mut numbers = value.split(' ').skip(1).map(|n| n.parse().ok().map(Ssrc));
                self.ssrc = numbers.next().flatten();
                self.rtx_ssrc = numbers.next().flatten();
            }
            "rid" => self.rids.extend(value.split(' ').next().map(str::to_owned)),
            "extmap" => self.read_extension(value),
            _ => {}
        }
    }

    /// Directions in an answer are the server's.
    fn read_extension(&mut self, value: &str) {
        let Some((id, uri)) = value.split_once(' ') else {
            return;
        };
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let (Ok(id), Some(extension)) = (id.parse(), Extension::from_uri(uri)) else {
            return;
        };
        if direction != "recvonly" {
            self.from_server.set(extension, id);
        }
        if direction != "sendonly" {
            self.to_server.set(extension, id);
        }
    }
}
