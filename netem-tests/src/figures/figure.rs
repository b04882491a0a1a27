//! The figures: the one list of what is measured, which scenarios expect by name, results.json holds
//! by name and the report shows.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::units::{parse_duration, parse_percent, parse_rate};

/// What a figure is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// 0 to 100, or more where what is compared is not a part.
    Percent,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// 1000 bits a second.
    Kilobits,
    /// So many a second.
    PerSecond,
    /// So many a minute.
    PerMinute,
    /// So many.
    Count,
    /// Lines of a picture.
    Lines,
    /// 0 to 1.
    Score,
}

/// Which way a person would have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// The less the better.
    Lower,
    /// The more the better.
    Higher,
    /// It says what happened, not how good that is.
    Neither,
}

/// Whose figure it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// What one receiver has of the audio of one sender.
    Sound,
    /// What one receiver has of the picture of one sender.
    Picture,
    /// One client and its network.
    Client,
}

/// What there is to know of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Its name in scenarios and results.json.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Whose it is.
    pub scope: Scope,
    /// A difference up to this, in its unit, is never called one.
    pub noise: f64,
    /// What it says and how it comes about.
    pub about: &'static str,
}

macro_rules! figures {
    ($($variant:ident $name:literal $title:literal $unit:ident $better:ident $scope:ident $noise:literal $about:literal)*) => {
        /// A figure.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Figure {
            $(#[doc = $about] #[serde(rename = $name)] $variant,)*
        }

        impl Figure {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[Figure] = &[$(Figure::$variant),*];

            /// What there is to know of it.
            #[must_use]
            pub fn info(self) -> Info {
                match self {
                    $(Figure::$variant => Info {
                        name: $name,
                        title: $title,
                        unit: Unit::$unit,
                        better: Better::$better,
                        scope: Scope::$scope,
                        noise: $noise,
                        about: $about,
                    },)*
                }
            }
        }
    };
}

