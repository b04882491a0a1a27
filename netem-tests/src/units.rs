//! What a person writes for a loss, a time, a rate or a size, in a scenario or on the command line,
//! and the number that it means. Nothing is guessed: a number without its unit is refused, and the
//! error says how to write it.
//!
//! ```
//! use std::time::Duration;
//! use confab_netem_tests::units::{parse_duration, parse_percent, parse_rate};
//!
//! assert_eq!(parse_percent("30%"), Ok(0.3));
//! assert_eq!(parse_duration("50ms"), Ok(Duration::from_millis(50)));
//! assert_eq!(parse_rate("5 Mbit/s"), Ok(5_000_000));
//! assert!(parse_percent("30").is_err());
//! ```

use std::time::Duration;

use crate::link::{GilbertElliott, Loss, Queue, Stall};

/// A unit's name and how many of the base unit it is.
type Unit = (&'static str, f64);

const SECONDS: &[Unit] = &[
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

const BITS_PER_SECOND: &[Unit] = &[
    ("bit/s", 1.0),
    ("kbit/s", 1e3),
    ("Mbit/s", 1e6),
    ("Gbit/s", 1e9),
];

const BYTES: &[Unit] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
];

/// The longest time that is taken for meant: a day.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// A share written as a percentage from 0 to 100, like `30%` or `0.5 %`; as a number from 0 to 1.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = quantity(text, &[("%", 1.0)], "a percentage", "30%")?;
    if percent > 100.0 {
        return Err(format!("\"{text}\" is more than all: 100% is the most"));
    }
    Ok(percent / 100.0)
}

/// A time, like `200us`, `50ms`, `5s`, `1.5m` or `1h`; a day at most.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = quantity(text, SECONDS, "a time", "50ms")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err(format!("\"{text}\" is too long: a day (24h) is the most")),
    }
}

/// A rate in bits a second, at least 1, like `5 Mbit/s` or `300 kbit/s`; 1 kbit is 1000 bits.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = quantity(text, BITS_PER_SECOND, "a rate", "5 Mbit/s")?;
    if rate < 1.0 {
        return Err(format!(
            "\"{text}\" lets nothing through: 1 bit/s is the least, and a cut link is said otherwise"
        ));
    }
    Ok(rate.round() as u64)
}

/// A size in bytes, like `1500 B` or `64 kB`; 1 kB is 1000 bytes and 1 KiB is 1024.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = quantity(text, BYTES, "a size", "64 kB")?;
    Ok(bytes.round() as usize)
}

/// How much may wait at a bottleneck: a time, like `200ms`, or a size, like `64 kB`.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_queue(text: &str) -> Result<Queue, String> {
    let (_, unit) = split(text);
    if BYTES.iter().any(|(name, _)| *name == unit) {
        parse_size(text).map(Queue::Bytes)
    } else if SECONDS.iter().any(|(name, _)| *name == unit) {
        parse_duration(text).map(Queue::Time)
    } else {
        Err(format!(
            "\"{text}\" is neither a time nor a size: write it as 200ms or as 64 kB"
        ))
    }
}

/// What is lost: `30%`, each datagram for itself; or `burst 10% mean 4`, in bursts that lose four
/// datagrams in a row on average.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_loss(text: &str) -> Result<Loss, String> {
    let Some(burst) = text.trim().strip_prefix("burst ") else {
        return Ok(match parse_percent(text)? {
            0.0 => Loss::None,
            share => Loss::Random(share),
        });
    };
    let (share, mean) = burst.split_once(" mean ").ok_or_else(|| {
        format!("\"{text}\" does not say how long a burst is: write it as burst 10% mean 4")
    })?;
    let mean = mean
        .trim()
        .parse()
        .map_err(|_| format!("\"{mean}\" is not a number of datagrams: write it as 4 or 2.5"))?;
    bursts(parse_percent(share)?, mean).map(Loss::GilbertElliott)
}

/// Bursts that lose a share, 0 to 1, of all, and so many datagrams in a row on average.
///
/// # Errors
/// A sentence, when no such bursts exist: a burst is one datagram at least, and between two of them
/// one gets through.
pub fn bursts(share: f64, mean: f64) -> Result<GilbertElliott, String> {
    if !(mean.is_finite() && mean >= 1.0) {
        return Err(format!(
            "a burst of {mean} datagrams cannot be: 1 is the least"
        ));
    }
    let most = mean / (mean + 1.0);
    if share > most {
        return Err(format!(
            "bursts of {mean} datagrams on average cannot lose {:.4}% of all: {:.4}% is the most, \
             with one datagram between two bursts",
            share * 100.0,
            most * 100.0,
        ));
    }
    Ok(GilbertElliott::bursts(share, mean))
}

