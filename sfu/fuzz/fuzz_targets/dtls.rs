//! A client and a server, and two strangers who send from their addresses: what is under way is altered,
//! cut, doubled, lost, put in another order and mixed with anything. Nobody is connected to a stranger,
//! both sides have the same keys, and neither what is held nor what is answered grows beyond bounds.
#![no_main]

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use confab_sfu::inside::peer::dtls::{
    Certificate, DtlsEndpoint, DtlsOutput, Fingerprint, MAX_HANDSHAKE_BYTES, Role, SrtpKeys,
};
use libfuzzer_sys::fuzz_target;

/// One for each of four: making them takes most of a handshake's time.
static CERTIFICATES: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    (0..4)
        .filter_map(|_| Certificate::generate().ok())
        .collect()
});

const MAX_STEPS: usize = 200;
/// Bytes that one datagram may be answered with: a flight that is new, one that is repeated, a cookie.
const MAX_ANSWER: usize = 4096;
/// Our limits of how often a flight is repeated.
const REPLY_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes held beside fragments: sealed records that came early.
const MAX_EARLY: usize = 512;

struct Side {
    endpoint: DtlsEndpoint,
    inbox: VecDeque<Vec<u8>>,
    keys: Option<SrtpKeys>,
    sent: usize,
}

impl Side {
    fn new(now: Instant, role: Role, own: usize, peer: usize) -> Self {
        let promised: Vec<Fingerprint> = vec![CERTIFICATES[peer].fingerprint().clone()];
        Side {
            endpoint: DtlsEndpoint::new(now, role, &CERTIFICATES[own], promised),
            inbox: VecDeque::new(),
            keys: None,
            sent: 0,
        }
    }

    /// What it has to say, to those who hear it.
    fn poll(&mut self, mut hearers: [&mut Side; 2]) {
        let mut answer = 0;
        while let Some(output) = self.endpoint.poll() {
            match output {
                DtlsOutput::Packet(packet) => {
                    answer += packet.len();
                    for hearer in &mut hearers {
                        hearer.inbox.push_back(packet.clone());
                    }
                }
                DtlsOutput::Connected(keys) => assert!(self.keys.replace(keys).is_none()),
                DtlsOutput::ApplicationData(_) | DtlsOutput::Closed => {}
            }
        }
        assert!(answer <= MAX_ANSWER, "{answer} bytes at once");
        self.sent += answer;
        assert!(self.endpoint.held() <= MAX_HANDSHAKE_BYTES + MAX_EARLY);
    }
}

/// The datagram that a step makes of the one that is next, and of noise.
fn altered(step: u8, at: usize, byte: u8, packet: &[u8], noise: &[u8]) -> Vec<Vec<u8>> {
    let at = at % packet.len().max(1);
    let mut copy = packet.to_vec();
    match step % 12 {
        0 => copy[at] = byte,
        1 => copy.truncate(at),
        2 => copy[at..]
            .iter_mut()
            .zip(noise)
            .for_each(|(old, new)| *old = *new),
        3 => drop(copy.splice(at..at, noise.iter().take(usize::from(byte)).copied())),
        // One record at a time, the last one first.
        4 => {
            let mut records = Vec::new();
            while let Some(&[high, low]) = copy.get(11..13) {
                let len = 13 + usize::from(u16::from_be_bytes([high, low]));
                if len > copy.len() {
                    break;
                }
                records.insert(0, copy.drain(..len).collect());
            }
            return records;
        }
        // A message of another kind, of another number, with other lengths.
        5 => {
            if let Some(field) = copy.get_mut(13 + usize::from(byte) % 12) {
                *field = at as u8;
            }
        }
        // In the clear, with anything in it.
        6 => {
            let len = noise.len().min(1000) as u16;
            let fragment = len + 12;
            copy = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, byte];
            copy.extend(fragment.to_be_bytes());
            copy.extend([at as u8, 0]);
            copy.extend(len.to_be_bytes());
            copy.extend([0, byte % 6, 0, 0, 0, 0]);
            copy.extend(len.to_be_bytes());
            copy.extend(&noise[..usize::from(len)]);
        }
        7 => copy = noise.to_vec(),
        8 => copy = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 2, byte],
        // A message in two pieces, the second one first.
        9 if copy.len() > 13 + 12 + 2 => {
            let record_len = usize::from(u16::from_be_bytes([copy[11], copy[12]]));
            let body = 13 + 12;
            let end = (13 + record_len).clamp(body, copy.len());
            let middle = body + at % (end - body).max(1);
            return [(middle, end), (body, middle)]
                .into_iter()
                .map(|(from, to)| {
                    let mut piece = copy[..body].to_vec();
                    piece[11..13].copy_from_slice(&((12 + to - from) as u16).to_be_bytes());
                    piece[19..22].copy_from_slice(&((from - body) as u32).to_be_bytes()[1..]);
                    piece[22..25].copy_from_slice(&((to - from) as u32).to_be_bytes()[1..]);
                    piece.extend(&copy[from..to]);
                    piece
                })
                .collect();
        }
        10 => return vec![copy.clone(), copy],
        _ => return Vec::new(),
    }
    vec![copy]
}

