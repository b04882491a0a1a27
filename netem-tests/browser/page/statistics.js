/**
 * `getStats` of all connections of a call, turned into one sample a second. The browser counts by
 * stream and by connection, and both may change under a participant: a slot shows somebody else, a
 * connection is replaced. So growth is what is added up here, under the participant's name.
 */

/** @import { AudioReceived, Kind, Received, Sample, Sent, VideoReceived } from "./types.js" */

/** A report is a bag of loosely specified records. @typedef {Record<string, any>} Entry */

/**
 * Who is received by which connection's receiver.
 * @typedef {Map<MediaStreamTrack, string>} Senders
 */

/** Our name of a counter, and the browser's; added up where there are several. */
const AUDIO_COUNTERS = {
  packets: ["packetsReceived"],
  lost: ["packetsLost"],
  bytes: ["bytesReceived"],
  samples: ["totalSamplesReceived"],
  concealed: ["concealedSamples"],
  silent_concealed: ["silentConcealedSamples"],
  jitter_buffer_delay: ["jitterBufferDelay"],
  jitter_buffer_emitted: ["jitterBufferEmittedCount"],
};
const VIDEO_COUNTERS = {
  packets: ["packetsReceived"],
  lost: ["packetsLost"],
  bytes: ["bytesReceived"],
  retransmitted_bytes: ["retransmittedBytesReceived"],
  fec_bytes: ["fecBytesReceived"],
  frames: ["framesDecoded"],
  key_frames: ["keyFramesDecoded"],
  // Chromium calls a standstill in which no packet has come for five seconds a pause, and counts it as
  // that alone (libwebrtc's VideoQualityObserver): each is in one of the two.
  freezes: ["freezeCount", "pauseCount"],
  frozen: ["totalFreezesDuration", "totalPausesDuration"],
  nacks: ["nackCount"],
  key_frame_requests: ["pliCount", "firCount"],
  jitter_buffer_delay: ["jitterBufferDelay"],
  jitter_buffer_emitted: ["jitterBufferEmittedCount"],
};
const SENT_COUNTERS = {
  audio: { audio_bytes: ["bytesSent"] },
  video: { video_bytes: ["bytesSent"], video_retransmitted_bytes: ["retransmittedBytesSent"] },
};

