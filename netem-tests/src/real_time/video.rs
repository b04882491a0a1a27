//! The picture that a bot sends: its encoder is a file.
//!
//! In: the picture's size and rate, and whether a browser is to show it. Out: an IVF file of VP8. What
//! no browser shows is made up, which costs nothing; the rest is encoded by ffmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use confab_bot::MadeUpVideo;

use super::RunError;
use crate::scenario::{Participant, Size};

/// Bits a second, unless a scenario says otherwise.
const BITRATE: u64 = 600_000;

/// Frames a second.
const FRAME_RATE: u32 = 30;

/// How long it is until it begins anew, and how far its key frames are apart: as
/// client-demo/bot/make-test-media.sh has it.
const SECONDS: u32 = 4;
const KEY_FRAME_INTERVAL: u32 = 60;

/// Makes the picture of a participant, if it sends one, once for all who send the same in any run.
pub(super) fn make(
    participant: &Participant,
    is_watched: bool,
    dir: &Path,
) -> Result<Option<PathBuf>, RunError> {
    let Some(size) = participant.video else {
        return Ok(None);
    };
    let bitrate = participant.video_bitrate.unwrap_or(BITRATE);
    let Size { width, height } = size;
    let how = if is_watched { "encoded" } else { "made-up" };
    let file = dir.join(format!("{how}-{width}x{height}-{bitrate}.ivf"));
    if !file.exists() {
        match is_watched {
            true => encode(participant, size, bitrate, &file)?,
            false => make_up(bitrate, dir, &file)?,
        }
    }
    Ok(Some(file))
}

fn make_up(bitrate: u64, dir: &Path, file: &Path) -> Result<(), RunError> {
    let video = MadeUpVideo {
        bitrate: u32::try_from(bitrate).unwrap_or(u32::MAX),
        frame_rate: FRAME_RATE,
    };
    let made = video.write(dir).and_then(|made| fs::rename(made, file));
    made.map_err(cannot_write(file))
}

fn cannot_write(file: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = file.to_owned();
    |error| RunError::Write { path, error }
}

/// A moving test picture. Zero lag and no alternate reference frames: one frame in, one out.
fn encode(
    participant: &Participant,
    Size { width, height }: Size,
    bitrate: u64,
    file: &Path,
) -> Result<(), RunError> {
    // Whoever ends ffmpeg leaves no half of a picture for the next run.
    let part = file.with_extension("part");
    let rate = bitrate.to_string();
    let keys = KEY_FRAME_INTERVAL.to_string();
    let source = format!("testsrc2=size={width}x{height}:rate={FRAME_RATE}");
    let mut command = Command::new("ffmpeg");
    command
        .args([
            "-nostdin",
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            &source,
        ])
        .args(["-t", &SECONDS.to_string(), "-pix_fmt", "yuv420p"])
        .args(["-g", &keys, "-keyint_min", &keys])
        .args(["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"])
        .args(["-lag-in-frames", "0", "-auto-alt-ref", "0"])
        .args(["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate])
        .args(["-bufsize", &rate, "-f", "ivf", "-y"])
        .arg(&part);
    let why = match command.status() {
        Ok(status) if status.success() => {
            return fs::rename(&part, file).map_err(cannot_write(file));
        }
        Ok(status) => format!("ffmpeg made no picture for it: {status}"),
        Err(error) => format!("ffmpeg makes its picture, and cannot be run: {error}"),
    };
    Err(RunError::Client {
        name: participant.name.clone(),
        why,
    })
}
