//! A video of any bitrate, made up: its packets are as a VP8 encoder's would be, its pictures are
//! noise. For load, where nobody looks.

use std::io;
use std::path::{Path, PathBuf};

use rand::RngCore;

/// A made-up video.
#[derive(Clone, Copy, Debug)]
pub struct MadeUpVideo {
    /// Bits a second.
    pub bitrate: u32,
    /// Frames a second.
    pub frame_rate: u32,
}

/// Length of the loop, and the distance between key frames, in seconds.
const SECONDS: u32 = 2;

impl MadeUpVideo {
    /// Writes the video as an IVF file and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join(format!(
            "made-up-{}-{}-{}.ivf",
            self.bitrate,
            self.frame_rate,
            std::process::id()
        ));
        std::fs::write(&path, self.ivf())?;
        Ok(path)
    }

    fn ivf(&self) -> Vec<u8> {
        let mut file = b"DKIF\0\0\x20\0VP80\x80\x02\x68\x01".to_vec();
        file.extend(self.frame_rate.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([0; 8]);
        let frame_size = (self.bitrate / self.frame_rate / 8).max(16) as usize;
        for index in 0..SECONDS * self.frame_rate {
            // The frame tag, and of a key frame the start code and a size of 640x360 (RFC 6386
            // section 9.1).
            let header: &[u8] = match index {
                0 => &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01],
                _ => &[0x11, 0, 0],
            };
            let mut frame = vec![0; frame_size];
            rand::rng().fill_bytes(&mut frame);
            frame[..header.len()].copy_from_slice(header);
            file.extend((frame_size as u32).to_le_bytes());
            file.extend(u64::from(index).to_le_bytes());
            file.extend(frame);
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_bitrate_asked_for() {
        let video = MadeUpVideo {
            bitrate: 1_000_000,
            frame_rate: 25,
        };
        let frames = 2 * 25;
        let expected = 32 + frames * (12 + 1_000_000 / 25 / 8);
        assert_eq!(video.ivf().len(), expected);
    }
}
