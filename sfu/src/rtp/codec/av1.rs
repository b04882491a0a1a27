//! To come.
/// T
pub fn add_to_frame_number(_p: &mut [u8], _a: u16) {}
