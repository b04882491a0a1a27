//! Writes the answer (RFC 8829 section 5.3).

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use super::accept::Accepted;
use super::offer::OfferedLine;
use super::transport::{candidates, setup};
use crate::negotiated::Section;
use crate::path::Candidate;
use crate::peer::dtls::Role;
use crate::peer::ice::Credentials;
use crate::types::Mid;

/// The port of an m-line whose address is told by candidates alone (RFC 8840 section 4.1.1).
const DISCARD_PORT: u16 = 9;

/// What the whole answer shares.
pub(super) struct Writer<'a> {
    pub(super) session_id: u64,
    pub(super) version: u64,
    pub(super) cname: &'a str,
    pub(super) ice: &'a Credentials,
    pub(super) fingerprint: &'a str,
    pub(super) candidates: &'a [Candidate],
    pub(super) restarts: u32,
    pub(super) role: Role,
    /// The m-lines of the offer's BUNDLE group that are not rejected, in its order.
    pub(super) bundle: &'a [Mid],
    /// The m-line that carries the candidates, by its place: the first of that group, or the one that
    /// is served without a group.
    pub(super) first: Option<usize>,
    /// The first of that group, by its place, where it lends the others its transport and is not
    /// served itself.
    pub(super) parked: Option<usize>,
}

impl Writer<'_> {
    /// The answer to these m-lines; those without an [`Accepted`] are rejected.
    pub(super) fn write<'o>(
        &self,
        lines: impl Iterator<Item = (&'o OfferedLine, Option<&'o Accepted>)>,
    ) -> String {
        let mut session = Attributes::default();
        if !self.bundle.is_empty() {
            let mids: Vec<_> = self.bundle.iter().map(Mid::as_str).collect();
            session.value("group", format_args!("BUNDLE {}", mids.join(" ")));
        }
        session.flag("ice-lite");
        session.value("ice-options", "trickle");
        session.value("msid-semantic", "WMS *");
        let media = lines.map(|(offered, accepted)| match accepted {
            Some(accepted) => self.accepted(offered, accepted),
            None if self.parked == Some(offered.name.index) => self.parked(offered),
            None => rejected(offered),
        });
        let (session_id, version) = (self.session_id, self.version);
        let origin = format!("v=0\r\no=- {session_id} {version} IN IP4 0.0.0.0\r\n");
        let head = origin + "s=-\r\nt=0 0\r\n" + &session.0;
        std::iter::once(head).chain(media).collect()
    }

    fn accepted(&self, offered: &OfferedLine, accepted: &Accepted) -> String {
        let section = &accepted.section;
        let mut a = Attributes::default();
        if let Some(mid) = &offered.name.mid {
            a.value("mid", mid);
        }
        self.transport(&mut a, offered);
        a.flag("rtcp-mux");
        a.flag(direction(section));
        if section.extmap_allow_mixed {
            a.flag("extmap-allow-mixed");
        }
        for extmap in &accepted.extmaps {
            a.value("extmap", extmap);
        }
        for format in &accepted.formats {
            let payload_type = format.payload_type;
            a.value("rtpmap", format!("{payload_type} {}", format.rtpmap));
            for feedback in &format.feedback {
                a.value("rtcp-fb", format!("{payload_type} {feedback}"));
            }
            if !format.fmtp.is_empty() {
                a.value("fmtp", format!("{payload_type} {}", format.fmtp));
            }
        }
        self.simulcast(&mut a, accepted);
        self.sources(&mut a, section);

        let formats = accepted.formats.iter().map(|f| f.payload_type.to_string());
        self.live(offered, formats.collect(), &a)
    }

    /// Accepted, and nothing is sent on it either way: Chromium refuses an answer that rejects the m-line
    /// which tags its BUNDLE group ("Failed to setup RTCP mux"), and with it all others.
    fn parked(&self, offered: &OfferedLine) -> String {
        let mut a = Attributes::default();
        if let Some(mid) = &offered.name.mid {
            a.value("mid", mid);
        }
        self.transport(&mut a, offered);
        if offered.rtcp_mux {
            a.flag("rtcp-mux");
        }
        a.flag("inactive");
        for attribute in &offered.first_format_attributes {
            a.value(
                &attribute.key,
                attribute.value.as_deref().unwrap_or_default(),
            );
        }
        self.live(offered, vec![offered.first_format.clone()], &a)
    }

    /// An m-line that is not rejected.
    fn live(&self, offered: &OfferedLine, formats: Vec<String>, attributes: &Attributes) -> String {
        let default = self.candidates.first().map(|c| c.address);
        media(
            offered,
            default.map_or(DISCARD_PORT, |address| address.port()),
            default.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip()),
            formats,
            attributes,
        )
    }

    /// RFC 8843 has credentials, fingerprint and role on the first m-line only, but clients are
    /// used to browsers, which repeat them on each.
    fn transport(&self, a: &mut Attributes, offered: &OfferedLine) {
        a.value("ice-ufrag", &self.ice.ufrag);
        a.value("ice-pwd", &self.ice.pwd);
        a.value("fingerprint", self.fingerprint);
        a.value("setup", setup(self.role));
        if offered.rtcp_rsize {
            a.flag("rtcp-rsize");
        }
        if self.first == Some(offered.name.index) {
            for candidate in candidates(self.candidates, self.restarts) {
                a.value("candidate", candidate);
            }
            a.flag("end-of-candidates");
        }
    }

    fn simulcast(&self, a: &mut Attributes, accepted: &Accepted) {
        let Some(agreed) = &accepted.simulcast else {
            return;
        };
        for rid in &agreed.attributes {
            a.value("rid", rid);
        }
        let rids: Vec<_> = agreed.rids.iter().map(|rid| rid.as_str()).collect();
        a.value("simulcast", format!("recv {}", rids.join(";")));
    }

    fn sources(&self, a: &mut Attributes, section: &Section) {
        let Some(send) = &section.send else {
            return;
        };
        // The stream may be another m-line's too, the track may not: Chromium refuses the answer.
        let msid = format!("{} {}-{}", send.msid, section.kind, section.mid);
        a.value("msid", &msid);
        if let Some(rtx) = send.rtx_ssrc {
            a.value("ssrc-group", format!("FID {} {}", send.ssrc.0, rtx.0));
        }
        if let Some(flexfec) = send.flexfec_ssrc {
            a.value(
                "ssrc-group",
                format!("FEC-FR {} {}", send.ssrc.0, flexfec.0),
            );
        }
        let ssrcs = [Some(send.ssrc), send.rtx_ssrc, send.flexfec_ssrc];
        for ssrc in ssrcs.into_iter().flatten() {
            a.value("ssrc", format!("{} cname:{}", ssrc.0, self.cname));
            a.value("ssrc", format!("{} msid:{msid}", ssrc.0));
        }
    }
}