/// A link that holds everything back again and again: `30ms every 100ms`.
///
/// # Errors
/// A sentence about what is wrong with the text.
pub fn parse_stall(text: &str) -> Result<Stall, String> {
    let (length, every) = text.split_once(" every ").ok_or_else(|| {
        format!("\"{text}\" does not say how long and how often: write it as 30ms every 100ms")
    })?;
    stall(parse_duration(every)?, parse_duration(length)?)
}

/// A link that holds everything back for a length of time, every so often.
///
/// # Errors
/// A sentence, when it never lets go.
pub fn stall(every: Duration, length: Duration) -> Result<Stall, String> {
    if length >= every {
        return Err(format!(
            "a stall of {length:?} every {every:?} never ends: it has to be shorter than its period"
        ));
    }
    Ok(Stall { every, length })
}

/// The number before the unit, as it stands, and the unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A number from 0 and a unit, in the base unit.
fn quantity(text: &str, units: &[Unit], what: &str, example: &str) -> Result<f64, String> {
    if text.trim_start().starts_with('-') {
        return Err(format!("\"{text}\" is negative: {what} is 0 or more"));
    }
    let (number, unit) = split(text);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("\"{text}\" is not {what}: write it as {example}"))?;
    let names = || {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    };
    if unit.is_empty() {
        return Err(format!(
            "\"{text}\" has no unit: {what} is written as {example} (units: {})",
            names()
        ));
    }
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => Ok(number * factor),
        None => Err(format!(
            "\"{unit}\" in \"{text}\" is not a unit of {what}: write it as {example} (units: {})",
            names()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_means_what_they_mean() {
        let percents = [("30%", 0.3), ("0.5 %", 0.005), (" 100% ", 1.0), ("0%", 0.0)];
        for (text, share) in percents {
            assert_eq!(parse_percent(text), Ok(share), "{text}");
        }
        let micros = [
            ("50ms", 50_000),
            ("5s", 5_000_000),
            ("1m", 60_000_000),
            ("200us", 200),
            ("1.5 ms", 1500),
            ("24h", 86_400_000_000),
        ];
        for (text, micros) in micros {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)));
        }
        let rates = [
            ("5 Mbit/s", 5_000_000),
            ("300kbit/s", 300_000),
            ("1 bit/s", 1),
            ("1.5 Gbit/s", 1_500_000_000),
        ];
        for (text, rate) in rates {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for (text, bytes) in [("64 kB", 64_000), ("1500 B", 1500), ("64KiB", 65_536)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_queue("64 kB"), Ok(Queue::Bytes(64_000)));
        let time = Duration::from_millis(200);
        assert_eq!(parse_queue("200ms"), Ok(Queue::Time(time)));
    }

    #[test]
    fn losses_are_single_or_in_bursts() {
        assert_eq!(parse_loss("0%"), Ok(Loss::None));
        assert_eq!(parse_loss("30%"), Ok(Loss::Random(0.3)));
        let expected = GilbertElliott::bursts(0.1, 4.0);
        let burst = Loss::GilbertElliott(expected);
        assert_eq!(parse_loss("burst 10% mean 4"), Ok(burst));
        assert!(bursts(0.5, 1.0).is_ok());
        assert!(bursts(0.51, 1.0).is_err());
    }

    #[test]
    fn a_stall_is_shorter_than_its_period() {
        let ms = Duration::from_millis;
        let expected = Stall {
            every: ms(100),
            length: ms(30),
        };
        assert_eq!(parse_stall("30ms every 100ms"), Ok(expected));
        for text in ["100ms every 100ms", "0ms every 0ms", "30ms"] {
            assert!(parse_stall(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_nobody_can_mean_is_refused_and_the_error_tells_how_to_write_it() {
        let refused = [
            (parse_percent("30").err(), "has no unit"),
            (parse_percent("101%").err(), "100% is the most"),
            (parse_percent("-1%").err(), "is negative"),
            (parse_percent("nan%").err(), "write it as 30%"),
            (parse_percent("").err(), "write it as 30%"),
            (parse_percent("1.2.3%").err(), "write it as 30%"),
            (parse_percent("30 percent").err(), "is not a unit"),
            (parse_duration("50").err(), "has no unit"),
            (parse_duration("5 parsecs").err(), "us, µs, ms, s, m, h"),
            (parse_duration("25h").err(), "too long"),
            (parse_rate("5 mbit/s").err(), "write it as 5 Mbit/s"),
            (parse_rate("0 bit/s").err(), "lets nothing through"),
            (parse_size("64").err(), "has no unit"),
            (parse_queue("64").err(), "neither a time nor a size"),
            (parse_loss("burst 10%").err(), "burst 10% mean 4"),
            (parse_loss("burst 10% mean x").err(), "not a number"),
            (parse_loss("burst 10% mean 0.5").err(), "1 is the least"),
            (parse_loss("burst 10% mean nan").err(), "1 is the least"),
            (parse_loss("burst 90% mean 4").err(), "80.0000% is the most"),
        ];
        for (error, part) in refused {
            let error = error.unwrap_or_default();
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
}
