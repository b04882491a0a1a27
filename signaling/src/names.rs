//! Names and ids that clients see: of rooms, participants and tracks.

use std::fmt;
use std::str::FromStr;

use confab_sfu::types::InvalidId;

use crate::protocol::{ErrorCode, Failure};

/// Longest name of a room, in bytes.
pub const MAX_ROOM_NAME_LEN: usize = 64;

/// Longest name of a participant or a track, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// Someone in a room. Displays as `p_` and hexadecimal; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ParticipantId(pub u64);

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p_{:x}", self.0)
    }
}

impl FromStr for ParticipantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix("p_").ok_or(InvalidId)?;
        if digits.starts_with('+') {
            return Err(InvalidId);
        }
        u64::from_str_radix(digits, 16)
            .map(ParticipantId)
            .map_err(|_| InvalidId)
    }
}

/// A room's name that keeps to the rules.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RoomName(String);

impl RoomName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let visible = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > MAX_ROOM_NAME_LEN || !text.bytes().all(visible) {
            return Err(Failure::new(
                ErrorCode::BadRoom,
                format!(
                    "A room's name is 1 to {MAX_ROOM_NAME_LEN} of the letters A to Z and a to z, \
                     digits, `_` and `-`."
                ),
            ));
        }
        Ok(RoomName(text.to_owned()))
    }
}

/// Checks the name of a participant or a track.
///
/// # Errors
/// When it is not 1 to [`MAX_NAME_CHARS`] visible characters.
pub fn check_name(name: &str) -> Result<(), Failure> {
    // Direction overrides would let one name rewrite the line it is shown in.
    let overrides = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let hidden = name.chars().any(|c| c.is_control() || overrides(c));
    if name.trim().is_empty() || hidden || name.chars().nth(MAX_NAME_CHARS).is_some() {
        return Err(Failure::new(
            ErrorCode::BadName,
            format!("A name is 1 to {MAX_NAME_CHARS} visible characters."),
        ));
    }
    Ok(())
}
