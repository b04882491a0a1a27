//! A UDP socket of the worker, one of many: it wakes the worker when something has come.

use std::io;
use std::net::UdpSocket;
use std::task::{Context, Waker};

use confab_sockets::udp::{Arrival, Buffers, Socket};

#[derive(Debug)]
pub(super) struct DatagramSocket {
    socket: Socket,
    waker: Waker,
}

impl DatagramSocket {
    /// Takes a bound socket over; within a tokio runtime. `waker` is woken when there is something
    /// to receive.
    pub(super) fn new(socket: UdpSocket, dont_fragment: bool, waker: Waker) -> io::Result<Self> {
        let socket = Socket::new(socket, dont_fragment)?;
        Ok(DatagramSocket { socket, waker })
    }

    /// The socket itself, to send from.
    pub(super) fn get_ref(&self) -> &UdpSocket {
        self.socket.get_ref()
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`. Wakes its waker
    /// if there may be more.
    ///
    /// # Errors
    /// When an earlier datagram could not be delivered; the socket itself is well.
    pub(super) fn receive(
        &self,
        buffers: &mut Buffers,
        mut handle: impl FnMut(Arrival, &[u8]),
    ) -> io::Result<()> {
        let received = self
            .socket
            .receive(buffers, |arrival, datagram| handle(arrival, datagram));
        let is_drained = matches!(received, Ok(false));
        let mut context = Context::from_waker(&self.waker);
        if !is_drained || self.socket.is_ready(&mut context) {
            self.waker.wake_by_ref();
        }
        received.map(drop)
    }
}
