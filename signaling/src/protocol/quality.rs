//! What the way to a client carries, what each slot gets of it, and why not more.
//!
//! In: what the media plane says ([`api::PeerQuality`]). Out: the same for clients and operators,
//! with a sentence for people about each slot.

use confab_sfu::api;
use confab_sfu::types::{Mid, TrackId};
use confab_sfu::units::Bitrate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Text;

/// To `quality`: what the way to the client carries, and what is made of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// What the way to the client can carry, in bits per second.
    pub estimate: u64,
    /// What sets the estimate.
    pub limit: Limit,
    /// The least round trip of late, in milliseconds; null if not known.
    pub round_trip: Option<u64>,
    /// The share of packets that the way loses whatever is sent, 0 to 1.
    pub link_loss: f64,
    /// What audio takes, in bits per second.
    pub audio: u64,
    /// What could be put to use, in bits per second: audio, and the best of each picture that is
    /// shown.
    pub wanted: u64,
    /// What each slot of video that shows a track gets; of audio those whose track cannot be received.
    pub slots: Vec<SlotQuality>,
    /// The latest changes of what slots get, the oldest first.
    pub decisions: Vec<Decision>,
}

/// What a slot gets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SlotQuality {
    /// The slot.
    pub mid: Text<Mid>,
    /// The track it shows.
    pub track: Text<TrackId>,
    /// How important it is.
    pub priority: Priority,
    /// Whether the client shows it.
    pub visible: bool,
    /// How wide the client shows it, in pixels; null if it has not said.
    pub width: Option<u32>,
    /// How high the client shows it, in pixels; null if it has not said.
    pub height: Option<u32>,
    /// The layer it gets; null while it is paused.
    pub layer: Option<Layer>,
    /// Why not a better one, for programs.
    pub reason: Reason,
    /// Why not a better one, for people: a sentence.
    pub explanation: String,
    /// How often the layer has changed since the slot was made.
    pub switches: u64,
}

/// A layer of a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Layer {
    /// The simulcast encoding, 0 for the first of the offer.
    pub encoding: u8,
    /// The highest spatial layer of it, 0 without scalability.
    pub spatial: u8,
    /// The highest temporal layer of it, 0 without scalability.
    pub temporal: u8,
    /// Pixels, 0 if not known.
    pub width: u32,
    /// Lines, 0 if not known.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: u32,
    /// What it takes with its repair, in bits per second.
    pub bitrate: u64,
}

/// A change of what a slot gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// How long ago, in milliseconds.
    pub ago: u64,
    /// The slot.
    pub mid: Text<Mid>,
    /// The layer it had; null if it was paused.
    pub from: Option<Layer>,
    /// The layer it got; null if it was paused by this.
    pub to: Option<Layer>,
    /// Why not a better one.
    pub reason: Reason,
    /// The estimate at that time, in bits per second.
    pub estimate: u64,
}

/// What sets an estimate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Growing delay, or what has been tried so far.
    Delay,
    /// Loss that comes of congestion.
    Loss,
    /// A queue on the way that is being drained.
    Draining,
    /// The receiver itself.
    Receiver,
}

/// How important a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The client has pinned a track to it.
    Pinned,
    /// It shows a screen.
    Screen,
    /// It shows who has the floor.
    Speaker,
    /// None of these.
    Rest,
}

/// Why a slot gets no more, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It gets the best there is.
    Best,
    /// More would not be seen in the place it is shown in, as `view` says.
    Wanted,
    /// More does not fit into the estimate.
    Estimate,
    /// More would fit, but did not shortly before; without a layer it is paused.
    Settling,
    /// Paused: the client does not show it.
    Hidden,
    /// Paused: the client has not offered to receive the codec that the publisher sends, or not this
    /// profile of it.
    Codec,
    /// Paused: the publisher sends no picture now.
    NotOffered,
    /// Paused: not even the smallest layer fits beside the more important slots.
    NoBandwidth,
}

impl From<api::Limit> for Limit {
    fn from(limit: api::Limit) -> Limit {
        match limit {
            api::Limit::Delay => Limit::Delay,
            api::Limit::Loss => Limit::Loss,
            api::Limit::Draining => Limit::Draining,
            api::Limit::Receiver => Limit::Receiver,
        }
    }
}

impl From<api::Priority> for Priority {
    fn from(priority: api::Priority) -> Priority {
        match priority {
            api::Priority::Pinned => Priority::Pinned,
            api::Priority::Screen => Priority::Screen,
            api::Priority::Speaker => Priority::Speaker,
            api::Priority::Rest => Priority::Rest,
        }
    }
}

