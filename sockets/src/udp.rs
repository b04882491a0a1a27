//! UDP sockets: datagrams in and out in batches.
//!
//! In: whatever has come, many datagrams a call (several coalesced into one buffer, GRO), each with where
//! it came from and to which of our addresses. Out: runs of datagrams to many destinations in few calls,
//! and what has become of each.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, UdpGsoSegment};
use nix::sys::socket::{getsockopt, setsockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::batch::{Batch, Message};
use crate::runs::MAX_SEGMENTS;

/// Kernel buffer asked for in each direction of a socket that clients send to, in bytes: 50 ms of a
/// gigabit, so that a burst to or from many peers is not lost while the worker does something else. The
/// system may give less (`net.core.rmem_max`, `net.core.wmem_max`).
pub const SOCKET_BUFFER: usize = 6 * 1024 * 1024;

/// Room for one receive, in bytes: what GRO can coalesce.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// How long [`wait_for_room`] waits at once: the kernel sends a full buffer of [`SOCKET_BUFFER`] in 50 ms
/// at a gigabit.
const ROOM_PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Room for what one receive brings; one serves all sockets of a thread.
#[derive(Debug)]
pub struct Buffers {
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers {
            buffers: (0..BATCH_SIZE).map(|_| vec![0; RECEIVE_BUFFER]).collect(),
            metas: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }
}

/// Where a datagram came from, and to which of our addresses if the socket has several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// In the socket's family.
    pub from: SocketAddr,
    /// In the socket's family.
    pub to: Option<IpAddr>,
}

/// Makes a socket for an address, not yet bound to it, that does not block. `is_dual` says whether an IPv6
/// wildcard is for both families.
///
/// # Errors
/// When the system refuses one.
pub fn unbound(address: SocketAddr, is_dual: bool) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!is_dual)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a socket that clients send to, with [`SOCKET_BUFFER`]; `is_dual` as for [`unbound`].
///
/// # Errors
/// When the address is not ours or the port is taken.
pub fn bind(address: SocketAddr, is_dual: bool) -> io::Result<UdpSocket> {
    let socket = unbound(address, is_dual)?;
    // Less than asked for is no reason not to start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// An address as a socket that is bound there has it: an IPv6 socket knows those of IPv4 in disguise
/// (RFC 4291 section 2.5.5.2).
#[must_use]
pub fn disguised(bound: SocketAddr, ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if bound.is_ipv6() => ip.to_ipv6_mapped().into(),
        ip => ip,
    }
}

/// A socket that this process reads.
#[derive(Debug)]
pub struct Socket {
    /// Watched for what comes alone: a socket of tokio's would wake us for room after each datagram that
    /// has gone too.
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
}