/// A rejected m-line: port 0 and one of its formats (RFC 8829 section 5.3.1).
fn rejected(offered: &OfferedLine) -> String {
    let mut a = Attributes::default();
    if let Some(mid) = &offered.name.mid {
        a.value("mid", mid);
    }
    a.flag("inactive");
    let formats = vec![offered.first_format.clone()];
    media(offered, 0, IpAddr::V4(Ipv4Addr::UNSPECIFIED), formats, &a)
}

/// One m-line, its profile and the like repeated as they were offered.
fn media(
    offered: &OfferedLine,
    port: u16,
    address: IpAddr,
    formats: Vec<String>,
    attributes: &Attributes,
) -> String {
    let (media, proto, formats) = (&offered.name.media, &offered.proto, formats.join(" "));
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let attributes = &attributes.0;
    format!("m={media} {port} {proto} {formats}\r\nc=IN {family} {address}\r\n{attributes}")
}

/// The direction as we say it: the client's publication is what we receive.
fn direction(section: &Section) -> &'static str {
    match (section.send.is_some(), section.receive.is_some()) {
        (true, true) => "sendrecv",
        (true, false) => "sendonly",
        (false, true) => "recvonly",
        (false, false) => "inactive",
    }
}

/// `a=` lines.
#[derive(Default)]
struct Attributes(String);

impl Attributes {
    fn flag(&mut self, key: &str) {
        self.0 += &format!("a={key}\r\n");
    }

    fn value(&mut self, key: &str, value: impl Display) {
        self.0 += &format!("a={key}:{value}\r\n");
    }
}