impl From<api::Reason> for Reason {
    fn from(reason: api::Reason) -> Reason {
        match reason {
            api::Reason::Best => Reason::Best,
            api::Reason::Wanted => Reason::Wanted,
            api::Reason::Estimate => Reason::Estimate,
            api::Reason::Settling => Reason::Settling,
            api::Reason::Hidden => Reason::Hidden,
            api::Reason::Codec(_) => Reason::Codec,
            api::Reason::NotOffered => Reason::NotOffered,
            api::Reason::NoBandwidth => Reason::NoBandwidth,
        }
    }
}

impl From<api::LayerInfo> for Layer {
    fn from(layer: api::LayerInfo) -> Layer {
        Layer {
            encoding: layer.encoding.0,
            spatial: layer.spatial,
            temporal: layer.temporal,
            width: layer.width,
            height: layer.height,
            frame_rate: layer.frame_rate,
            bitrate: layer.bitrate.as_bps(),
        }
    }
}

impl From<&api::PeerQuality> for Quality {
    fn from(quality: &api::PeerQuality) -> Quality {
        let slots = quality.slots.iter();
        let decisions = quality.decisions.iter();
        // JSON has no infinity, and nothing that is not a number.
        let loss = Some(quality.link_loss).filter(|loss| loss.is_finite());
        Quality {
            estimate: quality.estimate.as_bps(),
            limit: quality.limit.into(),
            round_trip: quality.round_trip.map(millis),
            link_loss: loss.unwrap_or_default().clamp(0.0, 1.0),
            audio: quality.audio.as_bps(),
            wanted: quality.wanted.as_bps(),
            slots: slots.map(|slot| slot_quality(quality, slot)).collect(),
            decisions: decisions.map(Decision::from).collect(),
        }
    }
}

impl From<&api::Decision> for Decision {
    fn from(decision: &api::Decision) -> Decision {
        Decision {
            ago: millis(decision.ago),
            mid: Text(decision.mid),
            from: decision.from.map(Layer::from),
            to: decision.to.map(Layer::from),
            reason: decision.reason.into(),
            estimate: decision.estimate.as_bps(),
        }
    }
}

