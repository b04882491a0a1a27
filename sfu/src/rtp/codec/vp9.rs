//! To come.
/// T
pub fn add_to_picture_ids(_p: &mut [u8], _a: u16, _b: u8) {}
