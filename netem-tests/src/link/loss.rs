//! Which datagram of a sequence is lost.

use rand::Rng;

use super::impairment::Loss;

/// A model of loss and where it stands.
#[derive(Debug)]
pub(super) struct LossProcess {
    model: Loss,
    is_bad: bool,
    next: usize,
}

impl LossProcess {
    pub(super) fn new(model: Loss) -> Self {
        LossProcess {
            model,
            is_bad: false,
            next: 0,
        }
    }

    /// Whether the next datagram is lost. Two draws each time, whatever the model, so that a change
    /// of model shifts no later draw.
    pub(super) fn next(&mut self, die: &mut impl Rng) -> bool {
        let (loss, change) = (die.random::<f64>(), die.random::<f64>());
        match &self.model {
            Loss::None => false,
            Loss::Random(probability) => loss < *probability,
            Loss::GilbertElliott(model) => {
                let leave = if self.is_bad {
                    model.to_good
                } else {
                    model.to_bad
                };
                self.is_bad ^= change < leave;
                let here = if self.is_bad {
                    model.loss_in_bad
                } else {
                    model.loss_in_good
                };
                loss < here
            }
            Loss::Trace(trace) => {
                let Some(is_lost) = trace.get(self.next).or(trace.first()) else {
                    return false;
                };
                self.next = if self.next < trace.len() {
                    self.next + 1
                } else {
                    1
                };
                *is_lost
            }
        }
    }
}
