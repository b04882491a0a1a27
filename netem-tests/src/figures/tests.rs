use confab_bot::sample::{AudioReceived, Received, Sent, VideoReceived};

use super::*;

const CALL: CallTime = CallTime {
    start: 50_000.0,
    duration: 10.0,
};
const BOTH: Sends = Sends {
    audio: true,
    video: true,
};

fn ms(t: f64) -> f64 {
    CALL.start + t * 1000.0
}

fn log(name: &str, samples: impl IntoIterator<Item = Sample>) -> ClientLog {
    let joining = [Line::Joining { at: ms(0.0) }, Line::Joined { at: ms(0.2) }];
    let samples = samples.into_iter().map(Line::Sample);
    ClientLog {
        name: name.into(),
        lines: joining.into_iter().chain(samples).collect(),
        link: Vec::new(),
    }
}

/// What bob tells at the end of each second of alice's picture.
fn watching(seconds: impl IntoIterator<Item = VideoReceived>) -> Stream {
    watching_through(seconds, Vec::new())
}

fn watching_through(seconds: impl IntoIterator<Item = VideoReceived>, changes: Vec<f64>) -> Stream {
    let samples = seconds.into_iter().zip(1..).map(|(video, t)| Sample {
        at: ms(f64::from(t)),
        received: vec![Received {
            from: "alice".into(),
            video: Some(video),
            audio: None,
        }],
        ..Sample::default()
    });
    Stream::new(&log("bob", samples), &log("alice", []), BOTH, changes, CALL)
}

fn frames(frames: u64) -> VideoReceived {
    VideoReceived {
        frames,
        bytes: frames * 1000,
        height: Some(360),
        ..VideoReceived::default()
    }
}

/// Frames counted at the end of each second.
fn counted(counts: &[u64]) -> Vec<VideoReceived> {
    counts.iter().map(|n| frames(*n)).collect()
}

#[test]
fn sound_that_was_made_up_is_told_from_silence() {
    // (samples, concealed, of these silent) at the end of each second; the share in percent.
    type Second = (u64, u64, u64);
    let table: [(&[Second], f64); 3] = [
        (&[(48_000, 0, 0), (96_000, 4_800, 0)], 10.0),
        (&[(48_000, 0, 0), (96_000, 4_800, 2_400)], 5.0),
        // The connection is new: counters begin anew.
        (
            &[(48_000, 9_000, 0), (96_000, 9_000, 0), (48_000, 4_800, 0)],
            5.0,
        ),
    ];
    for (seconds, expected) in table {
        let samples = seconds
            .iter()
            .zip(1..)
            .map(|((samples, concealed, silent), t)| Sample {
                at: ms(f64::from(t)),
                received: vec![Received {
                    from: "alice".into(),
                    audio: Some(AudioReceived {
                        samples: *samples,
                        concealed: *concealed,
                        silent_concealed: *silent,
                        ..AudioReceived::default()
                    }),
                    video: None,
                }],
                ..Sample::default()
            });
        let sends = Sends {
            video: false,
            ..BOTH
        };
        let stream = Stream::new(
            &log("bob", samples),
            &log("alice", []),
            sends,
            Vec::new(),
            CALL,
        );
        let figures = stream.summary(None);
        assert_eq!(figures.get(&Figure::AudioConcealed), Some(&expected));
        assert_eq!(figures.get(&Figure::VideoFrozen), None);
    }
}

#[test]
fn frames_are_counted_from_the_first_picture_on_or_within_the_window() {
    let stream = watching(counted(&[0, 10, 40, 70, 100, 130, 160, 190, 220, 250]));
    let fps = |window| {
        stream
            .summary(window)
            .get(&Figure::FramesPerSecond)
            .copied()
    };
    assert_eq!(fps(None), Some(30.0));
    let window = |from, until| Some(Window { from, until });
    assert_eq!(fps(window(0.0, 10.0)), Some(25.0));
    assert_eq!(fps(window(1.0, 3.0)), Some(20.0));
    assert_eq!(fps(window(20.0, 30.0)), None);
    let series = stream.series();
    assert_eq!(series.t.len(), 10);
    assert_eq!(series.values[&Figure::FramesPerSecond][1], Some(10.0));
}

