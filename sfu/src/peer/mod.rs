//! One client's connection.

pub mod dtls;
pub mod ice;
pub mod sdp;
pub mod srtp;
pub mod stun;
