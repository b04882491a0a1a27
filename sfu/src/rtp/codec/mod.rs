//! The first bytes of each codec's payload: what a forwarder must know of a picture.

pub mod av1;
pub mod h264;
pub mod opus;
pub mod vp8;
pub mod vp9;

/// TEMP
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PictureInfo {
    /// a
    pub starts_frame: bool,
    /// a
    pub key_frame: bool,
    /// a
    pub picture_id: Option<u16>,
    /// a
    pub tl0_pic_idx: Option<u8>,
    /// a
    pub frame_number: Option<u16>,
}
/// TEMP
pub fn inspect(_c: crate::media::Codec, _p: &[u8], _d: Option<&[u8]>) -> Option<PictureInfo> {
    None
}