#[test]
fn a_freeze_counts_also_when_it_does_not_end() {
    let ended = |seconds: &mut [VideoReceived], from: usize, frozen: f64| {
        for video in &mut seconds[from..] {
            video.frozen = frozen;
            video.freezes = 1;
        }
    };
    // It stood still for three seconds and getStats counted that when it was over.
    let mut counted_freeze = counted(&[30, 60, 90, 90, 90, 105, 135, 165, 195, 225]);
    ended(&mut counted_freeze, 5, 2.7);
    let table = [
        (
            counted(&[30, 60, 90, 120, 150, 180, 210, 240, 270, 300]),
            0.0,
            0.0,
        ),
        (counted_freeze, 30.0, 1.0),
        // It stopped for good.
        (
            counted(&[30, 60, 90, 120, 150, 180, 210, 210, 210, 210]),
            33.333,
            1.0,
        ),
        // It stopped, and the client connected anew.
        (
            counted(&[30, 60, 90, 90, 90, 20, 50, 80, 110, 140]),
            22.222,
            1.0,
        ),
        // It stopped, and came back on another connection, whose counters are added up.
        (
            counted(&[30, 60, 90, 90, 90, 90, 100, 130, 160, 190]),
            33.333,
            1.0,
        ),
        // A screen that changes every other second stands still in between.
        (counted(&[1, 1, 2, 2, 3, 3, 4, 4, 5, 5]), 0.0, 0.0),
        // It never came.
        (counted(&[0; 10]), 100.0, 1.0),
        // The client fell silent after the fourth second.
        (counted(&[30, 60, 90, 120]), 66.667, 1.0),
    ];
    for (n, (seconds, frozen, freezes)) in table.into_iter().enumerate() {
        let figures = watching(seconds).summary(None);
        assert_eq!(figures.get(&Figure::VideoFrozen), Some(&frozen), "{n}");
        assert_eq!(figures.get(&Figure::Freezes), Some(&freezes), "{n}");
        // From the first picture to the last sample there are so many seconds.
        let seconds = if frozen == 100.0 { 10.0 } else { 9.0 };
        let longest = figures[&Figure::LongestFreeze];
        assert!(
            (longest - frozen * seconds / 100.0).abs() < 0.01,
            "{n}: {longest}"
        );
    }
}

#[test]
fn a_freeze_that_is_counted_a_sample_late_counts_once() {
    // Decoded before the sixth sample, shown after it.
    let mut seconds = counted(&[30, 60, 90, 90, 90, 91, 120, 150, 180, 210]);
    for video in &mut seconds[6..] {
        (video.frozen, video.freezes) = (2.9, 1);
    }
    let figures = watching(seconds).summary(None);
    assert_eq!(figures[&Figure::VideoFrozen], 32.222);
    assert_eq!(figures[&Figure::Freezes], 1.0);
}

#[test]
fn a_freeze_is_shown_where_it_was() {
    let mut seconds = counted(&[30, 60, 90, 90, 90, 105, 135, 165, 195, 225]);
    for video in &mut seconds[5..] {
        video.frozen = 2.7;
    }
    let stream = watching(seconds);
    let series = &stream.series().values[&Figure::VideoFrozen];
    let percent: Vec<f64> = series.iter().flatten().copied().collect();
    assert_eq!(
        percent,
        [0.0, 0.0, 0.0, 70.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0]
    );
    let first_half = stream.summary(Some(Window {
        from: 0.0,
        until: 5.0,
    }));
    assert_eq!(first_half[&Figure::VideoFrozen], 34.0);
}

#[test]
fn recovery_is_from_the_change_until_pictures_are_back() {
    let steady = [30, 60, 90, 120, 150, 180, 210, 240, 270, 300];
    let outage = [30, 60, 90, 100, 100, 100, 112, 142, 172, 202];
    let for_good = [30, 60, 90, 100, 100, 100, 100, 100, 100, 100];
    let reconnect = [30, 60, 90, 90, 90, 20, 50, 80, 110, 140];
    let table = [
        (steady, vec![], None),
        (steady, vec![3.2], Some(0.0)),
        (outage, vec![3.2], Some(3.8)),
        // The network was back at 5.5: what matters is the time from there.
        (outage, vec![3.2, 5.5], Some(1.5)),
        (for_good, vec![3.2], Some(6.8)),
        (reconnect, vec![3.0], Some(2.0)),
    ];
    for (counts, changes, expected) in table {
        let stream = watching_through(counted(&counts), changes.clone());
        let recovery = stream.summary(None).get(&Figure::Recovery).copied();
        assert_eq!(recovery, expected, "{counts:?} {changes:?}");
    }
}

#[test]
fn recovery_takes_as_long_as_the_standstill_that_was_measured() {
    let mut outage = counted(&[30, 60, 90, 100, 100, 125, 155, 185, 215, 245]);
    for (n, second) in outage.iter_mut().enumerate() {
        (second.frozen, second.freezes) = match n {
            // One that was over before the change, and the one that it brought.
            ..2 => (0.0, 0),
            2..5 => (0.4, 1),
            _ => (2.3, 2),
        };
    }
    let stream = watching_through(outage, vec![3.2]);
    let recovery = stream.summary(None)[&Figure::Recovery];
    assert!((recovery - 1.9).abs() < 1e-9, "{recovery}");
}

