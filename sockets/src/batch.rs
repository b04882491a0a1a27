//! Many datagrams to many destinations in one system call.
//!
//! In: messages, each a run of equal datagrams to one destination. Out: how many of them the kernel has
//! taken. `sendmmsg(2)` with a segment size for each message (`UDP_SEGMENT`, udp(7)): what a turn sends to
//! fifty peers costs one call, and a run to one of them one pass through the kernel.
#![allow(
    unsafe_code,
    reason = "no crate has sendmmsg(2) with ancillary data of its own for each message"
)]

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Most messages in one call: what a turn sends to a large room, in 9 kB of headers.
pub const MAX_MESSAGES: usize = 64;

/// Room for the ancillary data of a message, in words: a segment size and the address to send from, each
/// with its header.
const CONTROL_WORDS: usize = 8;

/// A run of datagrams to one destination.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where to, in the socket's family.
    pub to: SocketAddr,
    /// The address of ours that it leaves from, in the socket's family; the kernel's choice without.
    pub from: Option<IpAddr>,
    /// The size of each datagram in bytes, but for the last, which may be shorter.
    pub segment_size: usize,
    /// The datagrams, one after the other.
    pub bytes: &'a [u8],
}

impl Message<'_> {
    /// Whether it is more than one datagram.
    #[must_use]
    pub fn is_segmented(&self) -> bool {
        self.bytes.len() > self.segment_size
    }
}

/// What the kernel reads of a batch, kept from call to call.
pub struct Batch {
    headers: Vec<libc::mmsghdr>,
    entries: Vec<Entry>,
}

/// What a message's header points at.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    address: Address,
    bytes: libc::iovec,
    control: [u64; CONTROL_WORDS],
}

#[derive(Clone, Copy)]
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

// SAFETY: the pointers in it are set by each call of `send` and are not read by the next.
unsafe impl Send for Batch {}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: all of these are integers and pointers, for which zeroes are valid.
        let (header, entry) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Batch {
            headers: vec![header; MAX_MESSAGES],
            entries: vec![entry; MAX_MESSAGES],
        }
    }
}

