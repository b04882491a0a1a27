//! The command lines of `confab-netem exec` and `confab-netem link`, as structures for clap.
//!
//! In: flags in the words of a scenario file. Out: an [`Impairment`] for each direction.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::link::{Impairment, Loss, Queue, Rate, Stall};
use crate::units::{
    parse_duration, parse_loss, parse_percent, parse_queue, parse_rate, parse_stall,
};

/// How much waits at a bottleneck unless it is said: what a home router holds in practice.
pub const DEFAULT_QUEUE: Queue = Queue::Time(Duration::from_millis(200));

/// Which way is impaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Direction {
    /// Each way by itself: a delay of 50ms is a round trip of 100ms.
    #[default]
    Both,
    /// From the program, or from the first namespace.
    Up,
    /// To the program, or to the first namespace.
    Down,
}

/// What a link is like.
#[derive(Clone, Debug, Default, Args)]
pub struct LinkArgs {
    /// What is lost: 30%, or "burst 10% mean 4" for four in a row on average
    #[arg(long, value_parser = parse_loss)]
    pub loss: Option<Loss>,
    /// One way: 50ms
    #[arg(long, value_parser = parse_duration, default_value = "0ms")]
    pub delay: Duration,
    /// How far the delay strays to either side: 10ms
    #[arg(long, value_parser = parse_duration, default_value = "0ms")]
    pub jitter: Duration,
    /// Let jitter change the order of packets
    #[arg(long, requires = "jitter")]
    pub reorder: bool,
    /// Hold everything back again and again: "30ms every 100ms"
    #[arg(long, value_parser = parse_stall)]
    pub stall: Option<Stall>,
    /// How many packets arrive twice: 1%
    #[arg(long, value_parser = parse_percent, default_value = "0%")]
    pub duplicate: f64,
    /// How many packets have one bit flipped: 0.1%
    #[arg(long, value_parser = parse_percent, default_value = "0%")]
    pub corrupt: f64,
    /// The bottleneck: "5 Mbit/s"
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<u64>,
    /// How much may wait at the bottleneck: 200ms, which is the default, or "64 kB"
    #[arg(long, value_parser = parse_queue, requires = "rate")]
    pub queue: Option<Queue>,
    /// Which way all of this is for; the other is a wire
    #[arg(long, value_enum, default_value_t)]
    pub direction: Direction,
    /// Decides what is random, so that it happens again
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl LinkArgs {
    /// Up and down.
    #[must_use]
    pub fn impairments(&self) -> (Impairment, Impairment) {
        let impaired = Impairment {
            is_up: true,
            loss: self.loss.clone().unwrap_or_default(),
            delay: self.delay,
            jitter: self.jitter,
            reorders: self.reorder,
            stall: self.stall,
            duplicate: self.duplicate,
            corrupt: self.corrupt,
            rate: self.rate.map(|bits_per_second| Rate {
                bits_per_second,
                queue: self.queue.unwrap_or(DEFAULT_QUEUE),
            }),
        };
        match self.direction {
            Direction::Both => (impaired.clone(), impaired),
            Direction::Up => (impaired, Impairment::default()),
            Direction::Down => (Impairment::default(), impaired),
        }
    }
}

/// Run a program behind a link: `confab-netem exec --loss 30% --delay 50ms -- chromium …`.
///
/// The program finds this machine at the address in the variable CONFAB_HOST, which is also printed;
/// servers that listen on 127.0.0.1 only it cannot reach. It runs as root unless it is told
/// otherwise: `-- sudo -u alice chromium …`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Its link
    #[command(flatten)]
    pub link: LinkArgs,
    /// Let the program reach beyond this machine, translated to this machine's address. Meanwhile
    /// this machine forwards packets (IPv4)
    #[arg(long)]
    pub internet: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Lay a link between two network namespaces until Ctrl-C: `confab-netem link a b --rate "5 Mbit/s"`.
///
/// A namespace that does not exist is made, and removed at the end. The first has the address
/// 198.18.0.1 on the link, the second 198.18.0.2.
#[derive(Clone, Debug, Args)]
pub struct BetweenArgs {
    /// A namespace as `ip netns` has it: the way up is from here
    pub first: String,
    /// The other
    pub second: String,
    /// What is between them
    #[command(flatten)]
    pub link: LinkArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Exec {
        #[command(flatten)]
        arguments: ExecArgs,
    }

    fn parse(line: &[&str]) -> Result<ExecArgs, String> {
        let words = [&["exec"], line].concat();
        let parsed = Exec::try_parse_from(words).map_err(|error| error.to_string());
        parsed.map(|exec| exec.arguments)
    }

    #[test]
    fn flags_become_an_impairment_of_each_direction() {
        let line = [
            "--loss",
            "30%",
            "--delay",
            "50ms",
            "--rate",
            "5 Mbit/s",
            "--direction",
            "down",
            "--",
            "ping",
            "-c",
            "1",
        ];
        let arguments = parse(&line).expect("a good line");
        assert_eq!(arguments.command, ["ping", "-c", "1"]);
        let (up, down) = arguments.link.impairments();
        let expected = Impairment {
            loss: Loss::Random(0.3),
            delay: Duration::from_millis(50),
            rate: Some(Rate {
                bits_per_second: 5_000_000,
                queue: DEFAULT_QUEUE,
            }),
            ..Impairment::default()
        };
        assert_eq!((up, down), (Impairment::default(), expected));
    }

    #[test]
    fn a_wrong_flag_is_named_with_what_is_wrong() {
        let cases: [(&[&str], &str); 4] = [
            (&["--loss", "30", "--", "x"], "\"30\" has no unit"),
            (&["--stall", "1s every 1s", "--", "x"], "shorter"),
            (&["--queue", "1ms", "--", "x"], "--rate"),
            (&["--loss", "3%"], "COMMAND"),
        ];
        for (line, part) in cases {
            let error = parse(line).err().unwrap_or_default();
            assert!(error.contains(part), "{error}");
        }
    }
}
