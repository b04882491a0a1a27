//! Which simulcast encodings an m-line agrees on (RFC 8853, RFC 8851).

use super::attribute::{integer, words};
use crate::negotiated::MAX_ENCODINGS;
use crate::types::Rid;

/// The restrictions of an `a=rid` that an answer may repeat (RFC 8851 section 5). A restriction
/// that is not understood takes its `rid` out of the answer (section 6.2).
const RESTRICTIONS: [&str; 7] = [
    "max-width",
    "max-height",
    "max-fps",
    "max-fs",
    "max-br",
    "max-pps",
    "max-bpp",
];

/// One `a=rid:… send`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OfferedRid {
    rid: Rid,
    /// The payload types it may use; all when empty.
    payload_types: Vec<u8>,
    /// The other restrictions, as they are to be repeated.
    restrictions: Vec<String>,
}

/// The encodings that the client is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Simulcast {
    /// In the order the client lists them. Not empty.
    pub(super) rids: Vec<Rid>,
    /// The values of the answer's `a=rid`.
    pub(super) attributes: Vec<String>,
}

impl OfferedRid {
    /// From the value of `a=rid`. `None` for what the client does not send or we do not
    /// understand.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = words(value);
        let rid = rid(words.next()?)?;
        words.next().filter(|&direction| direction == "send")?;
        let mut offered = OfferedRid {
            rid,
            payload_types: Vec::new(),
            restrictions: Vec::new(),
        };
        let parameters = words.next().unwrap_or_default().split(';');
        for parameter in parameters.filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=')?;
            if key == "pt" {
                offered.payload_types = value.split(',').map(integer).collect::<Option<_>>()?;
            } else {
                let is_number = value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                if !RESTRICTIONS.contains(&key) || value.is_empty() || !is_number {
                    return None;
                }
                offered.restrictions.push(parameter.to_owned());
            }
        }
        Some(offered)
    }

    /// The value of the answer's `a=rid`, unless the `rid` is restricted to payload types that
    /// were not accepted.
    fn answer(&self, accepted: &[u8]) -> Option<String> {
        let mut parameters = self.restrictions.clone();
        if !self.payload_types.is_empty() {
            let common: Vec<_> = self
                .payload_types
                .iter()
                .filter(|pt| accepted.contains(pt))
                .map(u8::to_string)
                .collect();
            if common.is_empty() {
                return None;
            }
            parameters.insert(0, format!("pt={}", common.join(",")));
        }
        let separator = if parameters.is_empty() { "" } else { " " };
        Some(format!(
            "{} recv{separator}{}",
            self.rid,
            parameters.join(";")
        ))
    }
}

impl Simulcast {
    /// Answers `a=simulcast`. Of alternatives the first usable one is taken; a paused encoding is
    /// accepted like any other, since it may resume. `None` when no encoding can be used, and the
    /// m-line is one plain stream.
    pub(super) fn negotiate(simulcast: &str, rids: &[OfferedRid], accepted: &[u8]) -> Option<Self> {
        let mut agreed = Simulcast {
            rids: Vec::new(),
            attributes: Vec::new(),
        };
        for alternatives in send_streams(simulcast)?.split(';') {
            let usable = alternatives.split(',').find_map(|name| {
                let rid = rid(name.trim_start_matches('~'))?;
                let offered = rids.iter().find(|offered| offered.rid == rid)?;
                Some((rid, offered.answer(accepted)?))
            });
            if let Some((rid, attribute)) = usable
                && !agreed.rids.contains(&rid)
            {
                agreed.rids.push(rid);
                agreed.attributes.push(attribute);
            }
            if agreed.rids.len() == MAX_ENCODINGS {
                break;
            }
        }
        (!agreed.rids.is_empty()).then_some(agreed)
    }
}

/// The stream list of the `send` direction, if it is not in the spelling of old drafts,
/// `send rid=a;b`.
fn send_streams(simulcast: &str) -> Option<&str> {
    let mut words = words(simulcast);
    while let (Some(direction), Some(streams)) = (words.next(), words.next()) {
        if direction == "send" {
            return Some(streams).filter(|streams| !streams.contains('='));
        }
    }
    None
}

/// A `rid` has letters, digits, hyphens and underscores (RFC 8851 section 10).
fn rid(text: &str) -> Option<Rid> {
    let is_rid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.bytes().all(is_rid).then(|| Rid::new(text).ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    fn agreed(simulcast: &str, rids: &[&str]) -> Vec<String> {
        let rids: Vec<_> = rids
            .iter()
            .filter_map(|rid| OfferedRid::parse(rid))
            .collect();
        let simulcast = Simulcast::negotiate(simulcast, &rids, &[96, 98]);
        if let Some(simulcast) = &simulcast {
            assert_eq!(simulcast.rids.len(), simulcast.attributes.len());
        }
        simulcast.map_or_else(Vec::new, |simulcast| simulcast.attributes)
    }

    #[test]
    fn encodings_are_taken_as_listed() {
        let plain = ["q send", "h send", "f send", "x send"];
        let cases: [(&str, &[&str]); 9] = [
            ("send q;h;f", &["q recv", "h recv", "f recv"]),
            ("send f;h;q;x", &["f recv", "h recv", "q recv"]),
            ("recv a;b send q;h", &["q recv", "h recv"]),
            ("send ~q;h", &["q recv", "h recv"]),
            ("send q,x;nobody,~h", &["q recv", "h recv"]),
            ("send q;q;h", &["q recv", "h recv"]),
            ("send nobody", &[]),
            ("send rid=q;h", &[]),
            ("recv q;h", &[]),
        ];
        for (simulcast, expected) in cases {
            assert_eq!(agreed(simulcast, &plain), expected, "{simulcast}");
        }
    }

    #[test]
    fn restrictions_are_honoured() {
        let cases: [(&str, &[&str]); 8] = [
            ("q send pt=96", &["q recv pt=96"]),
            ("q send pt=97,96", &["q recv pt=96"]),
            ("q send pt=97", &[]),
            ("q send pt=x", &[]),
            (
                "q send max-width=320;max-fps=29.97",
                &["q recv max-width=320;max-fps=29.97"],
            ),
            ("q send max-br=1;pt=98", &["q recv pt=98;max-br=1"]),
            ("q send depend=h", &[]),
            ("q recv", &[]),
        ];
        for (rid, expected) in cases {
            assert_eq!(agreed("send q", &[rid]), expected, "{rid}");
        }
    }
}