figures! {
    AudioConcealed "audio_concealed" "audio concealed" Percent Lower Sound 0.2
        "Sound that was made up because none had come, silence not counted: (`concealedSamples` − `silentConcealedSamples`) / `totalSamplesReceived`."
    AudioScore "audio_score" "audio score" Score Higher Sound 0.02
        "How intelligible the decoded sound is against what was sent (STOI), over the call so far. Of bots only."
    AudioBuffer "audio_buffer" "audio buffer" Milliseconds Lower Sound 10.0
        "How long sound waited in the jitter buffer, on average: `jitterBufferDelay` / `jitterBufferEmittedCount`."
    FramesPerSecond "frames_per_second" "frame rate" PerSecond Higher Picture 0.5
        "Frames decoded a second (`framesDecoded`)."
    VideoFrozen "video_frozen" "video frozen" Percent Lower Picture 0.5
        "Share of the time in which the picture stood still (`totalFreezesDuration` and `totalPausesDuration`, which is what Chromium counts when no packet has come for five seconds). getStats counts a freeze when it ends; one that does not end, because the call or the connection ended first, counts from its last frame. A picture that never came is frozen throughout."
    Freezes "freezes" "freezes" Count Lower Picture 1.0
        "How often the picture stood still (`freezeCount` and `pauseCount`, and the one that did not end)."
    LongestFreeze "longest_freeze" "longest freeze" Seconds Lower Picture 0.3
        "How long the picture stood still at most. Freezes that getStats counted between two samples are taken for one."
    Height "height" "height" Lines Higher Picture 10.0
        "Height of the picture in lines, the median over the samples."
    ResolutionSwitches "resolution_switches" "size changes" PerMinute Lower Picture 1.0
        "How often the picture changed its size, a minute."
    Switches "switches" "switches" Count Lower Picture 1.0
        "How often the picture changed its height."
    SwitchesUp "switches_up" "switches up" Count Lower Picture 1.0
        "Of these, to a larger one."
    SwitchesDown "switches_down" "switches down" Count Lower Picture 1.0
        "Of these, to a smaller one."
    PictureDelay "picture_delay" "picture delay" Milliseconds Lower Picture 15.0
        "From capture to rendering, read from a time code in the picture; the median."
    PictureDelayP95 "picture_delay_p95" "picture delay, p95" Milliseconds Lower Picture 30.0
        "The same, which 95 of 100 pictures stay below."
    VideoBuffer "video_buffer" "video buffer" Milliseconds Lower Picture 15.0
        "How long frames waited in the jitter buffer, on average: `jitterBufferDelay` / `jitterBufferEmittedCount`."
    KeyFrameRequests "key_frame_requests" "key frames asked for" Count Lower Picture 2.0
        "How often the receiver asked for a whole picture (`pliCount` + `firCount`)."
    VideoBitrate "video_bitrate" "video received" Kilobits Neither Picture 50.0
        "Video that arrived, repair included."
    ReceivedRepair "received_repair" "repair received" Percent Lower Picture 1.0
        "Retransmissions and FEC that arrived, over the media that arrived."
    FirstFrame "first_frame" "first picture" Milliseconds Lower Picture 100.0
        "From joining (of the later of the two) to the first picture shown."
    Recovery "recovery" "recovery" Seconds Lower Picture 1.0
        "From a change of the network to pictures at half their former rate again; the longest. It is the length of the standstill, where the receiver has measured one, else to the second. 0 if they never fell below; to the end of the call if they never came back."
    JoinTime "join_time" "join time" Milliseconds Lower Client 50.0
        "From asking to join to being let in."
    RoundTrip "round_trip" "round trip" Milliseconds Lower Client 5.0
        "`currentRoundTripTime` between client and server, the median over the samples."
    SentBitrate "sent_bitrate" "sent" Kilobits Neither Client 50.0
        "Audio and video that the client sent, retransmissions included."
    Estimate "estimate" "uplink estimate" Kilobits Neither Client 50.0
        "What the client believes it may send (`availableOutgoingBitrate`), the median over the samples."
    DownlinkEstimate "downlink_estimate" "downlink estimate" Kilobits Higher Client 50.0
        "What the server believes that the client's downlink carries, the least of the samples."
    SentRepair "sent_repair" "repair sent" Percent Lower Client 1.0
        "Video that the client sent again, over what it sent once. FEC is not told apart by getStats."
    Throughput "throughput" "throughput" Kilobits Higher Client 50.0
        "What an iperf3 carried: payload of TCP."
    UplinkLoss "uplink_loss" "uplink loss" Percent Neither Client 0.5
        "Packets that did not get through the link upward: lost, dropped by a full queue, or cut."
    DownlinkLoss "downlink_loss" "downlink loss" Percent Neither Client 0.5
        "The same, downward."
    UplinkQueue "uplink_queue" "uplink queue" Milliseconds Lower Client 10.0
        "How long a packet would have waited before the bottleneck upward, the median over the samples."
    DownlinkQueue "downlink_queue" "downlink queue" Milliseconds Lower Client 10.0
        "The same, downward."
    UplinkQueueMax "uplink_queue_max" "longest uplink queue" Milliseconds Lower Client 20.0
        "The longest that a packet had to wait before the bottleneck upward."
    DownlinkQueueMax "downlink_queue_max" "longest downlink queue" Milliseconds Lower Client 20.0
        "The same, downward."
    UplinkBitrate "uplink_bitrate" "uplink" Kilobits Neither Client 50.0
        "What the link carried upward, IP headers counted."
    DownlinkBitrate "downlink_bitrate" "downlink" Kilobits Neither Client 50.0
        "The same, downward."
    UplinkUse "uplink_use" "uplink use" Percent Higher Client 5.0
        "What the link carried upward, over what it could while it had a rate."
    DownlinkUse "downlink_use" "downlink use" Percent Higher Client 5.0
        "The same, downward."
}

impl Figure {
    /// The figure of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|figure| figure.info().name == name)
    }

    /// A value with its unit, as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        self.info().unit.show(value)
    }

    /// The worst of some values, in the direction in which it is better; of what is neither, the
    /// largest.
    #[must_use]
    pub fn worst(self, values: impl IntoIterator<Item = f64>) -> Option<f64> {
        let is_worse = |a: f64, b: f64| match self.info().better {
            Better::Higher => a < b,
            Better::Lower | Better::Neither => a > b,
        };
        let worse = |a, b| if is_worse(b, a) { b } else { a };
        values.into_iter().reduce(worse)
    }
}