fuzz_target!(|input: (bool, Vec<(u8, u16, u8)>, &[u8])| {
    let (is_client_there, steps, noise) = input;
    let start = Instant::now();
    let mut now = start;
    let mut client = Side::new(now, Role::Client, 0, 1);
    let mut server = Side::new(now, Role::Server, 1, 0);
    // They know whom they talk to, but are not whom those expect.
    let mut false_client = Side::new(now, Role::Client, 2, 1);
    let mut false_server = Side::new(now, Role::Server, 3, 0);
    if is_client_there {
        client.endpoint.begin(now).unwrap();
        client.poll([&mut server, &mut false_server]);
    }
    for (step, value, byte) in steps.into_iter().take(MAX_STEPS) {
        let (who, what) = (step >> 6, step & 0x3f);
        if what < 16 {
            now += Duration::from_millis(u64::from(value % 1024));
        }
        let noise = noise.get(usize::from(value)..).unwrap_or_default();
        let (side, hearers) = match who {
            0 => (&mut server, [&mut client, &mut false_client]),
            1 => (&mut client, [&mut server, &mut false_server]),
            2 => {
                let _ = false_client.endpoint.begin(now);
                // Strangers hear, but are not heard by each other.
                (&mut false_client, [&mut server, &mut false_server])
            }
            _ => (&mut false_server, [&mut client, &mut false_client]),
        };
        if what < 16 && side.endpoint.next_deadline().is_some_and(|due| due <= now) {
            let _ = side.endpoint.handle_timeout(now);
        } else if what == 17 {
            let last = side.inbox.pop_back();
            last.into_iter()
                .for_each(|last| side.inbox.push_front(last));
        } else {
            let next = side.inbox.pop_front().unwrap_or_default();
            let packets = match what {
                0..40 => vec![next],
                _ if next.is_empty() => altered(6 + what % 2, value.into(), byte, &[], noise),
                _ => altered(what, value.into(), byte, &next, noise),
            };
            for packet in packets {
                let _ = side.endpoint.handle_packet(now, &packet);
            }
        }
        side.poll(hearers);
    }
    let intervals = (now - start).as_millis() / REPLY_INTERVAL.as_millis();
    for side in [&client, &server] {
        assert!(side.sent as u128 <= MAX_ANSWER as u128 * (4 + intervals));
    }
    assert!(is_client_there || server.keys.is_none());
    assert!(false_client.keys.is_none() && false_server.keys.is_none());
    if let (Some(client), Some(server)) = (&client.keys, &server.keys) {
        assert_eq!(client.local().key, server.remote().key);
        assert_eq!(client.remote().key, server.local().key);
    }
});