fn slot_quality(quality: &api::PeerQuality, slot: &api::SlotQuality) -> SlotQuality {
    SlotQuality {
        mid: Text(slot.mid),
        track: Text(slot.track),
        priority: slot.priority.into(),
        visible: slot.view.visible,
        width: slot.view.width,
        height: slot.view.height,
        layer: slot.layer.map(Layer::from),
        reason: slot.reason.into(),
        explanation: explain(quality, slot),
        switches: slot.switches,
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a picture is no better, in a sentence.
fn explain(quality: &api::PeerQuality, slot: &api::SlotQuality) -> String {
    let (estimate, wanted) = (mbits(quality.estimate), mbits(quality.wanted));
    match (slot.reason, slot.layer) {
        (api::Reason::Best, Some(layer)) if layer.height > 0 => format!(
            "It is the best that is sent: {} by {} pixels, {} frames a second.",
            layer.width, layer.height, layer.frame_rate
        ),
        (api::Reason::Best, _) => "It is the best that is sent.".into(),
        (api::Reason::Wanted, _) => seen(&slot.view),
        (api::Reason::Estimate, Some(layer)) => format!(
            "It takes {}. A better picture does not fit: the best of everything that is shown \
             needs {wanted}; the connection carries {estimate}.",
            mbits(layer.bitrate)
        ),
        (api::Reason::Estimate, None) => {
            format!("A picture does not fit: the connection carries {estimate}.")
        }
        (api::Reason::Settling, Some(_)) => format!(
            "A better picture fits again, and is sent once that has lasted for {} seconds.",
            api::SETTLING.as_secs()
        ),
        (api::Reason::NoBandwidth, _) => format!(
            "It is paused: the connection carries {estimate}, and pictures that are more \
             important or were there before take that."
        ),
        (reason, _) => pause(reason),
    }
}

/// What the place of a picture has to do with its quality.
fn seen(view: &api::SlotView) -> String {
    let size = match (view.width, view.height) {
        (Some(width), _) => Some(format!("{width} pixels wide")),
        (None, Some(height)) => Some(format!("{height} pixels high")),
        (None, None) => None,
    };
    let rate = view.frame_rate;
    let rate = rate.map(|rate| format!("{rate} frames a second are enough for it"));
    match (size, rate) {
        (Some(size), None) => format!("It is shown {size}; a larger picture would not be seen."),
        (Some(size), Some(rate)) => {
            format!("It is shown {size}, and {rate}; more would not be seen.")
        }
        (None, Some(rate)) => format!("More would not be seen: {rate}."),
        (None, None) => "A better picture would not be seen where it is shown.".into(),
    }
}

/// Why a picture is paused, in a sentence that needs no figures.
pub(crate) fn pause(reason: api::Reason) -> String {
    let sentence = match reason {
        api::Reason::Codec(codec) => {
            return format!(
                "It cannot be played: its publisher sends {}, which your browser cannot receive.",
                codec.described()
            );
        }
        api::Reason::Hidden => "It is paused: it is not on the screen.",
        api::Reason::NotOffered => "It is paused: its publisher sends no picture now.",
        api::Reason::Settling => {
            "It is paused: it fits again, and comes back once that has lasted for a while."
        }
        api::Reason::NoBandwidth | api::Reason::Estimate => {
            "It is paused: the connection does not carry it beside the other pictures."
        }
        api::Reason::Best | api::Reason::Wanted => "It is paused.",
    };
    sentence.to_owned()
}

/// A bitrate for people; always in the same unit, so that two can be compared.
fn mbits(bitrate: Bitrate) -> String {
    let mbits = bitrate.as_f64() / 1e6;
    if mbits < 0.1 {
        format!("{mbits:.2} Mbit/s")
    } else {
        format!("{mbits:.1} Mbit/s")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use std::time::Duration;

    use confab_sfu::media::Codec;

    use super::*;

    fn slot(reason: api::Reason, layer: bool, view: api::SlotView) -> api::SlotQuality {
        api::SlotQuality {
            mid: Mid::new("3").unwrap(),
            track: TrackId(7),
            priority: api::Priority::Speaker,
            view,
            layer: layer.then_some(api::LayerInfo {
                encoding: confab_sfu::types::EncodingIndex(1),
                width: 640,
                height: 360,
                frame_rate: 30,
                bitrate: Bitrate::kbps(620),
                ..api::LayerInfo::default()
            }),
            reason,
            switches: 4,
        }
    }

    #[test]
    fn the_sentence_says_why_with_figures() {
        let quality = api::PeerQuality {
            estimate: Bitrate::kbps(910),
            wanted: Bitrate::kbps(1740),
            ..api::PeerQuality::default()
        };
        let any = api::SlotView::default();
        let small = api::SlotView {
            width: Some(320),
            height: Some(180),
            ..any
        };
        let slow = api::SlotView {
            frame_rate: Some(15),
            ..small
        };
        for (reason, layer, view, sentence) in [
            (
                api::Reason::Best,
                true,
                any,
                "It is the best that is sent: 640 by 360 pixels, 30 frames a second.",
            ),
            (
                api::Reason::Wanted,
                true,
                small,
                "It is shown 320 pixels wide; a larger picture would not be seen.",
            ),
            (
                api::Reason::Wanted,
                true,
                slow,
                "It is shown 320 pixels wide, and 15 frames a second are enough for it; more \
                 would not be seen.",
            ),
            (
                api::Reason::Estimate,
                true,
                any,
                "It takes 0.6 Mbit/s. A better picture does not fit: the best of everything that \
                 is shown needs 1.7 Mbit/s; the connection carries 0.9 Mbit/s.",
            ),
            (
                api::Reason::Settling,
                true,
                any,
                "A better picture fits again, and is sent once that has lasted for 10 seconds.",
            ),
            (
                api::Reason::Hidden,
                false,
                any,
                "It is paused: it is not on the screen.",
            ),
            (
                api::Reason::Codec(Codec::H264 {
                    profile_idc: 0x64,
                    profile_iop: 0,
                    packetization_mode: 1,
                }),
                false,
                any,
                "It cannot be played: its publisher sends H264 high profile, which your browser \
                 cannot receive.",
            ),
            (
                api::Reason::NoBandwidth,
                false,
                any,
                "It is paused: the connection carries 0.9 Mbit/s, and pictures that are more \
                 important or were there before take that.",
            ),
        ] {
            assert_eq!(explain(&quality, &slot(reason, layer, view)), sentence);
        }
    }

    #[test]
    fn every_state_is_a_sentence_and_valid_json() {
        let reasons = [
            (api::Reason::Best, "best"),
            (api::Reason::Wanted, "wanted"),
            (api::Reason::Estimate, "estimate"),
            (api::Reason::Settling, "settling"),
            (api::Reason::Hidden, "hidden"),
            (api::Reason::Codec(Codec::Pcma), "codec"),
            (api::Reason::NotOffered, "not_offered"),
            (api::Reason::NoBandwidth, "no_bandwidth"),
        ];
        for (reason, code) in reasons {
            for layer in [true, false] {
                let slot = slot(reason, layer, api::SlotView::default());
                let quality = api::PeerQuality {
                    estimate: Bitrate::MAX,
                    round_trip: Some(Duration::MAX),
                    link_loss: f64::NAN,
                    slots: vec![slot],
                    ..api::PeerQuality::default()
                };
                let told = Quality::from(&quality);
                let explanation = &told.slots[0].explanation;
                assert!(explanation.ends_with('.'), "{explanation}");
                let json = serde_json::to_value(&told).unwrap();
                assert_eq!(json["slots"][0]["reason"], code);
                assert_eq!(json["slots"][0]["priority"], "speaker");
                assert_eq!(json["slots"][0]["width"], serde_json::Value::Null);
                assert_eq!(json["link_loss"], 0.0);
            }
        }
    }
}
