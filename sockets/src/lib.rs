//! What both planes, media and signaling, need of sockets.
//!
//! - [`listener`]: TCP listeners, with limits on connections and on those that say nothing
//! - [`subscriber`]: which addresses are one client's, and how much each client has; [`cidr`]: ranges of them
//! - [`ready`]: which of many sockets have something to do
//! - [`memory`]: datagrams between the parts of this process, past the kernel
//! - [`udp`]: UDP sockets, read and written in batches; [`runs`]: what is to be written, gathered;
//!   [`batch`]: many datagrams to many destinations in one system call
//! - [`fragments`]: datagrams that are longer than a path takes
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod batch;
pub mod cidr;
pub mod fragments;
pub mod listener;
pub mod memory;
pub mod ready;
pub mod runs;
pub mod subscriber;
pub mod udp;