impl Unit {
    /// A value with this unit, as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        let digits = match self {
            Unit::Percent if value.abs() < 9.95 => 1,
            Unit::PerSecond | Unit::PerMinute | Unit::Seconds => 1,
            Unit::Score => 2,
            _ => 0,
        };
        format!("{value:.digits$}{}", self.symbol())
    }

    /// What follows the number.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::Percent => " %",
            Unit::Milliseconds => " ms",
            Unit::Seconds => " s",
            Unit::Kilobits => " kbit/s",
            Unit::PerSecond => "/s",
            Unit::PerMinute => "/min",
            Unit::Count | Unit::Score => "",
            Unit::Lines => " lines",
        }
    }

    /// A number of this unit as a scenario writes it: `4%`, `300ms`, `1 Mbit/s`, `24`.
    ///
    /// # Errors
    /// A sentence about what is wrong with the text.
    pub fn parse(self, text: &str) -> Result<f64, String> {
        match self {
            Unit::Percent => parse_percent(text).map(|share| share * 100.0),
            Unit::Milliseconds => parse_duration(text).map(|time| time.as_secs_f64() * 1e3),
            Unit::Seconds => parse_duration(text).map(|time| time.as_secs_f64()),
            Unit::Kilobits => parse_rate(text).map(|rate| rate as f64 / 1e3),
            Unit::PerSecond | Unit::PerMinute | Unit::Count | Unit::Lines | Unit::Score => {
                let number = text.trim().parse().ok().filter(|n: &f64| n.is_finite());
                number.ok_or_else(|| format!("\"{text}\" is not a number, like 24"))
            }
        }
    }
}

/// The figures as docs/netem.md shows them: a Markdown table.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| figure | of | better | noise | what it says |\n| --- | --- | --- | --- | --- |\n",
    );
    for figure in Figure::ALL {
        let info = figure.info();
        let of = match info.scope {
            Scope::Sound => "sound at a receiver",
            Scope::Picture => "picture at a receiver",
            Scope::Client => "client",
        };
        let better = match info.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
            Better::Neither => "",
        };
        let unit = match info.unit {
            Unit::Count => String::new(),
            Unit::Score => " (0 to 1)".to_owned(),
            unit => format!(" ({})", unit.symbol().trim()),
        };
        let noise = match info.better {
            Better::Neither => String::new(),
            _ => info.noise.to_string(),
        };
        let (name, about) = (info.name, info.about);
        let _ = writeln!(
            text,
            "| `{name}`{unit} | {of} | {better} | {noise} | {about} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_found_by_the_name_it_is_written_with() {
        for figure in Figure::ALL {
            let name = figure.info().name;
            assert_eq!(Figure::named(name), Some(*figure));
            let written = serde_json::to_value(figure).ok();
            assert_eq!(written, Some(name.into()));
        }
        assert_eq!(Figure::named("audio"), None);
    }

    #[test]
    fn limits_are_read_and_values_shown_in_the_unit_of_the_figure() {
        let table = [
            (Figure::VideoFrozen, "0.5%", 0.5, "0.5 %"),
            (Figure::PictureDelay, "1.5s", 1500.0, "1500 ms"),
            (Figure::Recovery, "1500ms", 1.5, "1.5 s"),
            (Figure::FramesPerSecond, "24", 24.0, "24.0/s"),
            (Figure::VideoBitrate, "1 Mbit/s", 1000.0, "1000 kbit/s"),
        ];
        for (figure, text, value, shown) in table {
            assert_eq!(figure.info().unit.parse(text), Ok(value));
            assert_eq!(figure.show(value), shown);
        }
        assert!(Unit::PerSecond.parse("24 fps").is_err());
        assert!(Unit::Percent.parse("24").is_err());
    }

    #[test]
    fn the_worst_is_the_one_nobody_wants() {
        let values = [3.0, 1.0, 2.0];
        assert_eq!(Figure::VideoFrozen.worst(values), Some(3.0));
        assert_eq!(Figure::FramesPerSecond.worst(values), Some(1.0));
        assert_eq!(Figure::FramesPerSecond.worst([]), None);
    }
}
