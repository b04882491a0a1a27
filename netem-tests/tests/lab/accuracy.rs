//! Through a real lab: is as much lost, as late and as slow as was asked for?

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use confab_netem_tests::lab::{Lab, Nat, Node, Punctuality};
use confab_netem_tests::link::{Impairment, Link, Queue, Rate};
use confab_netem_tests::units::parse_loss;

use crate::{at, client, new_lab, socket};

const MS: Duration = Duration::from_millis(1);

/// Bytes of an IPv4 (RFC 791) and a UDP header (RFC 768).
const HEADERS: usize = 20 + 8;

/// A machine is starved when this share of what was due came more than a millisecond late.
const STARVED: f64 = 0.05;

/// How often a measurement is made that a starved machine may have spoiled.
const ATTEMPTS: usize = 2;

/// The priority (`nice`) of whoever measures: as that of what is measured.
const PRIORITY: i32 = -20;

fn measure_first() {
    rustix::process::setpriority_process(None, PRIORITY).expect("root");
}

/// Measures, and once more if the machine was too busy to tell.
fn measured(measure: impl Fn() -> (Result<(), String>, Punctuality)) {
    for attempt in 1..=ATTEMPTS {
        let (result, punctuality) = measure();
        let Err(error) = result else {
            return;
        };
        let share = punctuality.late_share();
        let is_starved = share > STARVED;
        assert!(
            attempt < ATTEMPTS && is_starved,
            "{error} ({punctuality:?})"
        );
        println!("{error}, and the machine is starved: {punctuality:?}; again");
    }
}

/// When each datagram was sent and when it arrived.
struct Flow {
    sent: Vec<Instant>,
    arrived: Vec<(usize, Instant)>,
}

impl Flow {
    fn numbers(&self) -> Vec<usize> {
        self.arrived.iter().map(|(number, _)| *number).collect()
    }

    fn median_delay(&self) -> Duration {
        let delay = |(number, at): &(usize, Instant)| at.duration_since(self.sent[*number]);
        let mut delays: Vec<Duration> = self.arrived.iter().map(delay).collect();
        delays.sort_unstable();
        delays
            .get(delays.len() / 2)
            .copied()
            .unwrap_or(Duration::MAX)
    }

    /// Bits a second between the first and the last arrival.
    fn rate(&self, size: usize) -> f64 {
        let (Some((_, first)), Some((_, last))) = (self.arrived.first(), self.arrived.last())
        else {
            return 0.0;
        };
        let bits = (self.arrived.len() - 1) * size * 8;
        bits as f64 / last.duration_since(*first).as_secs_f64()
    }
}

/// Sends datagrams of a size, headers included, from a client to a server, one every so often.
fn flow(lab: &Lab, from: Node, to: Node, count: usize, every: Duration, size: usize) -> Flow {
    let sender = socket(lab, from, "0.0.0.0:0");
    let receiver = socket(lab, to, "0.0.0.0:0");
    let destination = at(lab, to, &receiver);
    // Longer than anything is on the way here.
    let patience = Some(Duration::from_secs(1));
    receiver.set_read_timeout(patience).expect("a timeout");
    std::thread::scope(|scope| {
        let arrived = scope.spawn(|| collect(&receiver));
        measure_first();
        let start = Instant::now();
        let mut datagram = vec![0; size - HEADERS];
        let mut sent = Vec::with_capacity(count);
        for number in 0..count {
            let due = start + every * number as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            datagram[..4].copy_from_slice(&(number as u32).to_be_bytes());
            sent.push(Instant::now());
            sender.send_to(&datagram, destination).expect("it can send");
        }
        let arrived = arrived.join().expect("a receiver");
        Flow { sent, arrived }
    })
}

fn collect(receiver: &UdpSocket) -> Vec<(usize, Instant)> {
    measure_first();
    let mut buffer = [0; 2000];
    let mut arrived = Vec::new();
    while receiver.recv(&mut buffer).is_ok() {
        let number = buffer.first_chunk().map_or(0, |n| u32::from_be_bytes(*n));
        arrived.push((number as usize, Instant::now()));
    }
    arrived
}

