//! Writes the answer (RFC 8829 section 5.3).

use std::net::{IpAddr, Ipv4Addr};

use rtc_sdp::SessionDescription;
use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, TimeDescription};

use super::accept::Accepted;
use super::offer::OfferedLine;
use super::section::Section;
use super::transport::candidates;
use crate::peer::ice::Credentials;
use crate::types::Mid;
use crate::way::Candidate;

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
    /// The accepted m-lines in the order of the offer's BUNDLE group: the first carries the
    /// candidates.
    pub(super) bundle: &'a [Mid],
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
            session.value("group", format!("BUNDLE {}", mids.join(" ")));
        }
        session.flag("ice-lite");
        session.value("ice-options", "trickle");
        session.value("msid-semantic", "WMS *");
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        SessionDescription {
            origin: Origin {
                username: "-".into(),
                session_id: self.session_id,
                session_version: self.version,
                network_type: "IN".into(),
                address_type: "IP4".into(),
                unicast_address: any.to_string(),
            },
            session_name: "-".into(),
            time_descriptions: vec![TimeDescription::default()],
            attributes: session.0,
            media_descriptions: lines
                .map(|(offered, accepted)| match accepted {
                    Some(accepted) => self.accepted(offered, accepted),
                    None => rejected(offered),
                })
                .collect(),
            ..SessionDescription::default()
        }
        .marshal()
    }

    fn accepted(&self, offered: &OfferedLine, accepted: &Accepted) -> MediaDescription {
        let section = &accepted.section;
        let mut a = Attributes::default();
        a.value("mid", section.mid);
        self.transport(&mut a, section);
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

        let default = self.candidates.first().map(|c| c.address);
        let formats = accepted.formats.iter().map(|f| f.payload_type.to_string());
        media(
            offered,
            default.map_or(DISCARD_PORT, |address| address.port()),
            default.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip()),
            formats.collect(),
            a,
        )
    }

    /// RFC 8843 has credentials, fingerprint and role on the first m-line only, but clients are
    /// used to browsers, which repeat them on each.
    fn transport(&self, a: &mut Attributes, section: &Section) {
        a.value("ice-ufrag", &self.ice.ufrag);
        a.value("ice-pwd", &self.ice.pwd);
        a.value("fingerprint", self.fingerprint);
        a.value("setup", "passive");
        a.flag("rtcp-mux");
        if section.rtcp_rsize {
            a.flag("rtcp-rsize");
        }
        if self.bundle.first() == Some(&section.mid) {
            for candidate in candidates(self.candidates, self.restarts) {
                a.value("candidate", candidate);
            }
            a.flag("end-of-candidates");
        }
    }

    fn simulcast(&self, a: &mut Attributes, accepted: &Accepted) {
        let Some(receive) = &accepted.section.receive else {
            return;
        };
        for rid in &accepted.rids {
            a.value("rid", rid);
        }
        if !receive.rids.is_empty() {
            let rids: Vec<_> = receive.rids.iter().map(|rid| rid.as_str()).collect();
            a.value("simulcast", format!("recv {}", rids.join(";")));
        }
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
fn rejected(offered: &OfferedLine) -> MediaDescription {
    let mut a = Attributes::default();
    if let Some(mid) = offered.name.mid {
        a.value("mid", mid);
    }
    a.flag("inactive");
    let formats = vec![offered.first_format.clone()];
    media(offered, 0, IpAddr::V4(Ipv4Addr::UNSPECIFIED), formats, a)
}

fn media(
    offered: &OfferedLine,
    port: u16,
    address: IpAddr,
    formats: Vec<String>,
    attributes: Attributes,
) -> MediaDescription {
    MediaDescription {
        media_name: MediaName {
            media: offered.name.media.clone(),
            port: RangedPort {
                value: isize::try_from(port).unwrap_or_default(),
                range: None,
            },
            protos: vec![offered.proto.clone()],
            formats,
        },
        connection_information: Some(ConnectionInformation {
            network_type: "IN".into(),
            address_type: if address.is_ipv4() { "IP4" } else { "IP6" }.into(),
            address: Some(Address {
                address: address.to_string(),
                ttl: None,
                range: None,
            }),
        }),
        attributes: attributes.0,
        ..MediaDescription::default()
    }
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

#[derive(Default)]
struct Attributes(Vec<Attribute>);

impl Attributes {
    fn flag(&mut self, key: &str) {
        self.0.push(Attribute::new(key.into(), None));
    }

    fn value(&mut self, key: &str, value: impl ToString) {
        self.0
            .push(Attribute::new(key.into(), Some(value.to_string())));
    }
}
