/**
 * A participant's counters go on growing whatever becomes of the slots and connections they come from.
 *
 *     node --test netem-tests/browser/
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Statistics } from "./page/statistics.js";

/** A connection with one receiver for each stream of the report. */
function connection() {
  const tracks = {};
  let report = [];
  return {
    tracks,
    /** Frames decoded so far, by mid. */
    decodes(frames) {
      report = Object.entries(frames).map(([mid, framesDecoded]) => {
        tracks[mid] ??= { id: mid };
        return { type: "inbound-rtp", kind: "video", id: `I${mid}`, mid, framesDecoded, pliCount: 1, firCount: 2 };
      });
    },
    /** One receiver's standstills so far. */
    stoodStill(counters) {
      tracks[1] ??= { id: 1 };
      report = [{ type: "inbound-rtp", kind: "video", id: "I1", mid: "1", ...counters }];
    },
    sends(encodings) {
      report = encodings.map((encoding, index) => ({ type: "outbound-rtp", kind: "video", id: `O${index}`, ...encoding }));
    },
    uses(transport, pair, local) {
      report = [
        { type: "transport", id: "T", selectedCandidatePairId: "P", ...transport },
        { type: "candidate-pair", id: "P", localCandidateId: "L", ...pair },
        { type: "local-candidate", id: "L", ...local },
      ];
    },
    getStats: async () => report.map((entry) => [entry.id, entry]),
    getTransceivers: () => Object.entries(tracks).map(([mid, track]) => ({ mid, receiver: { track } })),
  };
}

const noDelays = () => [];

test("frames are counted for whoever the slot shows at the time", async () => {
  const statistics = new Statistics();
  const call = connection();
  call.decodes({ 1: 30 });
  const senders = new Map([[call.tracks[1], "alice"]]);
  await statistics.read(1_000, [call], senders, noDelays);
  call.decodes({ 1: 50 });
  senders.set(call.tracks[1], "bob");
  const { received } = await statistics.read(2_000, [call], senders, noDelays);
  assert.deepEqual(received.map(({ from, video }) => [from, video.frames]), [["alice", 30], ["bob", 20]]);
  assert.equal(received[0].video.key_frame_requests, 3);
});

test("a participant keeps its count when it moves to another slot", async () => {
  const statistics = new Statistics();
  const call = connection();
  call.decodes({ 1: 30, 2: 7 });
  const senders = new Map([[call.tracks[1], "alice"]]);
  await statistics.read(1_000, [call], senders, noDelays);
  senders.clear();
  senders.set(call.tracks[2], "alice");
  call.decodes({ 1: 30, 2: 17 });
  const { received } = await statistics.read(2_000, [call], senders, noDelays);
  assert.equal(received[0].video.frames, 40);
});

test("a new connection counts from nothing, and the participant on", async () => {
  const statistics = new Statistics();
  const [old, fresh] = [connection(), connection()];
  old.decodes({ 1: 30 });
  fresh.decodes({ 1: 5 });
  const senders = new Map([[old.tracks[1], "alice"], [fresh.tracks[1], "alice"]]);
  await statistics.read(1_000, [old], senders, noDelays);
  const { received } = await statistics.read(2_000, [fresh], senders, noDelays);
  assert.equal(received[0].video.frames, 35);
});

test("a standstill that the browser calls a pause is one like any other", async () => {
  const statistics = new Statistics();
  const call = connection();
  call.stoodStill({ freezeCount: 1, totalFreezesDuration: 0.5, pauseCount: 0, totalPausesDuration: 0 });
  const senders = new Map([[call.tracks[1], "alice"]]);
  await statistics.read(1_000, [call], senders, noDelays);
  call.stoodStill({ freezeCount: 1, totalFreezesDuration: 0.5, pauseCount: 1, totalPausesDuration: 7.25 });
  const { received } = await statistics.read(2_000, [call], senders, noDelays);
  assert.deepEqual([received[0].video.freezes, received[0].video.frozen], [2, 7.75]);
});

test("of several encodings the largest that is alive is told", async () => {
  const statistics = new Statistics();
  const call = connection();
  const small = { frameHeight: 90, framesEncoded: 30, bytesSent: 100, targetBitrate: 150_000 };
  const large = { frameHeight: 360, framesEncoded: 28, bytesSent: 900, targetBitrate: 1_700_000 };
  call.sends([small, large]);
  const first = structuredClone(await statistics.read(1_000, [call], new Map(), noDelays));
  assert.deepEqual([first.sent.height, first.sent.frames_encoded, first.sent.video_bytes], [360, 28, 1_000]);
  assert.equal(first.sent.target_bitrate, 1_850_000);
  call.sends([{ ...small, framesEncoded: 60 }, large]);
  const { sent } = await statistics.read(2_000, [call], new Map(), noDelays);
  assert.deepEqual([sent.height, sent.frames_encoded], [90, 58]);
});

for (const [local, path] of [
  [{ candidateType: "host", protocol: "udp" }, "udp"],
  [{ candidateType: "prflx", protocol: "tcp" }, "tcp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "udp" }, "relay-udp"],
  [{ candidateType: "relay", protocol: "udp", relayProtocol: "tls" }, "relay-tls"],
]) {
  test(`the way is ${path}`, async () => {
    const call = connection();
    call.uses({}, { currentRoundTripTime: 0.25, availableOutgoingBitrate: 500_000 }, local);
    const sample = await new Statistics().read(1_000, [call], new Map(), noDelays);
    assert.deepEqual([sample.path, sample.rtt_ms, sample.available_outgoing], [path, 250, 500_000]);
  });
}
