//! Flows that share a link, each a source, a pacer, an estimator and a receiver.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::link::{Link, Parcel};
use super::slots::Slots;
use super::tcp::{self, Tcp};
use crate::bandwidth::estimator::BandwidthEstimator;
use crate::bandwidth::sent::tests::with_feedback;
use crate::bandwidth::sent::{PacketKind, SentPacket};
use crate::rtp::sequence::SequenceNumber;
use crate::send::pacer::{Departure, Pacer};
use crate::units::{Bitrate, DataSize};

pub(super) const MS: Duration = Duration::from_millis(1);

/// As browsers send it at most of the rates here.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);

const PACKET: u64 = 1200;
const AUDIO: DataSize = DataSize::bytes(120);

/// What there is to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// An encoder that follows the estimate, up to a rate.
    Elastic(Bitrate),
    /// A publisher's layers, of which the highest that fits is sent. In kbit/s.
    Layers(&'static [u64]),
    /// As many slots, each of which shows a camera with such layers.
    Slots(usize, &'static [u64]),
}

impl Source {
    fn wanted(self) -> Bitrate {
        match self {
            Source::Elastic(most) => most,
            Source::Slots(count, layers) => Slots::new(count, layers).wanted(),
            Source::Layers(layers) => Bitrate::kbps(layers.last().copied().unwrap_or(0)),
        }
    }

    fn rate(self, estimate: Bitrate) -> Bitrate {
        match self {
            Source::Slots(..) => Bitrate::ZERO,
            Source::Elastic(most) => estimate.min(most),
            Source::Layers(layers) => {
                let rates = layers.iter().map(|kbps| Bitrate::kbps(*kbps));
                rates
                    .filter(|rate| *rate <= estimate)
                    .max()
                    .unwrap_or(Bitrate::ZERO)
            }
        }
    }
}

struct Feedback {
    heard: Instant,
    base: u16,
    arrivals: Vec<(u16, Duration)>,
}

pub(super) struct Flow {
    pub(super) estimator: BandwidthEstimator,
    source: Source,
    pub(super) slots: Option<Slots>,
    pacer: Pacer<(DataSize, PacketKind)>,
    starts: Instant,
    next_frame: Instant,
    next_audio: Instant,
    next_feedback: Instant,
    next_sequence: u64,
    /// What has arrived and not been told.
    arrived: VecDeque<(Instant, u64)>,
    told: u64,
    /// Feedback on its way back.
    feedback: VecDeque<Feedback>,
    pub(super) delivered: DataSize,
    pub(super) video_rate: Bitrate,
}

impl Flow {
    fn new(starts: Instant, source: Source) -> Self {
        let mut estimator = BandwidthEstimator::default();
        estimator.set_wanted(source.wanted());
        Flow {
            pacer: Pacer::new(estimator.pacing_rate()),
            slots: match source {
                Source::Slots(count, layers) => Some(Slots::new(count, layers)),
                Source::Elastic(_) | Source::Layers(_) => None,
            },
            estimator,
            source,
            starts,
            next_frame: starts,
            next_audio: starts,
            next_feedback: starts + FEEDBACK_INTERVAL,
            next_sequence: 65_500,
            arrived: VecDeque::new(),
            told: 65_500,
            feedback: VecDeque::new(),
            delivered: DataSize::ZERO,
            video_rate: Bitrate::ZERO,
        }
    }

    fn produce(&mut self, now: Instant) {
        if now >= self.next_audio {
            self.next_audio += 20 * MS;
            let item = (AUDIO, PacketKind::Audio);
            self.pacer
                .handle_packet(now, item, AUDIO, PacketKind::Audio);
        }
        if now >= self.next_frame {
            let interval = Duration::from_micros(33_333);
            self.next_frame += interval;
            let sound = AUDIO.over(20 * MS);
            let for_video = self.estimator.estimate() - sound;
            let (rate, key_frames) = match &mut self.slots {
                Some(slots) => slots.divide(now, for_video),
                None => (self.source.rate(for_video), DataSize::ZERO),
            };
            self.video_rate = rate;
            let mut frame = (rate.during(interval) + key_frames).as_bytes();
            while frame > 0 {
                let size = DataSize::bytes(frame.min(PACKET));
                frame -= size.as_bytes();
                let item = (size, PacketKind::Video);
                self.pacer.handle_packet(now, item, size, PacketKind::Video);
            }
        }
    }

    fn send(&mut self, now: Instant, flow: usize, link: &mut Link) {
        while let Some(cluster) = self.estimator.poll_probe(now) {
            self.pacer.handle_probe(now, cluster);
        }
        self.pacer.set_rate(now, self.estimator.pacing_rate());
        while let Some(departure) = self.pacer.poll(now) {
            let (size, kind, cluster) = match departure {
                Departure::Packet {
                    item: (size, kind),
                    cluster,
                } => (size, kind, cluster),
                Departure::Filler { size, cluster } => (size, PacketKind::Padding, Some(cluster)),
            };
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let packet = SentPacket {
                at: now,
                size,
                kind,
                cluster,
                media: None,
            };
            self.estimator.handle_sent(SequenceNumber(sequence), packet);
            link.send(
                now,
                Parcel {
                    flow,
                    sequence,
                    size,
                },
            );
        }
        while self.pacer.poll_dropped().is_some() {}
    }

    /// The receiver tells what has arrived, and we hear what it told.
    fn hear(&mut self, now: Instant, start: Instant, link: &mut Link, feedback_loss: f64) {
        if now >= self.next_feedback {
            self.next_feedback += FEEDBACK_INTERVAL;
            let mut arrivals = Vec::new();
            while let Some(&(at, sequence)) = self.arrived.front()
                && at <= now
            {
                self.arrived.pop_front();
                let clock = Duration::from_secs(77) + (at - start);
                arrivals.push((sequence as u16, clock));
            }
            let base = self.told as u16;
            if let Some(&(last, _)) = arrivals.last() {
                self.told = SequenceNumber(self.told).nearest(last).0 + 1;
                if link.random() >= feedback_loss {
                    self.feedback.push_back(Feedback {
                        heard: now + link.delay,
                        base,
                        arrivals,
                    });
                }
            }
        }
        while let Some(feedback) = self.feedback.front().filter(|f| f.heard <= now) {
            with_feedback(feedback.base, &feedback.arrivals, |feedback| {
                self.estimator.handle_feedback(now, feedback);
            });
            self.feedback.pop_front();
        }
        if self.estimator.next_deadline().is_some_and(|due| due <= now) {
            self.estimator.handle_timeout(now, false);
        }
    }
}

pub(super) struct Call {
    pub(super) link: Link,
    pub(super) flows: Vec<Flow>,
    tcp: Option<Tcp>,
    pub(super) feedback_loss: f64,
    start: Instant,
    now: Instant,
}

/// What was seen while a call ran.
#[derive(Debug)]
pub(super) struct Seen {
    /// Of the bottleneck, at the end.
    pub(super) queueing: Duration,
    pub(super) most_queueing: Duration,
    /// What each flow's receiver got.
    pub(super) delivered: Vec<Bitrate>,
    /// Of the first flow.
    pub(super) least_estimate: Bitrate,
    pub(super) least_video: Bitrate,
}

impl Seen {
    pub(super) fn total(&self) -> Bitrate {
        self.delivered.iter().copied().sum()
    }
}

impl Call {
    pub(super) fn new(capacity: u64, seed: u64) -> Self {
        let start = Instant::now();
        Call {
            link: Link::new(start, Bitrate::kbps(capacity), seed),
            flows: Vec::new(),
            tcp: None,
            feedback_loss: 0.0,
            start,
            now: start,
        }
    }

    pub(super) fn join(&mut self, source: Source) {
        self.flows.push(Flow::new(self.now, source));
    }

    pub(super) fn download(&mut self) {
        self.tcp = Some(Tcp::new(self.now));
    }

    /// What it has got so far.
    pub(super) fn downloaded(&self) -> DataSize {
        self.tcp
            .as_ref()
            .map_or(DataSize::ZERO, |tcp| tcp.delivered)
    }

    pub(super) fn run(&mut self, time: Duration) -> Seen {
        let end = self.now + time;
        let before: Vec<DataSize> = self.flows.iter().map(|flow| flow.delivered).collect();
        let mut seen = Seen {
            queueing: Duration::ZERO,
            most_queueing: Duration::ZERO,
            delivered: Vec::new(),
            least_estimate: Bitrate::MAX,
            least_video: Bitrate::MAX,
        };
        while self.now < end {
            self.now += MS;
            for (index, flow) in self.flows.iter_mut().enumerate() {
                if self.now < flow.starts {
                    continue;
                }
                flow.hear(self.now, self.start, &mut self.link, self.feedback_loss);
                flow.produce(self.now);
                flow.send(self.now, index, &mut self.link);
            }
            if let Some(tcp) = &mut self.tcp {
                tcp.run(self.now, &mut self.link);
            }
            while let Some((at, parcel)) = self.link.poll(self.now) {
                if parcel.flow == tcp::FLOW {
                    if let Some(tcp) = &mut self.tcp {
                        tcp.arrive(at + self.link.delay, parcel);
                    }
                    continue;
                }
                let flow = &mut self.flows[parcel.flow];
                flow.arrived.push_back((at, parcel.sequence));
                flow.delivered += parcel.size;
            }
            seen.queueing = self.link.queueing(self.now);
            seen.most_queueing = seen.most_queueing.max(seen.queueing);
            if let Some(flow) = self.flows.first() {
                seen.least_estimate = seen.least_estimate.min(flow.estimator.estimate());
                seen.least_video = seen.least_video.min(flow.video_rate);
            }
        }
        let delivered = self.flows.iter().zip(before);
        seen.delivered = delivered
            .map(|(flow, before)| (flow.delivered - before).over(time))
            .collect();
        seen
    }

    /// Runs and says what it saw each second, for looking at.
    pub(super) fn trace(&mut self, seconds: u32) {
        for _ in 0..seconds {
            let seen = self.run(1000 * MS);
            let estimates: Vec<String> = self
                .flows
                .iter()
                .map(|flow| {
                    format!(
                        "{} ({:?})",
                        flow.estimator.estimate(),
                        flow.estimator.limit()
                    )
                })
                .collect();
            println!(
                "{:4} s  queue {:4} ms, most {:4} ms  got {:?}  estimates {estimates:?} link loss {:.2} {}",
                (self.now - self.start).as_secs(),
                seen.queueing.as_millis(),
                seen.most_queueing.as_millis(),
                seen.delivered
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
                self.flows[0].estimator.link_loss(),
                self.flows[0].estimator.is_competing(),
            );
        }
    }
}