/// Which datagrams the same link lets through in virtual time.
fn in_virtual_time(impairment: &Impairment, count: usize) -> Vec<usize> {
    let now = Instant::now();
    let mut link = Link::new(1, impairment.clone());
    for number in 0..count {
        link.send(now, (number as u32).to_be_bytes().to_vec());
    }
    let arrived = std::iter::from_fn(|| link.poll(now));
    arrived
        .map(|bytes| bytes.first_chunk().map_or(0, |n| u32::from_be_bytes(*n)) as usize)
        .collect()
}

/// A lab with a server, and a client whose uplink is as described.
fn one_client(up: Impairment) -> (Lab, Node, Node) {
    let mut lab = new_lab();
    let server = lab.add_server("server").expect("a server");
    let alice = client(&mut lab, "alice", Nat::None, up);
    (lab, alice, server)
}

fn within(what: &str, measured: f64, expected: f64, tolerance: f64) -> Result<(), String> {
    println!("{what}: {measured:.3}");
    if (measured - expected).abs() <= tolerance {
        Ok(())
    } else {
        Err(format!("{what}: {measured:.3} is not {expected:.3}"))
    }
}

#[test]
fn as_much_is_lost_as_was_asked_for_and_the_same_as_in_virtual_time() {
    const COUNT: usize = 20_000;

    let _machine = crate::alone();
    for (text, percent, tolerance) in [
        ("10%", 10.0, 0.5),
        ("30%", 30.0, 0.5),
        ("burst 10% mean 4", 10.0, 1.0),
    ] {
        let impairment = Impairment {
            loss: parse_loss(text).expect("a loss"),
            ..Impairment::default()
        };
        measured(|| {
            let (lab, alice, server) = one_client(impairment.clone());
            let flow = flow(&lab, alice, server, COUNT, MS / 5, 100);
            let (up, _) = lab.readings(alice).expect("counters");
            assert_eq!(up.counters.sent, COUNT as u64, "nobody else sends");
            let arrived = flow.numbers();
            let bursts = arrived.windows(2).filter(|pair| pair[1] > pair[0] + 1);
            let lost = COUNT - arrived.len();
            let mean = lost as f64 / bursts.count().max(1) as f64;
            println!("{text}: {mean:.2} in a row on average");
            let share = 100.0 * lost as f64 / COUNT as f64;
            let mut result = within(&format!("{text}, % lost"), share, percent, tolerance);
            if result.is_ok() && arrived != in_virtual_time(&impairment, COUNT) {
                result = Err(format!("{text}: others than in virtual time"));
            }
            (result, lab.punctuality())
        });
    }
}

#[test]
fn a_delay_is_as_long_as_was_asked_for() {
    const DELAY: Duration = Duration::from_millis(50);

    let _machine = crate::alone();
    measured(|| {
        let (lab, alice, server) = one_client(Impairment::default());
        let median = || flow(&lab, alice, server, 1000, 2 * MS, 200).median_delay();
        println!("no delay: {:?} at the median", median());
        let late = Impairment {
            delay: DELAY,
            ..Impairment::default()
        };
        lab.set_uplink(alice, late).expect("a change");
        let millis = median().as_secs_f64() * 1000.0;
        let result = within("50 ms of delay, ms at the median", millis, 50.0, 1.0);
        println!("{:?}", lab.punctuality());
        (result, lab.punctuality())
    });
}

#[test]
fn a_bottleneck_is_as_fast_as_was_asked_for() {
    const SIZE: usize = 1200;

    let _machine = crate::alone();
    for megabits in [5.0, 1.0] {
        let bits_per_second = megabits * 1e6;
        let narrow = Impairment {
            rate: Some(Rate {
                bits_per_second: bits_per_second as u64,
                queue: Queue::Time(100 * MS),
            }),
            ..Impairment::default()
        };
        // Half as much again as fits, for four seconds.
        let every = Duration::from_secs_f64(SIZE as f64 * 8.0 / bits_per_second / 1.5);
        let count = (4.0 / every.as_secs_f64()) as usize;
        measured(|| {
            let (lab, alice, server) = one_client(narrow.clone());
            let rate = flow(&lab, alice, server, count, every, SIZE).rate(SIZE) / 1e6;
            let what = format!("{megabits} Mbit/s, Mbit/s");
            let result = within(&what, rate, megabits, 0.02 * megabits);
            let (up, _) = lab.readings(alice).expect("counters");
            assert!(up.counters.overflowed > 0, "the queue was never full");
            (result, lab.punctuality())
        });
    }
}
