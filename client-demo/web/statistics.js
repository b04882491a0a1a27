/**
 * The statistics panel: the connection in one list, every track in one table.
 */

import { byId, create } from "./dom.js";

/** @import { CallStats, TrackStats } from "./sdk/stats.js" */

const NONE = "–";

/**
 * @param {CallStats} stats
 * @param {(trackId: string) => string} nameOf
 */
export function showStatistics({ connection, sent, received, firstFrameMs }, nameOf) {
  const facts = {
    "Round trip": unit(connection.rttMs, "ms", 1),
    Encryption: connection.srtpCipher ?? NONE,
    Path: [connection.relayProtocol ?? connection.protocol, connection.localCandidateType].filter(Boolean).join(", ") || NONE,
    "Upload estimate": unit(connection.availableOutgoingKbps, "kbit/s"),
    "First frame": unit(firstFrameMs ?? undefined, "ms"),
  };
  byId("stats-connection").replaceChildren(
    ...Object.entries(facts).flatMap(([term, value]) => [create("dt", "", term), create("dd", "", value)]),
  );
  byId("stats-tracks").replaceChildren(
    ...[...received].map(([id, stats]) => row(nameOf(id), stats)),
    ...[...sent].map(([id, stats]) => row(`You: ${nameOf(id)}`, stats)),
  );
}

/**
 * @param {TrackStats} stats
 */
export function brief(stats) {
  const { codec = NONE, width, height, fps } = stats;
  return `${codec} ${width ?? 0}×${height ?? 0} ${unit(fps, "fps")}`;
}

/**
 * @param {string} name
 * @param {TrackStats} stats
 */
function row(name, stats) {
  const header = create("th", "", name);
  header.scope = "row";
  const values = [
    stats.codec ?? NONE,
    stats.width ? `${stats.width}×${stats.height}` : NONE,
    unit(stats.fps, ""),
    unit(stats.kbps, ""),
    unit(stats.lostPercent, "%", 1),
    unit(stats.concealedPercent, "%", 1),
    unit(stats.jitterMs, "ms"),
  ];
  return create("tr", "", header, ...values.map((value) => create("td", "", value)));
}

/**
 * @param {number | undefined} value
 * @param {string} name
 * @param {number} [digits]
 */
function unit(value, name, digits = 0) {
  return value === undefined ? NONE : `${value.toFixed(digits)} ${name}`.trimEnd();
}
