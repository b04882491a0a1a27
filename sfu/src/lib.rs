//! The media plane: RTP in, RTP out. It knows rooms, tracks and slots, but nothing of signaling.
//!
//! ```text
//! socket ─ demux ─ peer: ICE │ DTLS │ SRTP open ─ publication ─ feed ─ slot ─ pacer ─ SRTP seal ─ socket
//! ```
//!
//! How a packet travels, and where to read of it:
//!
//! 1. [`worker::udp`] receives a batch of datagrams, [`worker::tcp`] cuts connections into packets,
//!    [`worker::relay`] takes what this process's own relay hands over; `worker/demux.rs` finds the peer each is from, by the [`way`] it came.
//!    A way belongs to the peer who has proved to be there, not to who says so (`worker/claims.rs`).
//! 2. [`peer`] is one client's connection: [`peer::ice`] proves where it is, [`peer::dtls`] agrees on
//!    keys, [`peer::srtp`] opens the packet, [`peer::receive`] finds out which stream it belongs to.
//!    Nothing is known of an address but what its client alone can have made there: SRTP, DTLS, answers to
//!    our checks. Until then it gets three times what came from it.
//! 3. [`publish`] is a track as it is published: [`publish::receive`] makes plain media of its
//!    packets and of what RED and FEC give back, [`publish::encoding`] numbers them,
//!    [`publish::nack`] and [`publish::keyframe`] ask for what is missing, [`publish::feed`] keeps
//!    them for every subscriber on the worker, and the mailbox ([`worker::mailbox`]) hands them to
//!    workers that have more.
//! 4. [`subscribe`] is a track as one subscriber gets it: [`subscribe::slot`] is a receive m-line,
//!    [`subscribe::layer`] picks the encoding, [`subscribe::rewrite`] renumbers,
//!    [`subscribe::retransmit`] answers NACKs, and [`subscribe::protect`] makes FEC.
//!    [`subscribe::policy`] decides what is used against loss.
//! 5. [`peer::egress`] writes the packet, the pacer ([`peer::pacing`]) says when it may leave, and then it
//!    is sealed into [`worker::outbox`], whose runs leave in few system calls.
//!
//! What the way to a client carries is found out by [`bandwidth`] from what the client tells of the
//! packets that left, and divided among its slots by [`peer::allocate`], from the layers that
//! [`publish::meter`] has measured and by the rules of [`subscribe::allocation`]. What nobody receives
//! the publisher need not send ([`publish::thrift`]).
//!
//! [`control`] is the head that sees no packet: it puts peers on workers and, with [`room`], tracks
//! into slots. [`Sfu`] is the handle to all of it. Everything but [`worker::run`], [`worker::udp`],
//! [`worker::tcp`], [`worker::relay`], [`tcp_door`] and [`sfu`] is sans-I/O: input and time go in, output and the next
//! deadline come out.

pub mod api;
pub mod bandwidth;
pub mod clock;
pub mod config;
pub mod control;
pub mod media;
pub mod negotiated;
pub mod net;
pub mod peer;
pub mod publish;
pub mod rtp;
pub mod send;
pub mod sfu;
pub mod srtp;
pub mod subscribe;
pub mod types;
pub mod units;
pub mod way;
pub mod worker;

pub use api::{
    Answer, CommandError, DtlsFailure, Event, GoneReason, Offer, OfferError, PeerStats, Publish,
    SlotChoice, SlotInfo, Stats, StreamStats, TrackInfo, WorkerStats,
};
pub use config::Config;
pub use sfu::{Sfu, StartError};
