//! Which header extensions a packet goes without, so that it fits the path to its receiver.
//!
//! In: what a packet would carry, and how much room it has. Out: the extensions that it does carry. We
//! add some to a packet that its publisher may have filled to the last byte.

use crate::media::{Extension, ExtensionMap};
use crate::rtp::extension::{HeaderExtensions, Lengths};

/// What a packet can do without, the first to be left out first. The rest it needs: the transport-wide
/// number, since an estimate that never sees the large packets would be a fraction of what the path
/// carries; the dependency descriptor, which decoders want of every packet or of none; and orientation,
/// which receivers take from the last packet of a frame.
const OPTIONAL: [Extension; 5] = [
    // It comes with few packets, and receivers reckon on between them.
    Extension::AbsCaptureTime,
    Extension::AudioLevel,
    // Holds until another one comes.
    Extension::PlayoutDelay,
    Extension::AbsSendTime,
    Extension::Mid,
];

/// What is known of the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Receiver {
    /// It knows which m-line the stream belongs to.
    pub(crate) knows_stream: bool,
    /// It tells of transport-wide numbers what it gets; otherwise it estimates by absolute send time.
    pub(crate) gives_feedback: bool,
}

impl Receiver {
    fn needs(self, extension: Extension) -> bool {
        match extension {
            Extension::Mid => !self.knows_stream,
            Extension::AbsSendTime => !self.gives_feedback,
            _ => false,
        }
    }
}

/// The extensions of a packet whose block of them has `room` bytes; `lengths` are those of what stands
/// beside `values`. All of them where the packet is too long without any that it can do without,
/// since it has to be fragmented then in any case.
#[must_use]
pub(crate) fn fit(
    all: &ExtensionMap,
    values: &HeaderExtensions,
    lengths: Lengths,
    receiver: Receiver,
    room: usize,
) -> ExtensionMap {
    let mut map = *all;
    let optional = OPTIONAL.into_iter().filter(|e| !receiver.needs(*e));
    for extension in optional {
        if values.block_len(&map, lengths) <= room {
            return map;
        }
        map.set(extension, 0);
    }
    match values.block_len(&map, lengths) <= room {
        true => map,
        false => *all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::extension::{AbsCaptureTime, PlayoutDelay};

    #[test]
    fn what_matters_least_is_left_out_first() {
        use Extension::{
            AbsCaptureTime as Capture, AbsSendTime as SendTime, DependencyDescriptor as Descriptor,
            Mid as Name, PlayoutDelay as Playout, TransportSequence as Transport,
        };
        let mut all = ExtensionMap::default();
        for (id, extension) in (1..).zip([Name, Transport, SendTime, Playout, Capture, Descriptor])
        {
            all.set(extension, id);
        }
        let values = HeaderExtensions {
            transport_sequence: Some(0),
            abs_send_time: Some(0),
            playout_delay: Some(PlayoutDelay {
                min_ms: 0,
                max_ms: 0,
            }),
            capture_time: Some(AbsCaptureTime {
                timestamp: 0,
                clock_offset: None,
            }),
            ..HeaderExtensions::default()
        };
        let whole = [Name, Transport, SendTime, Playout, Capture];
        let (known, new) = ((true, true), (false, true));
        for (room, (knows_stream, gives_feedback), descriptor, kept) in [
            (28, new, 0, &whole[..]),
            (27, new, 0, &[Name, Transport, SendTime, Playout]),
            (19, known, 0, &[Name, Transport, SendTime]),
            (15, known, 0, &[Name, Transport]),
            (11, known, 0, &[Transport]),
            (8, known, 0, &[Transport]),
            // It has to be fragmented.
            (7, known, 0, &whole),
            // Until it knows the stream by its name.
            (15, new, 0, &[Name, Transport]),
            (11, new, 0, &whole),
            // It has nothing else to estimate by.
            (15, (true, false), 0, &[Transport, SendTime]),
            (11, (true, false), 0, &whole),
            // Nothing may be wanting of what frames depend on; it takes the longer form.
            (
                60,
                new,
                20,
                &[Name, Transport, SendTime, Playout, Capture, Descriptor],
            ),
            (32, known, 20, &[Transport, Descriptor]),
        ] {
            let receiver = Receiver {
                knows_stream,
                gives_feedback,
            };
            let lengths = Lengths { mid: 1, descriptor };
            let map = fit(&all, &values, lengths, receiver, room);
            let carried = map.iter().map(|(extension, _)| extension);
            let has_value = |e: &Extension| descriptor > 0 || *e != Descriptor;
            let carried: Vec<Extension> = carried.filter(has_value).collect();
            let mut kept = kept.to_vec();
            kept.sort_unstable_by_key(|e| *e as u8);
            assert_eq!(carried, kept, "{room} bytes for {receiver:?}");
        }
    }
}