impl Batch {
    /// Has the kernel take as many messages as it will, [`MAX_MESSAGES`] at most. Returns how many of the
    /// first it has taken, at least one.
    ///
    /// # Errors
    /// When it does not take the first, and why: `WouldBlock` when its buffer is full.
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = Message<'a>>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((header, entry), message) in
            self.headers.iter_mut().zip(&mut self.entries).zip(messages)
        {
            prepare(&mut header.msg_hdr, entry, &message);
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        loop {
            // SAFETY: the first `count` headers point at entries of `self` and at bytes that live as long
            // as `messages`, all of which outlive the call; the kernel only reads them.
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(sent);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

fn prepare(header: &mut libc::msghdr, entry: &mut Entry, message: &Message<'_>) {
    header.msg_namelen = entry.address.set(message.to);
    header.msg_name = ptr::from_mut(&mut entry.address).cast();
    entry.bytes = libc::iovec {
        iov_base: message.bytes.as_ptr().cast_mut().cast(),
        iov_len: message.bytes.len(),
    };
    header.msg_iov = &mut entry.bytes;
    header.msg_iovlen = 1;
    let control = &mut entry.control;
    let mut used = 0;
    if message.is_segmented() {
        let size = message.segment_size as u16;
        used += put(control, used, libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }
    match message.from {
        None => {}
        Some(IpAddr::V4(from)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(from.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            used += put(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(from)) => {
            let info = libc::in6_pktinfo {
                ipi6_ifindex: 0,
                ipi6_addr: libc::in6_addr {
                    s6_addr: from.octets(),
                },
            };
            used += put(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = used as _;
}

/// Puts a piece of ancillary data behind those that use so many bytes. Returns how many it uses; none
/// where there is no room for it.
fn put<Data>(
    control: &mut [u64; CONTROL_WORDS],
    used: usize,
    level: libc::c_int,
    kind: libc::c_int,
    data: Data,
) -> usize {
    let len = mem::size_of::<Data>() as libc::c_uint;
    // SAFETY: it only calculates.
    let space = unsafe { libc::CMSG_SPACE(len) } as usize;
    if used + space > mem::size_of_val(control) {
        return 0;
    }
    // SAFETY: the header and the data lie within `control`, as was just checked, and the header on a
    // multiple of its alignment, since what comes before it was padded to one. Data may lie anywhere.
    unsafe {
        let place: *mut libc::cmsghdr = control.as_mut_ptr().byte_add(used).cast();
        (*place).cmsg_level = level;
        (*place).cmsg_type = kind;
        (*place).cmsg_len = libc::CMSG_LEN(len) as _;
        libc::CMSG_DATA(place).cast::<Data>().write_unaligned(data);
    }
    space
}

impl Address {
    /// Returns its length in bytes.
    fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(address) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as _,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                mem::size_of::<libc::sockaddr_in>() as _
            }
            SocketAddr::V6(address) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as _,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                };
                mem::size_of::<libc::sockaddr_in6>() as _
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    fn receiver(place: &str) -> UdpSocket {
        let socket = UdpSocket::bind(place).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    }

    fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2000];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    }

    #[test]
    fn runs_to_many_leave_in_one_call_each_in_its_own_segments() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let receivers = [
            receiver("127.0.0.1:0"),
            receiver("127.0.0.1:0"),
            receiver("127.0.0.1:0"),
        ];
        let bytes: [&[u8]; 3] = [b"aaaabbbbcc", b"single", b"xxxyyy"];
        let messages = receivers.iter().zip(bytes).zip([4, 6, 3]);
        let messages = messages.map(|((to, bytes), segment_size)| Message {
            to: to.local_addr().unwrap(),
            from: None,
            segment_size,
            bytes,
        });
        assert_eq!(Batch::default().send(socket.as_fd(), messages).unwrap(), 3);
        let expected: [&[&[u8]]; 3] = [&[b"aaaa", b"bbbb", b"cc"], &[b"single"], &[b"xxx", b"yyy"]];
        for (receiver, datagrams) in receivers.iter().zip(expected) {
            for datagram in datagrams {
                assert_eq!(received(receiver).0, *datagram);
            }
        }
    }

    #[test]
    fn datagrams_leave_from_the_address_that_is_asked_for() {
        for (any, from, to) in [
            ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
            ("[::]:0", "::ffff:127.0.0.3", "127.0.0.1:0"),
        ] {
            let socket = UdpSocket::bind(any).unwrap();
            let receiver = receiver(to);
            let from: IpAddr = from.parse().unwrap();
            let mut to = receiver.local_addr().unwrap();
            if let (IpAddr::V6(_), IpAddr::V4(ip)) = (from, to.ip()) {
                to.set_ip(ip.to_ipv6_mapped().into());
            }
            let message = Message {
                to,
                from: Some(from),
                segment_size: 2,
                bytes: b"1122",
            };
            let sent = Batch::default().send(socket.as_fd(), [message].into_iter());
            assert_eq!(sent.unwrap(), 1);
            for datagram in [b"11", b"22"] {
                let (bytes, source) = received(&receiver);
                assert_eq!(bytes, datagram);
                assert_eq!(source.ip(), from.to_canonical());
            }
        }
    }

    #[test]
    fn what_the_kernel_refuses_ends_the_batch_before_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let receiver = receiver("127.0.0.1:0");
        let too_long = vec![0; 65_535];
        let message = |bytes| Message {
            to: receiver.local_addr().unwrap(),
            from: None,
            segment_size: 65_535,
            bytes,
        };
        let mut batch = Batch::default();
        let messages = [message(b"1"), message(&too_long), message(b"3")];
        assert_eq!(batch.send(socket.as_fd(), messages.into_iter()).unwrap(), 1);
        let error = batch.send(socket.as_fd(), messages[1..].iter().copied());
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(
            batch
                .send(socket.as_fd(), messages[2..].iter().copied())
                .unwrap(),
            1
        );
        assert_eq!(received(&receiver).0, b"1");
        assert_eq!(received(&receiver).0, b"3");
        assert_eq!(batch.send(socket.as_fd(), std::iter::empty()).unwrap(), 0);
    }

    #[test]
    fn a_call_takes_so_many_and_no_more() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let receiver = receiver("127.0.0.1:0");
        let message = Message {
            to: receiver.local_addr().unwrap(),
            from: None,
            segment_size: 1,
            bytes: b"1",
        };
        let messages = std::iter::repeat_n(message, 2 * MAX_MESSAGES);
        assert_eq!(
            Batch::default().send(socket.as_fd(), messages).unwrap(),
            MAX_MESSAGES
        );
    }
}
