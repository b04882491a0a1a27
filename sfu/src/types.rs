//! The small types everything else speaks in: identifiers and units.

use std::fmt;
use std::str::FromStr;

/// Longest `mid` we accept, in bytes: a UUID with a prefix fits. SDP has no limit (RFC 5888 section 4),
/// a two-byte header extension can carry 255 (RFC 8285 section 4.3).
pub const MAX_MID_LEN: usize = 64;

/// Longest `mid` that a one-byte header extension can carry, in bytes (RFC 8285 section 4.2).
pub const MAX_SHORT_MID_LEN: usize = 16;

/// Longest `rid` we accept, in bytes: what a one-byte header extension can carry, and what browsers
/// take.
pub const MAX_RID_LEN: usize = 16;

/// A room. Chosen by the caller of the SFU; unique among the rooms that exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RoomId(pub u64);

/// One client's connection. Chosen by the caller of the SFU; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PeerId(pub u64);

/// Who is behind several connections of a room. Chosen by the caller of the SFU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PersonId(pub u64);

/// A published track. Chosen by the SFU; never used twice. Displays as `t_` and hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TrackId(pub u64);

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t_{:x}", self.0)
    }
}

impl FromStr for TrackId {
    type Err = InvalidId;

    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let digits = s.strip_prefix("t_").ok_or(InvalidId)?;
        // `from_str_radix` takes a sign, which our own `Display` never writes.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidId);
        }
        u64::from_str_radix(digits, 16)
            .map(TrackId)
            .map_err(|_| InvalidId)
    }
}

/// A worker, by its place among those of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkerIndex(pub usize);

/// A slot, by its place among those of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SlotIndex(pub usize);

/// An encoding of a track in several (simulcast), by its place in the offer; 0 where there is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct EncodingIndex(pub u8);

impl EncodingIndex {
    /// All there can be, in their order.
    pub(crate) fn all() -> impl Iterator<Item = EncodingIndex> {
        (0..=u8::MAX).map(EncodingIndex)
    }
}

impl From<EncodingIndex> for usize {
    fn from(index: EncodingIndex) -> usize {
        usize::from(index.0)
    }
}

/// A synchronisation source (RFC 3550 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ssrc(pub u32);

/// The text was not an identifier of the wanted kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a valid identifier")]
pub struct InvalidId;

/// Up to `MAX` bytes of visible ASCII, kept inline so that it is `Copy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SdesId<const MAX: usize> {
    len: u8,
    bytes: [u8; MAX],
}

impl<const MAX: usize> SdesId<MAX> {
    fn new(text: &[u8]) -> Result<Self, InvalidId> {
        if text.is_empty() || text.len() > MAX || !text.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidId);
        }
        let mut bytes = [0; MAX];
        bytes[..text.len()].copy_from_slice(text);
        Ok(SdesId {
            len: text.len() as u8,
            bytes,
        })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

macro_rules! sdes_id {
    ($(#[$doc:meta])* $name:ident, $max:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SdesId<$max>);

        impl $name {
            /// From the bytes of a header extension or an SDP attribute.
            ///
            /// # Errors
            #[doc = concat!("When empty, longer than [`", stringify!($max), "`], or not visible ASCII.")]
            pub fn new(text: impl AsRef<[u8]>) -> Result<Self, InvalidId> {
                SdesId::new(text.as_ref()).map($name)
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// As the bytes of a header extension.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(s: &str) -> Result<Self, InvalidId> {
                $name::new(s)
            }
        }
    };
}

sdes_id!(
    /// Names an m-line (RFC 9143).
    Mid, MAX_MID_LEN
);
sdes_id!(
    /// Names a simulcast encoding within an m-line (RFC 8851).
    Rid, MAX_RID_LEN
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn track_ids_survive_a_round_trip_and_nothing_else_parses() {
        let id = TrackId(0xfeed_beef);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "t_", "feed", "t_+1", "t_10000000000000000", "t_xyz"] {
            assert_eq!(bad.parse::<TrackId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn sdes_ids_are_bounded_visible_ascii() {
        let longest = "m".repeat(MAX_MID_LEN);
        assert_eq!(Mid::new(&longest).map(|m| m.to_string()), Ok(longest));
        let rid = Rid::new("0123456789abcdef").map(|rid| rid.to_string());
        assert_eq!(rid, Ok("0123456789abcdef".into()));
        for bad in [&b""[..], &[b'm'; MAX_MID_LEN + 1], b"a b", b"\xff"] {
            assert_eq!(Mid::new(bad), Err(InvalidId));
            assert_eq!(Rid::new(bad), Err(InvalidId));
        }
        assert_eq!(Rid::new("0123456789abcdefg"), Err(InvalidId));
    }
}
