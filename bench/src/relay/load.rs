//! The load on a relay: what calls send, both ways.
//!
//! In: clients with their peers. Out: how many packets were sent, and how many came. Packets are sent
//! one by one, as browsers do: a sender that has the kernel segment (GSO) would hand the relay whole
//! bursts at once on loopback.

use std::time::{Duration, Instant};

use super::client::{Pair, channel_data, is_channel_data};

/// Payload of a packet of video, and of audio, in bytes.
pub(super) const VIDEO_LEN: usize = 1000;
pub(super) const AUDIO_LEN: usize = 160;
/// A picture: ten packets every 33 ms are 2.4 Mbit/s.
const PICTURE_PACKETS: usize = 10;
const PICTURE_INTERVAL: Duration = Duration::from_millis(33);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Packets that each client, and each peer, has under way when there is no pacing.
pub(super) const WINDOW: usize = 16;
/// How long a packet may be under way before it counts as lost.
pub(super) const LOST_AFTER: Duration = Duration::from_millis(200);
/// How often what has come is taken while nothing is to be sent.
const DRAIN_INTERVAL: Duration = Duration::from_micros(500);

/// How packets are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// As media is: a picture's packets every 33 ms, audio every 20 ms.
    Media,
    /// As fast as the relay takes packets of so many bytes.
    Flat(usize),
}

/// Packets of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Count {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Runs a load for a while.
pub(super) fn run(pairs: &mut [Pair], pace: Pace, duration: Duration) -> anyhow::Result<Count> {
    let mut count = Count::default();
    match pace {
        Pace::Media => {
            media(pairs, duration, &mut count)?;
            settle(pairs, &mut count)?;
        }
        Pace::Flat(len) => flat(pairs, len, duration, &mut count)?,
    }
    Ok(count)
}

/// What a client or a peer sends at a time, again and again.
struct Stream {
    pair: usize,
    is_client: bool,
    next: Instant,
    interval: Duration,
    packets: usize,
    len: usize,
}

fn media(pairs: &mut [Pair], duration: Duration, count: &mut Count) -> anyhow::Result<()> {
    let start = Instant::now();
    let senders = 2 * pairs.len() as u32;
    let mut streams = Vec::new();
    for (interval, packets, len) in [
        (PICTURE_INTERVAL, PICTURE_PACKETS, VIDEO_LEN),
        (AUDIO_INTERVAL, 1, AUDIO_LEN),
    ] {
        // Cameras have nothing to do with one another: their pictures come evenly over time.
        streams.extend((0..senders).map(|n| Stream {
            pair: n as usize / 2,
            is_client: n % 2 == 0,
            next: start + interval * n / senders,
            interval,
            packets,
            len,
        }));
    }
    while start.elapsed() < duration {
        let now = Instant::now();
        for stream in streams.iter_mut().filter(|stream| stream.next <= now) {
            send(
                &mut pairs[stream.pair],
                stream.is_client,
                stream.packets,
                stream.len,
            )?;
            count.sent += stream.packets as u64;
            stream.next += stream.interval;
        }
        receive(pairs, count)?;
        std::thread::sleep(DRAIN_INTERVAL);
    }
    Ok(())
}

fn flat(
    pairs: &mut [Pair],
    len: usize,
    duration: Duration,
    count: &mut Count,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        let mut window = Count::default();
        for pair in &mut *pairs {
            for is_client in [true, false] {
                send(pair, is_client, WINDOW, len)?;
                window.sent += WINDOW as u64;
            }
        }
        settle(pairs, &mut window)?;
        count.sent += window.sent;
        count.received += window.received;
    }
    Ok(())
}

fn send(pair: &mut Pair, is_client: bool, packets: usize, len: usize) -> anyhow::Result<()> {
    if is_client {
        return pair.client.send(&vec![channel_data(len); packets]);
    }
    let payload = vec![0x55; len];
    for _ in 0..packets {
        // What finds no room is lost, and counted as that.
        let _ = pair.peer.send_to(&payload, pair.relayed);
    }
    Ok(())
}

fn receive(pairs: &mut [Pair], count: &mut Count) -> anyhow::Result<()> {
    let mut buffer = [0; 2048];
    for pair in pairs {
        while pair.peer.recv(&mut buffer).is_ok() {
            count.received += 1;
        }
        pair.client
            .receive(|message| count.received += u64::from(is_channel_data(message)))?;
    }
    Ok(())
}

/// Waits until all has come that will.
fn settle(pairs: &mut [Pair], count: &mut Count) -> anyhow::Result<()> {
    let mut last = (count.received, Instant::now());
    while count.received < count.sent && last.1.elapsed() < LOST_AFTER {
        receive(pairs, count)?;
        if count.received > last.0 {
            last = (count.received, Instant::now());
        }
    }
    Ok(())
}
