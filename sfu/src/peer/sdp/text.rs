//! A session description as lines (RFC 8866), as far as an offer is read: what is on its `m=` lines
//! and in its attributes.
//!
//! In: the text of an offer. Out: [`Description`]. All other lines (`o=`, `b=`, `t=`, `k=`, those with
//! letters that nobody knows) say nothing that a media server goes by, so whatever stands on them
//! refuses nothing: applications write `b=AS:-1`, and numbers of any length into `o=`.

use crate::api::{SdpError, quote};

/// The one version there is (RFC 8866 section 5.1).
const VERSION: &str = "v=0";
/// Fields of an `m=` line at least: media, port, profile and one format (RFC 8866 section 5.14).
const MEDIA_FIELDS: usize = 4;

/// The attributes of the session, and its m-lines.
#[derive(Debug, Default)]
pub(super) struct Description {
    pub(super) attributes: Vec<Attribute>,
    pub(super) media: Vec<Media>,
}

/// One `m=` line with what belongs to it.
#[derive(Debug)]
pub(super) struct Media {
    /// `audio`, `video`, `application`, …
    pub(super) media: String,
    /// Its port is 0.
    pub(super) is_port_zero: bool,
    /// The profile: `UDP/TLS/RTP/SAVPF`.
    pub(super) proto: String,
    pub(super) formats: Vec<String>,
    pub(super) attributes: Vec<Attribute>,
}

/// One `a=` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attribute {
    pub(super) key: String,
    /// What follows the colon, if there is one.
    pub(super) value: Option<String>,
}

impl Attribute {
    pub(super) fn new(key: String, value: Option<String>) -> Self {
        Attribute { key, value }
    }

    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((key, value)) => Attribute::new(key.to_owned(), Some(value.to_owned())),
            None => Attribute::new(text.to_owned(), None),
        }
    }
}

impl Description {
    /// Reads the text, whether its lines end with CR LF as they should, with LF or with CR; lines with
    /// nothing on them are skipped.
    pub(super) fn parse(text: &str) -> Result<Self, SdpError> {
        let lines = text.trim_start_matches('\u{feff}').split(['\r', '\n']);
        let mut lines = lines.map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some(VERSION) {
            let missing = format!("it does not begin with {VERSION}");
            return Err(SdpError::Syntax(missing));
        }
        let mut description = Description::default();
        for line in lines {
            let bad = || SdpError::Syntax(format!("it has the line \"{}\"", quote(line)));
            let (letter, value) = line.split_once('=').ok_or_else(bad)?;
            match letter {
                "a" => {
                    let attributes = match description.media.last_mut() {
                        Some(media) => &mut media.attributes,
                        None => &mut description.attributes,
                    };
                    attributes.push(Attribute::parse(value));
                }
                "m" => description.media.push(Media::parse(value).ok_or_else(bad)?),
                _ if letter.len() == 1 => {}
                _ => return Err(bad()),
            }
        }
        Ok(description)
    }
}

impl Media {
    fn parse(value: &str) -> Option<Self> {
        let fields: Vec<&str> = value.split_whitespace().collect();
        let [media, port, proto, formats @ ..] = &fields[..] else {
            return None;
        };
        if formats.len() < MEDIA_FIELDS - 3 {
            return None;
        }
        // The number of ports that may follow is of layered RTP without bundling.
        let port = port.split('/').next().unwrap_or_default();
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Media {
            media: (*media).to_owned(),
            is_port_zero: port.bytes().all(|b| b == b'0'),
            proto: (*proto).to_owned(),
            formats: formats.iter().map(ToString::to_string).collect(),
            attributes: Vec::new(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    #[test]
    fn any_ending_of_lines_reads_the_same() {
        let lines = [
            "v=0",
            "o=- 1 1 IN IP4 0",
            "a=group:BUNDLE 0",
            "",
            "m=audio 9 X 0",
            "a=mid:0",
            "",
        ];
        for end in ["\r\n", "\n", "\r", " \r\n", "\r\r\n"] {
            let text = lines.join(end);
            let read = Description::parse(&text).unwrap();
            let group = Attribute::parse("group:BUNDLE 0");
            assert_eq!(read.attributes, [group], "{end:?}");
            assert_eq!(read.media[0].attributes, [Attribute::parse("mid:0")]);
        }
        assert!(Description::parse("\u{feff}v=0\r\n").is_ok());
    }

    #[test]
    fn lines_that_nobody_goes_by_refuse_nothing() {
        for line in [
            "o=",
            "o=x 123456789012345678901234567890 -1 IN IP4 ::1",
            "s=",
            "u=not a url",
            "c=IN",
            "b=AS:-1",
            "b=TIAS:99999999999999999999999",
            "b=RS",
            "t=18446744073709551616 -1",
            "r=7d 1h 0 25h x",
            "z=1",
            "k=prompt",
            "y=0100008888",
            "f=v/2/4/25/1/4000a/1/8/1",
        ] {
            for text in [
                format!("v=0\r\n{line}\r\nm=audio 9 X 0\r\n"),
                format!("v=0\r\nm=audio 9 X 0\r\n{line}\r\na=mid:0\r\n"),
            ] {
                assert_eq!(Description::parse(&text).unwrap().media.len(), 1, "{line}");
            }
        }
    }

    #[test]
    fn what_has_no_lines_of_sdp_is_refused_with_the_line() {
        for (text, named) in [
            ("", "v=0"),
            ("v=1\r\n", "v=0"),
            ("o=- 1 1 IN IP4 0\r\nv=0\r\n", "v=0"),
            ("v=0\r\nhello\r\n", "the line \"hello\""),
            ("v=0\r\n\r\nabc=1\r\n", "the line \"abc=1\""),
            ("v=0\r\nm=audio 9 X\r\n", "m=audio 9 X"),
            ("v=0\r\nm=audio nine X 0\r\n", "nine"),
            ("v=0\r\nm=audio /2 X 0\r\n", "/2"),
        ] {
            let error = Description::parse(text).unwrap_err();
            assert_eq!(error.code(), "bad_sdp");
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn ports_are_zero_or_not() {
        let zero = |port: &str| {
            let media = Media::parse(&format!("audio {port} X 0"));
            media.map(|media| media.is_port_zero)
        };
        assert_eq!(zero("0"), Some(true));
        assert_eq!(zero("9"), Some(false));
        assert_eq!(zero("9/2"), Some(false));
        assert_eq!(zero("99999999999999999999"), Some(false));
        assert_eq!(zero("-1"), None);
    }
}
