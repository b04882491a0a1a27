/**
 * Turns `getStats` reports into what a person would ask about a call: how smooth, how sharp, how
 * much of the audio was made up. Rates are taken between one report and the next.
 */

/** @import { Kind } from "./types.js" */

/**
 * @typedef {object} TrackStats
 * @property {Kind} kind
 * @property {string} [codec] For example `VP8`.
 * @property {number} [fps] Frames decoded (or sent) per second.
 * @property {number} [width]
 * @property {number} [height]
 * @property {number} kbps
 * @property {number} [framesDecoded] Since the connection began.
 * @property {number} [freezeCount] Since the connection began.
 * @property {number} [concealedPercent] Audible audio made up because packets were missing, in
 *   percent of all, since the connection began.
 * @property {number} [totalSamplesReceived] Audio samples played, since the connection began.
 * @property {number} [totalAudioEnergy] Since the connection began.
 * @property {number} [lostPercent] Packets lost, since the connection began.
 * @property {number} [jitterMs]
 */

/**
 * @typedef {object} ConnectionStats
 * @property {number} [rttMs]
 * @property {string} [srtpCipher] For example `AEAD_AES_128_GCM`.
 * @property {string} [localCandidateType]
 * @property {string} [protocol] `udp` or `tcp`.
 * @property {string} [relayProtocol] How the relay is reached, if there is one: `udp`, `tcp` or `tls`.
 * @property {number} [availableOutgoingKbps]
 */

/**
 * @typedef {object} CallStats
 * @property {ConnectionStats} connection
 * @property {Map<string, TrackStats>} sent By track id; with simulcast the best layer alive.
 * @property {Map<string, TrackStats>} received By track id.
 * @property {number | null} firstFrameMs From `join`, or from when there was something to see if that was
 *   later, to the first decoded remote video frame.
 */

/** A report is a bag of loosely specified records. @typedef {Record<string, any>} Entry */

export class StatsReader {
  /** @type {Map<string, Entry>} */
  #before = new Map();

  /**
   * @param {RTCStatsReport} report
   * @param {{sent: Map<string, string>, received: Map<string, string>}} tracksByMid
   * @returns {Omit<CallStats, "firstFrameMs">}
   */
  read(report, tracksByMid) {
    const entries = entriesOf(report);
    /** @type {Map<string, TrackStats>} */
    const sent = new Map();
    /** @type {Map<string, TrackStats>} */
    const received = new Map();
    for (const entry of entries.values()) {
      if (entry.type === "inbound-rtp") {
        const track = tracksByMid.received.get(entry.mid);
        if (track) received.set(track, this.#inbound(entry, entries));
      } else if (entry.type === "outbound-rtp") {
        const track = tracksByMid.sent.get(entry.mid);
        if (!track) continue;
        const stats = this.#outbound(entry, entries);
        const other = sent.get(track);
        if (!other || (stats.width ?? 0) > (other.width ?? 0)) sent.set(track, stats);
      }
    }
    const connection = connectionStats(report);
    this.#before = entries;
    return { connection, sent, received };
  }

  /**
   * @param {Entry} entry
   * @param {Map<string, Entry>} entries
   * @returns {TrackStats}
   */
  #inbound(entry, entries) {
    const lost = Math.max(0, entry.packetsLost ?? 0);
    const audible = (entry.concealedSamples ?? 0) - (entry.silentConcealedSamples ?? 0);
    return {
      kind: entry.kind,
      codec: codecName(entry, entries),
      fps: entry.kind === "video" ? this.#rate(entry, "framesDecoded") : undefined,
      width: entry.frameWidth,
      height: entry.frameHeight,
      kbps: (this.#rate(entry, "bytesReceived") * 8) / 1000,
      framesDecoded: entry.framesDecoded,
      freezeCount: entry.freezeCount,
      concealedPercent: entry.kind === "audio" ? percent(audible, entry.totalSamplesReceived ?? 0) : undefined,
      totalSamplesReceived: entry.totalSamplesReceived,
      totalAudioEnergy: entry.totalAudioEnergy,
      lostPercent: percent(lost, lost + (entry.packetsReceived ?? 0)),
      jitterMs: entry.jitter === undefined ? undefined : entry.jitter * 1000,
    };
  }

  /**
   * @param {Entry} entry
   * @param {Map<string, Entry>} entries
   * @returns {TrackStats}
   */
  #outbound(entry, entries) {
    return {
      kind: entry.kind,
      codec: codecName(entry, entries),
      fps: entry.kind === "video" ? this.#rate(entry, "framesSent") : undefined,
      width: entry.frameWidth,
      height: entry.frameHeight,
      kbps: (this.#rate(entry, "bytesSent") * 8) / 1000,
    };
  }

  /**
   * Growth per second since the last report.
   * @param {Entry} entry
   * @param {string} field
   */
  #rate(entry, field) {
    const before = this.#before.get(entry.id);
    const seconds = before ? (entry.timestamp - before.timestamp) / 1000 : 0;
    if (!before || seconds <= 0) return 0;
    return Math.max(0, ((entry[field] ?? 0) - (before[field] ?? 0)) / seconds);
  }
}

/** @param {RTCStatsReport} report */
function entriesOf(report) {
  return /** @type {Map<string, Entry>} */ (new Map(/** @type {any} */ (report)));
}

/**
 * @param {RTCStatsReport} report
 * @returns {ConnectionStats}
 */
export function connectionStats(report) {
  const entries = entriesOf(report);
  const all = [...entries.values()];
  const transport = all.find(({ type }) => type === "transport");
  // Firefox has no selectedCandidatePairId.
  const pair = entries.get(transport?.selectedCandidatePairId) ??
    all.find(({ type, nominated, state }) => type === "candidate-pair" && nominated && state === "succeeded");
  const local = entries.get(pair?.localCandidateId);
  return {
    rttMs: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1000,
    srtpCipher: transport?.srtpCipher,
    localCandidateType: local?.candidateType,
    protocol: local?.protocol,
    relayProtocol: local?.relayProtocol,
    availableOutgoingKbps: pair?.availableOutgoingBitrate === undefined ? undefined : pair.availableOutgoingBitrate / 1000,
  };
}

/** @param {ConnectionStats} stats */
export function isOverTcp({ protocol, relayProtocol }) {
  return (relayProtocol ?? protocol ?? "udp") !== "udp";
}

/**
 * @param {Entry} entry
 * @param {Map<string, Entry>} entries
 * @returns {string | undefined}
 */
function codecName(entry, entries) {
  return entries.get(entry.codecId)?.mimeType?.split("/")[1];
}

/**
 * @param {number} part
 * @param {number} whole
 */
function percent(part, whole) {
  return whole > 0 ? (100 * part) / whole : 0;
}
