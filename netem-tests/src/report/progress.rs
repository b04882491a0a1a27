//! What a runner says of a call when it is over.

use super::results::RunResult;
use crate::figures::Figure;

/// What a line is made of, as far as the call has it.
const SHOWN: [Figure; 6] = [
    Figure::AudioConcealed,
    Figure::VideoFrozen,
    Figure::FramesPerSecond,
    Figure::PictureDelay,
    Figure::Recovery,
    Figure::ReceivedRepair,
];

/// One line for a call that passed; for another, a line more for everything that did not hold.
/// Figures are where they are worst in the call.
#[must_use]
pub fn line(run: &RunResult) -> String {
    let figures = SHOWN.into_iter().filter_map(|figure| {
        let value = run.worst(figure)?;
        Some(format!("{} {}", figure.info().title, figure.show(value)))
    });
    let figures: Vec<String> = figures.collect();
    let mut text = format!(
        "{} {} · {} · seed {}: {}",
        if run.passed() { "ok  " } else { "FAIL" },
        run.full_name(),
        run.server,
        run.seed,
        figures.join(", "),
    );
    for why in &run.failures {
        text.push_str(&format!("\n     {why}"));
    }
    for broken in run.expectations.iter().filter(|one| !one.holds) {
        let who = match &broken.sender {
            Some(sender) => format!("{} ← {sender}", broken.receiver),
            None => broken.receiver.clone(),
        };
        let value = match broken.value {
            Some(value) => format!("it was {}", broken.figure.show(value)),
            None => "there is no value".to_owned(),
        };
        text.push_str(&format!("\n     {who}: {} must hold; {value}", broken.text));
    }
    text
}
