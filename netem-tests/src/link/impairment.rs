//! What is wrong with one direction of a network: plain data that a scenario writes down and a
//! [`Link`](super::Link) obeys.

use std::sync::Arc;
use std::time::Duration;

/// How one direction of a network behaves. The default is a wire: nothing is lost, late or slow.
#[derive(Clone, PartialEq, Debug)]
pub struct Impairment {
    /// Whether anything gets through. What is already on the way arrives even when this ends.
    pub is_up: bool,
    /// What is lost.
    pub loss: Loss,
    /// From the end of sending to arrival.
    pub delay: Duration,
    /// How far the delay of each datagram strays from that, to either side and evenly; never below
    /// zero.
    pub jitter: Duration,
    /// Whether jitter may let a datagram overtake another. If not, the later one waits.
    pub reorders: bool,
    /// Periods in which the link holds everything back and then delivers it at once, as Wi-Fi does.
    pub stall: Option<Stall>,
    /// The probability that a datagram arrives twice, 0 to 1.
    pub duplicate: f64,
    /// The probability that one bit of a datagram is flipped, 0 to 1.
    pub corrupt: f64,
    /// The bottleneck; none is as fast as you like.
    pub rate: Option<Rate>,
}

impl Default for Impairment {
    fn default() -> Self {
        Impairment {
            is_up: true,
            loss: Loss::None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorders: false,
            stall: None,
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
        }
    }
}

/// Which datagrams are lost on the way. They have been through the bottleneck: what is lost on the
/// air has taken its time on the air.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability, 0 to 1, whatever became of the others.
    Random(f64),
    /// In bursts.
    GilbertElliott(GilbertElliott),
    /// As recorded: `true` is lost. From the beginning again when it ends.
    Trace(Arc<[bool]>),
}

/// The two-state Markov model of Gilbert (1960) and Elliott (1963): a good and a bad state, a
/// chance to change between them before each datagram, and a chance of loss in each. All are
/// probabilities, 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GilbertElliott {
    /// From good to bad.
    pub to_bad: f64,
    /// From bad to good.
    pub to_good: f64,
    /// Loss in the good state.
    pub loss_in_good: f64,
    /// Loss in the bad state.
    pub loss_in_bad: f64,
}

impl GilbertElliott {
    /// The model that loses everything in the bad state and nothing in the good one, with this
    /// share of losses, 0 to below 1, in bursts of this mean length, 1 or more.
    #[must_use]
    pub fn bursts(loss: f64, mean_burst: f64) -> Self {
        let to_good = 1.0 / mean_burst.max(1.0);
        GilbertElliott {
            // In balance, as many go from good to bad as come back.
            to_bad: (to_good * loss / (1.0 - loss)).min(1.0),
            to_good,
            loss_in_good: 0.0,
            loss_in_bad: 1.0,
        }
    }
}

/// A link that holds everything back for a while, again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// From the beginning of one to that of the next. The first begins where the seed says.
    pub every: Duration,
    /// How long one lasts.
    pub length: Duration,
}

/// A bottleneck with a first-in first-out queue before it; what does not fit is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bits a second, IP headers counted; at least 1.
    pub bits_per_second: u64,
    /// How much may wait.
    pub queue: Queue,
}

/// How much may wait at a bottleneck. The datagram that is being sent does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// So many bytes.
    Bytes(usize),
    /// As many bytes as the bottleneck sends in this time.
    Time(Duration),
}

impl Rate {
    /// How long a datagram of so many bytes takes.
    #[must_use]
    pub fn serialization(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes may wait.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        match self.queue {
            Queue::Bytes(bytes) => bytes,
            Queue::Time(time) => {
                let bytes = u128::from(self.bits_per_second) * time.as_nanos() / 8_000_000_000;
                usize::try_from(bytes).unwrap_or(usize::MAX)
            }
        }
    }
}
