//! What a client of the relay sends and receives on: UDP, TCP or TLS.
//!
//! In: messages to send, several at once as a picture's packets are. Out: the messages that have come,
//! whole ones. Nothing here waits, so that one thread can be all clients.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

/// Bytes of the header of STUN, and of ChannelData.
const HEADERS: [usize; 2] = [20, 4];
/// Longest datagram that is made here, with room.
const MAX_DATAGRAM: usize = 2048;
/// Bytes read from a stream at once.
const READ_LEN: usize = 64 * 1024;
/// Kernel buffer of a socket, in bytes, so that the load loses nothing itself.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream may take nothing.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// How clients reach the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A plain stream.
    Tcp,
    /// An encrypted stream.
    Tls,
}

/// One client's way to the relay.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket),
    Tcp(Incoming, TcpStream),
    Tls(Incoming, Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What has come on a stream and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Incoming(Vec<u8>);

/// A UDP socket with room for a load, on an address of loopback, that does not block.
pub(super) fn udp(ip: Ipv4Addr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((ip, 0)).with_context(|| format!("cannot bind to {ip}"))?;
    let options = SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER)?;
    options.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Wire {
    /// Connects from an address of loopback. `certificate` is the only one that TLS trusts.
    pub(super) fn connect(
        transport: Transport,
        from: Ipv4Addr,
        server: SocketAddr,
        certificate: &CertificateDer<'static>,
    ) -> anyhow::Result<Wire> {
        if transport == Transport::Udp {
            let socket = udp(from)?;
            socket.connect(server)?;
            return Ok(Wire::Udp(socket));
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket
            .connect_timeout(&server.into(), CONNECT_PATIENCE)
            .with_context(|| format!("cannot connect to {server}"))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let incoming = Incoming::default();
        if transport == Transport::Tcp {
            stream.set_nonblocking(true)?;
            return Ok(Wire::Tcp(incoming, stream));
        }
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost")?;
        let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        tls.sock.set_nonblocking(true)?;
        Ok(Wire::Tls(incoming, Box::new(tls)))
    }

    /// Sends messages: one datagram each, or all in one write.
    pub(super) fn send(&mut self, messages: &[Vec<u8>]) -> anyhow::Result<()> {
        match self {
            Wire::Udp(socket) => {
                for message in messages {
                    // What finds no room is lost, and counted by who receives.
                    let _ = socket.send(message);
                }
                Ok(())
            }
            Wire::Tcp(_, stream) => write_all(stream, &messages.concat()),
            Wire::Tls(_, stream) => write_all(stream, &messages.concat()),
        }
    }

    /// Gives each message that has come to `handle`.
    pub(super) fn receive(&mut self, mut handle: impl FnMut(&[u8])) -> anyhow::Result<()> {
        match self {
            Wire::Udp(socket) => {
                let mut buffer = [0; MAX_DATAGRAM];
                while let Ok(len) = socket.recv(&mut buffer) {
                    handle(&buffer[..len]);
                }
                Ok(())
            }
            Wire::Tcp(incoming, stream) => incoming.read(stream, handle),
            Wire::Tls(incoming, stream) => incoming.read(stream, handle),
        }
    }
}

impl Incoming {
    fn read(
        &mut self,
        stream: &mut impl Read,
        mut handle: impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        let mut buffer = [0; READ_LEN];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the relay has closed a stream"),
                Ok(len) => self.0.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a stream to the relay has failed"),
            }
            let mut start = 0;
            while let Some(len) = message_len(&self.0[start..]) {
                handle(&self.0[start..start + len]);
                start += len;
            }
            self.0.drain(..start);
        }
        Ok(())
    }
}

/// Bytes of the first message, with its padding, if it is whole (RFC 8656 section 12.5).
fn message_len(bytes: &[u8]) -> Option<usize> {
    let &[first, _, a, b, ..] = bytes else {
        return None;
    };
    let header = HEADERS[usize::from(first >> 6 == 1)];
    let len = header + usize::from(u16::from_be_bytes([a, b]));
    let padded = len.next_multiple_of(4);
    (bytes.len() >= padded).then_some(padded)
}

fn write_all(stream: &mut impl Write, mut bytes: &[u8]) -> anyhow::Result<()> {
    let deadline = Instant::now() + WRITE_PATIENCE;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error).context("a stream to the relay has failed"),
        }
        if Instant::now() > deadline {
            bail!("the relay has read nothing for {WRITE_PATIENCE:?}");
        }
    }
    while let Err(error) = stream.flush() {
        if error.kind() != io::ErrorKind::WouldBlock || Instant::now() > deadline {
            return Err(error).context("a stream to the relay has failed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_of_a_stream() {
        let mut incoming = Incoming::default();
        let channel = [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0];
        let mut stun = vec![0x01, 0x01, 0, 4];
        stun.extend([0; 20]);
        let stream = [&channel[..], &stun, &channel[..7]].concat();
        let mut lens = Vec::new();
        let read = incoming.read(&mut stream.as_slice(), |message| lens.push(message.len()));
        assert!(read.is_err(), "the end is told");
        assert_eq!((lens, incoming.0.len()), (vec![12, 24], 7));
    }
}