#[test]
fn sizes_delays_and_repair_are_what_they_say() {
    let seconds = (1..=10).map(|t| VideoReceived {
        frames: t * 30,
        bytes: t * 125_000,
        retransmitted_bytes: t * 20_000,
        fec_bytes: t * 5_000,
        height: Some(if (4..=5).contains(&t) { 180 } else { 360 }),
        key_frame_requests: u64::from(t >= 4),
        jitter_buffer_delay: t as f64 * 30.0 * 0.08,
        jitter_buffer_emitted: t * 30,
        picture_delays: vec![100.0, 110.0, if t == 7 { 400.0 } else { 120.0 }],
        ..VideoReceived::default()
    });
    let figures = watching(seconds).summary(None);
    let expected = [
        (Figure::Height, 360.0),
        (Figure::ResolutionSwitches, 13.333),
        (Figure::Switches, 2.0),
        (Figure::SwitchesUp, 1.0),
        (Figure::SwitchesDown, 1.0),
        (Figure::LongestFreeze, 0.0),
        (Figure::VideoBitrate, 1000.0),
        (Figure::ReceivedRepair, 25.0),
        (Figure::KeyFrameRequests, 1.0),
        (Figure::VideoBuffer, 80.0),
        (Figure::PictureDelay, 110.0),
        (Figure::PictureDelayP95, 120.0),
    ];
    for (figure, value) in expected {
        assert_eq!(figures.get(&figure), Some(&value), "{figure:?}");
    }
}

#[test]
fn the_first_picture_is_timed_from_the_later_of_the_two() {
    let mut bob = log("bob", []);
    let shown = |t: f64, from: &str| Line::FirstFrame {
        at: ms(t),
        from: from.into(),
    };
    bob.lines.extend([shown(0.5, "carol"), shown(3.6, "alice")]);
    let mut alice = log("alice", []);
    alice.lines[0] = Line::Joining { at: ms(3.0) };
    let stream = Stream::new(&bob, &alice, BOTH, Vec::new(), CALL);
    let figures = stream.summary(None);
    assert_eq!(figures.get(&Figure::FirstFrame), Some(&600.0));
    // Nothing else was ever told.
    assert_eq!(figures.get(&Figure::VideoFrozen), Some(&100.0));
}

#[test]
fn a_client_is_judged_by_what_it_sent_and_over_what() {
    let sample = |t: u64, video_bytes: u64, path: &str| Sample {
        at: ms(t as f64),
        rtt_ms: Some(40.0 + t as f64),
        downlink_estimate: Some(1e6 - 1e5 * t as f64),
        flow_bytes: Some(125_000 * t),
        path: Some(path.into()),
        sent: Sent {
            audio_bytes: 5_000 * t,
            video_bytes,
            video_retransmitted_bytes: video_bytes / 11,
            ..Sent::default()
        },
        ..Sample::default()
    };
    let mut alice = log(
        "alice",
        [
            sample(1, 110_000, "udp"),
            sample(2, 220_000, "udp"),
            sample(3, 330_000, "tcp"),
        ],
    );
    let direction = |t: u64| DirectionSample {
        sent: 100 * t,
        lost: 10 * t,
        overflowed: 5 * t,
        delivered_bytes: 62_500 * t,
        queueing_delay_ms: 20.0,
        longest_wait_ms: 50.0 * t as f64,
        rate: Some(1_000_000),
        ..DirectionSample::default()
    };
    alice.link = (0..=3)
        .map(|t| LinkSample {
            at: ms(t as f64),
            up: direction(t),
            down: DirectionSample::default(),
        })
        .collect();
    let client = ClientFigures::new(&alice, CALL);
    let figures = client.summary(None);
    let expected = [
        (Figure::JoinTime, Some(200.0)),
        (Figure::RoundTrip, Some(42.0)),
        (Figure::SentBitrate, Some(920.0)),
        (Figure::SentRepair, Some(10.0)),
        (Figure::DownlinkEstimate, Some(700.0)),
        (Figure::Throughput, Some(1000.0)),
        (Figure::UplinkLoss, Some(15.0)),
        (Figure::UplinkQueue, Some(20.0)),
        (Figure::UplinkQueueMax, Some(150.0)),
        (Figure::UplinkBitrate, Some(500.0)),
        (Figure::UplinkUse, Some(50.0)),
        (Figure::DownlinkLoss, None),
        (Figure::DownlinkUse, None),
    ];
    for (figure, value) in expected {
        assert_eq!(figures.get(&figure).copied(), value, "{figure:?}");
    }
    assert_eq!(
        client.paths(),
        [(1.0, "udp".to_owned()), (3.0, "tcp".to_owned())]
    );
    assert_eq!(client.link_series().t, [1.0, 2.0, 3.0]);
}
