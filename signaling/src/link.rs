//! Links that lead into a room.
//!
//! A room's page is at `/NAME`. A token goes behind the hash, which browsers send to nobody, so that it
//! is in no server's log. Names that are something else there have their page at `/?room=NAME`.

use crate::names::RoomName;

/// What is no room at the top of the address: endpoints, folders of the page, and what operators put
/// there.
const RESERVED: [&str; 8] = [
    "v1", "whip", "whep", "sdk", "health", "metrics", "api", "rtc",
];

/// The room whose page is at this path, if one is. A slash at the end is let go.
pub(crate) fn room_at(path: &str) -> Option<RoomName> {
    let name = path.strip_prefix('/')?;
    let name = name.strip_suffix('/').unwrap_or(name);
    let room = name.parse().ok()?;
    (!is_reserved(name)).then_some(room)
}

fn is_reserved(name: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// The link to a room, from where the server is (`https://call.example.org`, without a slash at its
/// end) or, if that is empty, from its root.
#[must_use]
pub fn link(base: &str, room: &RoomName, token: Option<&str>) -> String {
    let name = room.as_str();
    let path = match is_reserved(name) {
        true => format!("?room={name}"),
        false => name.to_owned(),
    };
    let slash = if base.is_empty() { "" } else { "/" };
    // None of its characters mean anything in a fragment (RFC 7515 section 7.1).
    let fragment = token.map_or(String::new(), |token| format!("#token={token}"));
    format!("{base}{slash}{path}{fragment}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    #[test]
    fn a_room_has_a_page_unless_its_name_is_something_else() {
        for (path, room) in [
            ("/kitchen", Some("kitchen")),
            ("/kitchen/", Some("kitchen")),
            ("/K-1_2", Some("K-1_2")),
            ("/", None),
            ("//", None),
            ("/index.html", None),
            ("/check.html", None),
            ("/metrics", None),
            ("/Metrics", None),
            ("/sdk/", None),
            ("/v1", None),
            ("/whip/kitchen", None),
            ("/k%69tchen", None),
        ] {
            let at = room_at(path);
            assert_eq!(at.as_ref().map(RoomName::as_str), room, "{path}");
        }
    }

    #[test]
    fn a_link_leads_to_the_page_and_keeps_the_token_from_servers() {
        let base = "https://call.example.org";
        for (base, room, token, expected) in [
            (base, "kitchen", None, "https://call.example.org/kitchen"),
            (
                base,
                "kitchen",
                Some("a.b-c.d_e"),
                "https://call.example.org/kitchen#token=a.b-c.d_e",
            ),
            (base, "sdk", None, "https://call.example.org/?room=sdk"),
            ("", "kitchen", Some("t"), "kitchen#token=t"),
            ("", "v1", Some("t"), "?room=v1#token=t"),
        ] {
            assert_eq!(link(base, &room.parse().unwrap(), token), expected);
        }
    }
}
