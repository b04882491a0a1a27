//! The other backend: the kernel's own netem (tc-netem(8)) on both ends of a veth pair, for who
//! wants a second opinion or more packets a second than one thread carries.
//!
//! It obeys the same [`Impairment`], less finely: a queue is counted in full packets, loss comes
//! before the bottleneck and not after it, and stalls and recorded losses it does not have. Where the
//! kernel has no netem only the arguments and the refusal are tested, not what netem makes of them.

use super::error::LabError;
use super::namespace::{Namespace, run, tc};
use crate::link::{Impairment, Loss};

/// A full packet, bytes.
const MTU: usize = 1500;

/// Packets that may be on the way when nothing limits the rate.
const WIDE: usize = 100_000;

/// Sees whether the kernel has netem, in a namespace where nothing depends on it.
pub(super) fn probe(scratch: &Namespace) -> Result<(), LabError> {
    let arguments = [
        "-n",
        &scratch.name,
        "qdisc",
        "add",
        "dev",
        "lo",
        "root",
        "netem",
        "delay",
        "1ms",
    ];
    match run(tc().args(arguments)) {
        Ok(_) => {
            run(tc().args(["-n", &scratch.name, "qdisc", "delete", "dev", "lo", "root"])).map(drop)
        }
        Err(LabError::Refused { stderr, .. }) => Err(LabError::NoKernelNetem(stderr)),
        Err(error) => Err(error),
    }
}

/// Has a device send as described.
pub(super) fn set(
    namespace: &Namespace,
    device: &str,
    impairment: &Impairment,
) -> Result<(), LabError> {
    let arguments = arguments(impairment)?;
    let mut command = tc();
    command.args([
        "-n",
        &namespace.name,
        "qdisc",
        "replace",
        "dev",
        device,
        "root",
        "netem",
    ]);
    run(command.args(arguments)).map(drop)
}

/// The words after `netem`.
fn arguments(impairment: &Impairment) -> Result<Vec<String>, LabError> {
    let percent = |share: f64| format!("{:.4}%", share * 100.0);
    let micros = |time: std::time::Duration| format!("{}us", time.as_micros());
    if impairment.stall.is_some() {
        return Err(LabError::NotInKernel("stalls"));
    }
    let mut words: Vec<String> = Vec::new();
    let mut say = |new: &[&str]| words.extend(new.iter().map(|word| (*word).to_owned()));
    // What is on the way counts as waiting, too.
    let limit = impairment.rate.map_or(WIDE, |rate| {
        let delay = (impairment.delay + impairment.jitter).as_secs_f64();
        let on_the_way = rate.bits_per_second as f64 / 8.0 * delay;
        (rate.queue_bytes().saturating_add(on_the_way as usize) / MTU).clamp(1, WIDE)
    });
    say(&["limit", &limit.to_string()]);
    if !(impairment.delay.is_zero() && impairment.jitter.is_zero()) {
        say(&["delay", &micros(impairment.delay)]);
        if !impairment.jitter.is_zero() {
            say(&[&micros(impairment.jitter)]);
        }
    }
    match &impairment.loss {
        _ if !impairment.is_up => say(&["loss", "100%"]),
        Loss::None => {}
        Loss::Random(share) => say(&["loss", &percent(*share)]),
        Loss::GilbertElliott(model) => say(&[
            "loss",
            "gemodel",
            &percent(model.to_bad),
            &percent(model.to_good),
            &percent(model.loss_in_bad),
            &percent(model.loss_in_good),
        ]),
        Loss::Trace(_) => return Err(LabError::NotInKernel("replay of recorded losses")),
    }
    if impairment.duplicate > 0.0 {
        say(&["duplicate", &percent(impairment.duplicate)]);
    }
    if impairment.corrupt > 0.0 {
        say(&["corrupt", &percent(impairment.corrupt)]);
    }
    if let Some(rate) = impairment.rate {
        say(&["rate", &format!("{}bit", rate.bits_per_second)]);
    }
    // Jitter reorders unless packets may only leave in a row, which a rate sees to.
    if !impairment.jitter.is_zero() && !impairment.reorders && impairment.rate.is_none() {
        say(&["rate", "100gbit"]);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::{Queue, Rate, Stall};
    use crate::units::parse_loss;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn netem_is_told_what_the_impairment_says() {
        let wire = Impairment::default;
        let lossy = |text| Impairment {
            loss: parse_loss(text).unwrap_or_default(),
            ..wire()
        };
        let rate = Rate {
            bits_per_second: 5_000_000,
            queue: Queue::Time(200 * MS),
        };
        let cases = [
            (wire(), "limit 100000"),
            (lossy("30%"), "limit 100000 loss 30.0000%"),
            (
                lossy("burst 20% mean 4"),
                "limit 100000 loss gemodel 6.2500% 25.0000% 100.0000% 0.0000%",
            ),
            (
                Impairment {
                    is_up: false,
                    ..lossy("30%")
                },
                "limit 100000 loss 100%",
            ),
            (
                Impairment {
                    delay: 50 * MS,
                    jitter: 10 * MS,
                    reorders: true,
                    ..wire()
                },
                "limit 100000 delay 50000us 10000us",
            ),
            (
                Impairment {
                    delay: 50 * MS,
                    jitter: 10 * MS,
                    ..wire()
                },
                "limit 100000 delay 50000us 10000us rate 100gbit",
            ),
            (
                // 125 kB waiting and 31 kB on the way.
                Impairment {
                    delay: 50 * MS,
                    rate: Some(rate),
                    ..wire()
                },
                "limit 104 delay 50000us rate 5000000bit",
            ),
            (
                Impairment {
                    duplicate: 0.01,
                    corrupt: 0.001,
                    ..wire()
                },
                "limit 100000 duplicate 1.0000% corrupt 0.1000%",
            ),
        ];
        for (impairment, expected) in cases {
            let words = arguments(&impairment).unwrap_or_default();
            assert_eq!(words.join(" "), expected);
        }
    }

    #[test]
    fn what_netem_does_not_have_is_refused() {
        let stall = Stall {
            every: 100 * MS,
            length: 30 * MS,
        };
        let stalling = Impairment {
            stall: Some(stall),
            ..Impairment::default()
        };
        let traced = Impairment {
            loss: Loss::Trace([true].into()),
            ..Impairment::default()
        };
        for impairment in [stalling, traced] {
            let error = arguments(&impairment).map_err(|error| error.to_string());
            assert!(error.is_err_and(|e| e.contains("userspace backend")));
        }
    }
}
