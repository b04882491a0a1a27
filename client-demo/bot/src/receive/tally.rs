//! What one slot received of each participant it showed, one after the other.
//!
//! In: the slot's counters as they stand, and who is shown from now on. Out: for each participant
//! the sum of what the counters grew by while it was shown.

use std::collections::BTreeMap;

use crate::sample::{AudioReceived, Received, VideoReceived};

/// Adds the growth of counters from one moment to a later one.
trait Grow: Default {
    fn grow(&mut self, from: &Self, to: &Self);
}

macro_rules! grow {
    ($type:ty, counters: $($counter:ident)*, states: $($state:ident)*) => {
        impl Grow for $type {
            fn grow(&mut self, from: &Self, to: &Self) {
                $(self.$counter += to.$counter - from.$counter;)*
                $(self.$state = to.$state.or(self.$state);)*
            }
        }
    };
}

grow!(
    AudioReceived,
    counters: packets lost bytes samples concealed silent_concealed jitter_buffer_delay
        jitter_buffer_emitted,
    states: score
);
grow!(
    VideoReceived,
    counters: packets lost bytes retransmitted_bytes fec_bytes frames key_frames freezes frozen
        nacks key_frame_requests jitter_buffer_delay jitter_buffer_emitted,
    states: width height
);

/// Adds what was received of a participant in one place to what was received of it in others.
pub(crate) fn merge(all: &mut Vec<Received>, one: Received) {
    match all.iter_mut().find(|other| other.from == one.from) {
        Some(other) => grow_received(other, &Received::default(), &one),
        None => all.push(one),
    }
}

fn grow_received(sum: &mut Received, from: &Received, to: &Received) {
    fn part<T: Grow>(sum: &mut Option<T>, from: &Option<T>, to: &Option<T>) {
        if let Some(to) = to {
            let sum = sum.get_or_insert_default();
            match from {
                Some(from) => sum.grow(from, to),
                None => sum.grow(&T::default(), to),
            }
        }
    }
    part(&mut sum.audio, &from.audio, &to.audio);
    part(&mut sum.video, &from.video, &to.video);
}

#[derive(Default)]
pub(crate) struct Tally {
    shown: Option<String>,
    /// The counters when the participant shown came.
    since: Received,
    received: BTreeMap<String, Received>,
}

impl Tally {
    /// The slot shows somebody else, or nobody, from now on.
    pub(crate) fn handle_shown(&mut self, from: Option<String>, counters: Received) {
        if let Some(shown) = self.shown.take() {
            let sum = self.received.entry(shown).or_default();
            grow_received(sum, &self.since, &counters);
        }
        self.shown = from;
        self.since = counters;
    }

    pub(crate) fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    /// What was received of everybody who was shown, given the counters as they stand.
    pub(crate) fn received(&self, counters: &Received) -> Vec<Received> {
        let mut received = self.received.clone();
        if let Some(shown) = &self.shown {
            let sum = received.entry(shown.clone()).or_default();
            grow_received(sum, &self.since, counters);
        }
        let named = received
            .into_iter()
            .map(|(from, sum)| Received { from, ..sum });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    fn packets(packets: u64) -> Received {
        Received {
            video: Some(VideoReceived {
                packets,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn everybody_has_what_came_while_they_were_shown() {
        let mut tally = Tally::default();
        let (alice, bob) = (Some("alice".to_owned()), Some("bob".to_owned()));
        tally.handle_shown(alice.clone(), packets(5));
        tally.handle_shown(bob, packets(25));
        tally.handle_shown(None, packets(26));
        tally.handle_shown(alice, packets(30));
        let mut all = tally.received(&packets(37));
        let of = |all: &[Received], name: &str| {
            let one = all.iter().find(|received| received.from == name);
            one.and_then(|one| one.video.as_ref()).unwrap().packets
        };
        assert_eq!((of(&all, "alice"), of(&all, "bob")), (27, 1));
        merge(
            &mut all,
            Received {
                from: "bob".into(),
                ..packets(3)
            },
        );
        assert_eq!((all.len(), of(&all, "bob")), (2, 4));
    }
}