impl Socket {
    /// Takes a bound socket over; within a tokio runtime. Unless `dont_fragment`, IP may fragment what is
    /// longer than the path takes.
    ///
    /// # Errors
    /// When the runtime or the kernel refuses it.
    pub fn new(socket: UdpSocket, dont_fragment: bool) -> io::Result<Self> {
        // This forbids fragments.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if !dont_fragment {
            crate::fragments::allow_fragments(&socket)?;
        }
        leave_out_details(&socket)?;
        #[expect(
            deprecated,
            reason = "what follows it is unsafe, for types that do not own what they refer to"
        )]
        let io = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Socket { io, state })
    }

    /// The socket itself, to send from.
    #[must_use]
    pub fn get_ref(&self) -> &UdpSocket {
        self.io.get_ref()
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// When the runtime is stopping.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await?.retain_ready();
        Ok(())
    }

    /// Whether there is something to receive; the waker is woken when there is.
    pub fn is_ready(&self, context: &mut Context<'_>) -> bool {
        matches!(self.io.poll_read_ready(context), Poll::Ready(Ok(_)))
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`. Returns whether there
    /// may be more.
    ///
    /// # Errors
    /// When an earlier datagram could not be delivered; the socket itself is well, and there may be more.
    pub fn receive(
        &self,
        buffers: &mut Buffers,
        mut handle: impl FnMut(Arrival, &mut [u8]),
    ) -> io::Result<bool> {
        let Buffers { buffers, metas } = buffers;
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, buffer) in slices.iter_mut().zip(&mut *buffers) {
            *slice = IoSliceMut::new(buffer);
        }
        let mut count = 0;
        let received = self.io.try_io(Interest::READABLE, |socket| {
            let socket = UdpSockRef::from(socket);
            count = self.state.recv(socket, &mut slices, metas)?;
            // Fewer than there is room for is all there is: no need to ask once more. What comes
            // from now on makes the socket ready again.
            match count < BATCH_SIZE {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        for (meta, buffer) in metas.iter().zip(buffers).take(count) {
            let arrival = Arrival {
                from: meta.addr,
                to: meta.dst_ip,
            };
            match buffer.get_mut(..meta.len) {
                // `chunks` would leave out an empty one.
                Some([]) => handle(arrival, &mut []),
                Some(bytes) => bytes
                    .chunks_mut(meta.stride.max(1))
                    .for_each(|datagram| handle(arrival, datagram)),
                None => {}
            }
        }
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// Has the kernel tell with each datagram only what is asked for: not its traffic class, and not which
/// of our addresses it has come to where there is but one.
fn leave_out_details(socket: &UdpSocket) -> io::Result<()> {
    let address = socket.local_addr()?;
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_recvtos(socket, false)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_recvtclass(socket, false)?,
    }
    if !address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &false)?,
            SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &false)?,
        }
    }
    Ok(())
}

/// Waits until the kernel has room for more to send, or a while. It blocks its thread: for one that has
/// nothing to do until then.
pub fn wait_for_room(socket: &UdpSocket) {
    let mut sockets = [PollFd::new(socket, PollFlags::OUT)];
    // Whoever waits tries again, and finds out.
    let _ = poll(&mut sockets, Some(&ROOM_PATIENCE));
}

/// What has become of a run, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sent {
    /// It is the kernel's now.
    Done,
    /// It is, one by one: together the kernel did not take datagrams that are longer than the path takes.
    Apart,
    /// All of it, or a part, did not leave.
    Lost,
}

/// What sends runs; one serves all sockets of a thread.
#[derive(Debug, Default)]
pub struct Sender {
    batch: Batch,
    /// Most datagrams that the kernel takes as one, once that is known; 1 where it segments none.
    max_segments: Option<usize>,
}

impl Sender {
    /// Sends the runs that `message` returns for 0, 1 and so on, up to the first that it returns none for, in
    /// as few calls as the kernel allows. Tells `handle_sent` what has become of them, in their order:
    /// neighbours of one fate together.
    ///
    /// `is_to_be_tried_again` is asked when the kernel refuses one, `WouldBlock` when it has no room; what is
    /// not tried again is lost.
    pub fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        message: impl Fn(usize) -> Option<Message<'a>>,
        mut is_to_be_tried_again: impl FnMut(&io::Error) -> bool,
        mut handle_sent: impl FnMut(Range<usize>, Sent),
    ) {
        let mut next = Pieces {
            message: &message,
            run: 0,
            offset: 0,
            max_segments: *self
                .max_segments
                .get_or_insert_with(|| max_segments(socket)),
        };
        // What has become of the pieces of the present run so far.
        let mut fate = Sent::Done;
        while let Some(piece) = next.clone().next() {
            let first = next.run;
            match self.batch.send(socket.as_fd(), next.clone()) {
                Ok(taken) => next.by_ref().take(taken).for_each(drop),
                Err(error) if piece.is_segmented() && is_of_segments(&error) => {
                    if error.raw_os_error() == Some(libc::EIO) {
                        tracing::info!(%error, "the kernel does not segment UDP datagrams here: each is sent by itself");
                        self.max_segments = Some(1);
                        next.max_segments = 1;
                        continue;
                    }
                    fate = fate.max(self.send_apart(socket, piece));
                    next.next();
                }
                Err(error) if is_to_be_tried_again(&error) => continue,
                Err(_) => {
                    fate = Sent::Lost;
                    next.next();
                }
            }
            if next.run == first {
                continue;
            }
            let mut done = first..next.run;
            if fate != Sent::Done {
                handle_sent(first..first + 1, fate);
                done.start += 1;
            }
            if !done.is_empty() {
                handle_sent(done, Sent::Done);
            }
            fate = Sent::Done;
        }
    }

    /// Sends datagrams one by one; what finds no room now is lost, as it would be on the way.
    fn send_apart(&mut self, socket: &UdpSocket, piece: Message<'_>) -> Sent {
        let datagrams = piece.bytes.chunks(piece.segment_size.max(1));
        let sent = datagrams.filter(|datagram| {
            let alone = Message {
                bytes: datagram,
                ..piece
            };
            self.batch
                .send(socket.as_fd(), std::iter::once(alone))
                .is_ok()
        });
        match sent.count() {
            0 => Sent::Lost,
            _ => Sent::Apart,
        }
    }
}

/// Most datagrams that the kernel takes as one: Linux knows of segments since 4.18 (udp(7)).
fn max_segments(socket: &UdpSocket) -> usize {
    match getsockopt(socket, UdpGsoSegment) {
        Ok(_) => MAX_SEGMENTS,
        Err(_) => 1,
    }
}

/// Whether an error says that the kernel does not segment a run: not here at all (`EIO`), or because a
/// datagram of it is longer than the path takes.
fn is_of_segments(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO)
    )
}

/// The rest of the runs, each in pieces that the kernel takes as one.
struct Pieces<'f, F> {
    message: &'f F,
    run: usize,
    /// Where in it.
    offset: usize,
    max_segments: usize,
}

impl<F> Clone for Pieces<'_, F> {
    fn clone(&self) -> Self {
        Pieces { ..*self }
    }
}

impl<'a, F: Fn(usize) -> Option<Message<'a>>> Iterator for Pieces<'_, F> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let message = (self.message)(self.run)?;
        let (_, rest) = message.bytes.split_at_checked(self.offset)?;
        let most = message.segment_size.max(1) * self.max_segments;
        let piece = rest.get(..most).unwrap_or(rest);
        self.offset += piece.len();
        if self.offset >= message.bytes.len() {
            self.run += 1;
            self.offset = 0;
        }
        Some(Message {
            bytes: piece,
            ..message
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn receiver() -> UdpSocket {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap();
        socket.set_nonblocking(false).unwrap();
        let patience = Duration::from_secs(10);
        socket.set_read_timeout(Some(patience)).unwrap();
        socket
    }

    /// Sends runs of datagrams, given by their size and bytes, and says what has become of each.
    fn send(sender: &mut Sender, to: &UdpSocket, runs: &[(usize, Vec<u8>)]) -> Vec<Sent> {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap();
        let message = |index: usize| {
            let (segment_size, bytes) = runs.get(index)?;
            Some(Message {
                to: to.local_addr().unwrap(),
                from: None,
                segment_size: *segment_size,
                bytes,
            })
        };
        let mut fates = Vec::new();
        sender.send(
            &socket,
            message,
            |_| false,
            |range, sent| {
                assert_eq!(range.start, fates.len());
                fates.resize(range.end, sent);
            },
        );
        fates
    }

    #[test]
    fn what_the_kernel_does_not_take_together_leaves_one_by_one_and_holds_up_nothing() {
        let receiver = receiver();
        let runs = [
            (1000, vec![1; 2000]),
            // Together they are more than an IP packet holds.
            (40_000, [vec![2; 40_000], vec![3; 40_000]].concat()),
            (1000, vec![4; 1000]),
            (65_535, vec![5; 65_535]),
            (1000, vec![6; 1500]),
        ];
        let fates = send(&mut Sender::default(), &receiver, &runs);
        use Sent::{Apart, Done, Lost};
        assert_eq!(fates, [Done, Apart, Done, Lost, Done]);
        let mut buffer = vec![0; 65_536];
        let mut received = || {
            let len = receiver.recv(&mut buffer).unwrap();
            assert!(buffer[..len].iter().all(|&b| b == buffer[0]));
            (buffer[0], len)
        };
        for expected in [
            (1, 1000),
            (1, 1000),
            (2, 40_000),
            (3, 40_000),
            (4, 1000),
            (6, 1000),
            (6, 500),
        ] {
            assert_eq!(received(), expected);
        }
    }

    #[test]
    fn where_the_kernel_segments_nothing_each_leaves_by_itself() {
        let receiver = receiver();
        let mut sender = Sender {
            max_segments: Some(1),
            ..Sender::default()
        };
        let runs = [(10, (0..95).collect()), (7, vec![9; 7])];
        assert_eq!(send(&mut sender, &receiver, &runs), [Sent::Done; 2]);
        let mut buffer = [0; 100];
        for n in 0..10_u8 {
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!((len, buffer[0]), (if n == 9 { 5 } else { 10 }, 10 * n));
        }
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn what_there_was_no_room_for_is_tried_again_as_long_as_is_asked_for() {
        let receiver = receiver();
        let small = unbound(SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap();
        let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
        small.bind(&any.into()).unwrap();
        let socket: UdpSocket = small.into();
        let bytes = vec![0; 65_535];
        let to = receiver.local_addr().unwrap();
        let message = |index: usize| {
            (index == 0).then_some(Message {
                to,
                from: None,
                segment_size: bytes.len(),
                bytes: &bytes,
            })
        };
        let (mut asked, mut fates) = (0, Vec::new());
        let thrice = |_: &io::Error| {
            asked += 1;
            asked < 3
        };
        Sender::default().send(&socket, message, thrice, |range, sent| {
            fates.push((range, sent));
        });
        assert_eq!((asked, fates), (3, vec![(0..1, Sent::Lost)]));
    }
}
