//! The media plane: RTP in, RTP out. It knows rooms, tracks and slots, but nothing of signaling.
//!
//! ```text
//! socket ─ demux ─ peer: ICE │ DTLS │ SRTP open ─ publication ─ feed ─ slot ─ pacer ─ SRTP seal ─ socket
//! ```
//!
//! Its folders are floors, and imports go down: [`net`], [`worker`] beside [`control`], [`peer`],
//! [`subscribe`], [`send`], [`srtp`], [`publish`], [`bandwidth`], [`negotiated`], [`rtp`], [`api`]. The test
//! `rooms` reads the imports.
//!
//! How a packet travels, and where to read of it:
//!
//! 1. [`net::udp`] receives a batch of datagrams, [`net::tcp`] cuts connections into packets,
//!    [`net::relay`] takes what this process's own relay hands over; `worker/demux.rs` finds the peer each
//!    is from, by the [`path`] it came by. A path belongs to the peer who has proved to be there, not to who
//!    says so (`worker/claims.rs`).
//! 2. [`peer`] is one client's connection: [`peer::ice`] proves where it is, [`peer::dtls`] agrees on
//!    keys, [`srtp`] opens the packet, [`peer::receive`] finds out which stream it belongs to.
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
//! 5. [`send::egress`] writes the packet, the pacer ([`send::pacing`]) says when it may leave, and then it
//!    is sealed into [`send::outbox`], whose runs leave in few system calls.
//!
//! What the path to a client carries is found out by [`bandwidth`] from what the client tells of the
//! packets that left, and divided among its slots by [`peer::allocate`], from the layers that
//! [`publish::meter`] has measured and by the rules of [`subscribe::allocation`]. What nobody receives
//! the publisher need not send ([`publish::wanted_layers`]).
//!
//! The controller ([`control`]) sees no packet: it puts peers on workers, and tracks into slots. [`Sfu`] is
//! the handle to all of it. Everything below [`net`] and [`sfu`] is sans-I/O: input and time go in, output
//! and the next deadline come out.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "a test begins at some time, and may play the network"
    )
)]

pub mod api;
mod bandwidth;
pub mod clock;
pub mod config;
mod control;
pub mod media;
mod negotiated;
mod net;
pub mod path;
mod peer;
mod publish;
mod rtp;
mod send;
mod sfu;
mod srtp;
mod subscribe;
pub mod types;
pub mod units;
mod worker;

/// What tests, fuzz targets and calls in virtual time look at. No part of the interface.
#[doc(hidden)]
#[allow(missing_docs, reason = "as the modules of the same names")]
pub mod inside {
    pub mod bandwidth {
        pub use crate::bandwidth::{estimator, feedback, sent};
    }
    pub mod control {
        pub use crate::control::{Controller, messages};
    }
    pub mod negotiated {
        pub use crate::negotiated::{Section, match_payload};
    }
    pub mod net {
        pub use crate::net::framing;
    }
    pub mod peer {
        pub use crate::peer::{dtls, ice, sdp, stun};
    }
    pub mod publish {
        pub use crate::publish::{repair, unwrap};
    }
    pub mod rtp {
        pub use crate::rtp::{codec, extension, fec, packet, red, rtcp, sequence};
    }
    pub mod srtp {
        pub use crate::srtp::{MAX_SRTP_TRAILER, SrtpProfile, SrtpReceiver, SrtpSender};
    }
    pub mod worker {
        pub use crate::worker::{Shared, Worker, mailbox};
    }
}

pub use api::{
    Answer, CommandError, DtlsFailure, Event, GoneReason, Offer, OfferError, PeerStats, Publish,
    Refusal, Reply, Request, SlotChoice, SlotInfo, Stats, StreamStats, TrackInfo, WorkerStats,
};
pub use confab_sockets::udp::SOCKET_BUFFER;
pub use config::Config;
pub use negotiated::MAX_LINES;
pub use net::relay::{MediaLink, RelayQueues};
pub use net::tcp_dispatcher::TcpDispatcher;
pub use peer::sdp::MAX_SDP_BYTES;
pub use sfu::{Sfu, StartError};