export class Statistics {
  /** What each stream of each connection had counted. @type {WeakMap<RTCPeerConnection, Map<string, Entry>>} */
  #before = new WeakMap();
  /** @type {Sent} */
  #sent = {
    audio_bytes: 0,
    video_bytes: 0,
    video_retransmitted_bytes: 0,
    frames_encoded: 0,
    height: null,
    target_bitrate: null,
  };
  /** @type {Map<string, Received>} */
  #received = new Map();

  /**
   * @param {number} at
   * @param {RTCPeerConnection[]} connections What carries the own tracks first.
   * @param {Senders} senders
   * @param {(from: string) => number[]} takeDelays
   * @returns {Promise<Sample>}
   */
  async read(at, connections, senders, takeDelays) {
    const reports = await Promise.all(connections.map(async (connection) => ({ connection, entries: await entriesOf(connection) })));
    this.#sent.height = null;
    this.#sent.target_bitrate = null;
    for (const { connection, entries } of reports) {
      const before = this.#before.get(connection) ?? new Map();
      this.#before.set(connection, entries);
      this.#addSent(entries, before);
      this.#addReceived(entries, before, sendersByMid(connection, senders));
    }
    for (const { from, video } of this.#received.values()) {
      if (video) video.picture_delays = takeDelays(from);
    }
    return { at, ...wayOf(reports[0]?.entries), sent: this.#sent, received: [...this.#received.values()] };
  }

  /**
   * @param {Map<string, Entry>} entries
   * @param {Map<string, Entry>} before
   */
  #addSent(entries, before) {
    /** The largest encoding that has sent a frame since. @type {Entry | undefined} */
    let largest;
    for (const entry of entries.values()) {
      if (entry.type !== "outbound-rtp") continue;
      const earlier = before.get(entry.id);
      addGrowth(this.#sent, SENT_COUNTERS[/** @type {Kind} */ (entry.kind)], entry, earlier);
      if (entry.kind !== "video") continue;
      if (entry.targetBitrate !== undefined) this.#sent.target_bitrate = (this.#sent.target_bitrate ?? 0) + entry.targetBitrate;
      const frames = growth("framesEncoded", entry, earlier);
      if (frames > 0 && (entry.frameHeight ?? 0) > (largest?.frameHeight ?? 0)) largest = entry;
    }
    if (!largest) return;
    this.#sent.height = largest.frameHeight;
    this.#sent.frames_encoded += growth("framesEncoded", largest, before.get(largest.id));
  }

  /**
   * @param {Map<string, Entry>} entries
   * @param {Map<string, Entry>} before
   * @param {Map<string, string>} senders By mid.
   */
  #addReceived(entries, before, senders) {
    for (const entry of entries.values()) {
      const from = entry.type === "inbound-rtp" ? senders.get(entry.mid) : undefined;
      if (from === undefined) continue;
      let received = this.#received.get(from);
      if (!received) this.#received.set(from, (received = { from, audio: null, video: null }));
      const earlier = before.get(entry.id);
      if (entry.kind === "audio") {
        received.audio ??= /** @type {AudioReceived} */ (zeros(AUDIO_COUNTERS));
        addGrowth(received.audio, AUDIO_COUNTERS, entry, earlier);
      } else {
        received.video ??= /** @type {VideoReceived} */ (/** @type {object} */ ({ ...zeros(VIDEO_COUNTERS), picture_delays: [] }));
        addGrowth(received.video, VIDEO_COUNTERS, entry, earlier);
        received.video.width = entry.frameWidth ?? null;
        received.video.height = entry.frameHeight ?? null;
      }
    }
  }
}

/**
 * @param {RTCPeerConnection} connection
 * @returns {Promise<Map<string, Entry>>}
 */
async function entriesOf(connection) {
  return new Map(/** @type {any} */ (await connection.getStats()));
}

/**
 * @param {RTCPeerConnection} connection
 * @param {Senders} senders
 */
function sendersByMid(connection, senders) {
  /** @type {Map<string, string>} */
  const byMid = new Map();
  for (const { mid, receiver } of connection.getTransceivers()) {
    const from = senders.get(receiver.track);
    if (mid !== null && from !== undefined) byMid.set(mid, from);
  }
  return byMid;
}

/**
 * The way that is in use.
 * @param {Map<string, Entry>} [entries]
 */
function wayOf(entries = new Map()) {
  const transport = [...entries.values()].find(({ type }) => type === "transport");
  const pair = entries.get(transport?.selectedCandidatePairId);
  const local = entries.get(pair?.localCandidateId);
  return {
    rtt_ms: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
    available_outgoing: pair?.availableOutgoingBitrate ?? null,
    path: !local ? null : local.candidateType === "relay" ? `relay-${local.relayProtocol}` : local.protocol,
  };
}

/**
 * @param {Record<string, string[]>} counters
 * @returns {object}
 */
function zeros(counters) {
  return Object.fromEntries(Object.keys(counters).map((name) => [name, 0]));
}

/**
 * @param {Record<string, any>} sums
 * @param {Record<string, string[]>} counters
 * @param {Entry} entry
 * @param {Entry} [before]
 */
function addGrowth(sums, counters, entry, before) {
  for (const [name, fields] of Object.entries(counters)) {
    for (const field of fields) sums[name] += growth(field, entry, before);
  }
}

/**
 * @param {string} field
 * @param {Entry} entry
 * @param {Entry} [before]
 * @returns {number}
 */
function growth(field, entry, before) {
  return (entry[field] ?? 0) - (before?.[field] ?? 0);
}
