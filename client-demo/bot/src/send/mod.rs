//! What a bot sends: encoded frames from a source, and those frames as RTP packets.

pub(crate) mod audio;
pub(crate) mod codec;
pub(crate) mod made_up;
pub(crate) mod packetize;
pub(crate) mod speech;
pub(crate) mod stream;
pub(crate) mod video;

use std::path::Path;

use crate::BotError;

/// Reads a file that is not longer than `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, BotError> {
    let failed = |reason: String| BotError::Media {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > limit {
        return Err(failed(format!(
            "it has {size} bytes, more than the {limit} allowed"
        )));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}
