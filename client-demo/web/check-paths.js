/**
 * The ways that media can take to the server, each tried on its own: a connection that knows no other.
 */

import { connectionStats } from "./sdk/stats.js";
import { isRelayOverTcp, reachedOver } from "./sdk/udp-return.js";

/** @import { Answered, IceServersInfo, PublishedLine } from "./sdk/types.js" */

/** @typedef {"udp" | "turn-udp" | "tcp" | "turn-tcp" | "turn-tls"} Way */

/**
 * What came of trying a way. Round trips are in milliseconds, loss is that of packets sent, 0 to 1;
 * the round trip is missing if the browser has none.
 * @typedef {{state: "works", roundTrip?: number, loss: number} | {state: "blocked" | "absent"}} Outcome
 */

/** @typedef {(offer: {sdp: string, tracks: PublishedLine[]}) => Promise<Answered>} Exchange */

/** Whoever has not connected by then is blocked, milliseconds: with a third of all packets lost most have. */
const CONNECT_MS = 10_000;
/** So long packets are sent and counted, milliseconds: the server reports every second or so. */
const MEASURE_MS = 2_500;
/** Where that brings no report, as reports are lost too, so much longer at most, milliseconds. */
const LATE_REPORT_MS = 1_500;
/** Between two looks for one, milliseconds. */
const LOOK_MS = 250;
/** A picture that costs little and is never twice the same, so that packets flow all the time. */
const PICTURE = { width: 96, height: 72, frameRate: 30 };

/** In the order in which calls prefer them. @type {Way[]} */
export const WAYS = ["udp", "turn-udp", "tcp", "turn-tcp", "turn-tls"];

/** Which relay addresses belong to a way. @type {Partial<Record<Way, (url: string) => boolean>>} */
const RELAYS = {
  "turn-udp": (url) => url.startsWith("turn:") && !isRelayOverTcp(url),
  "turn-tcp": (url) => url.startsWith("turn:") && isRelayOverTcp(url),
  "turn-tls": (url) => url.startsWith("turns:"),
};

/**
 * Sends a picture this way for a while.
 * @param {Way} way
 * @param {object} options
 * @param {IceServersInfo["ice_servers"]} options.iceServers
 * @param {MediaStreamTrack} options.track
 * @param {Exchange} options.exchange Hands an offer to the server.
 * @returns {Promise<Outcome>} Rejects when the server refuses the offer.
 */
export async function tryWay(way, { iceServers, track, exchange }) {
  const isLike = RELAYS[way];
  const relays = isLike ? reachedOver(isLike, iceServers) : [];
  if (isLike && relays.length === 0) return { state: "absent" };
  const pc = new RTCPeerConnection(isLike ? { iceServers: relays, iceTransportPolicy: "relay" } : {});
  try {
    const { mid } = await offerPicture(pc, track);
    const { sdp } = /** @type {RTCSessionDescription} */ (pc.localDescription);
    const answer = await exchange({ sdp, tracks: [{ mid, source: "other" }] });
    const candidates = isLike ? answer.sdp : onlyOver(way === "tcp" ? "tcp" : "udp", answer.sdp);
    if (!candidates.includes("a=candidate:")) return { state: "absent" };
    await pc.setRemoteDescription({ type: "answer", sdp: candidates });
    if (!(await connects(pc))) return { state: "blocked" };
    return await measure(pc);
  } finally {
    pc.close();
  }
}

/**
 * @param {RTCPeerConnection} pc
 * @param {MediaStreamTrack} track
 */
async function offerPicture(pc, track) {
  const transceiver = pc.addTransceiver(track, { direction: "sendonly" });
  await pc.setLocalDescription();
  return { mid: transceiver.mid ?? "0" };
}

/**
 * An answer with the candidates of one protocol.
 * @param {"udp" | "tcp"} protocol
 * @param {string} sdp
 */
export function onlyOver(protocol, sdp) {
  const isOther = (/** @type {string} */ line) =>
    line.startsWith("a=candidate:") && line.split(" ")[2]?.toLowerCase() !== protocol;
  return sdp.split("\r\n").filter((line) => !isOther(line)).join("\r\n");
}

/**
 * Whether media can flow before patience ends.
 * @param {RTCPeerConnection} pc
 * @returns {Promise<boolean>}
 */
function connects(pc) {
  return new Promise((resolve) => {
    setTimeout(() => resolve(false), CONNECT_MS);
    const look = () => {
      if (pc.connectionState === "connected") resolve(true);
      else if (pc.connectionState === "failed") resolve(false);
    };
    pc.addEventListener("connectionstatechange", look);
    look();
  });
}

/**
 * @param {RTCPeerConnection} pc
 * @returns {Promise<Outcome>}
 */
async function measure(pc) {
  await pause(MEASURE_MS);
  for (let late = 0; late <= LATE_REPORT_MS; late += LOOK_MS) {
    const outcome = measured(await pc.getStats());
    if (outcome) return outcome;
    await pause(LOOK_MS);
  }
  // None of our packets has come to the server, or none of its reports to us.
  return { state: "blocked" };
}

/**
 * @param {RTCStatsReport} report
 * @returns {Outcome | undefined} Nothing as long as the server has reported nothing.
 */
function measured(report) {
  const entries = [.../** @type {Map<string, any>} */ (/** @type {unknown} */ (report)).values()];
  const remote = entries.find(({ type }) => type === "remote-inbound-rtp");
  const outbound = entries.find(({ type }) => type === "outbound-rtp");
  const sent = outbound?.packetsSent ?? 0;
  if (!remote || sent === 0) return undefined;
  const { rttMs } = connectionStats(report);
  return {
    state: "works",
    roundTrip: rttMs ?? (remote.roundTripTime === undefined ? undefined : remote.roundTripTime * 1_000),
    loss: Math.min(1, lost(outbound, remote) / sent),
  };
}

/**
 * Packets lost on the way to the server: those it has asked for again, each time, and those it misses still.
 * Its reports alone count what was repaired as received; they go below zero where packets came twice (RFC
 * 3550 section 6.4.1).
 * @param {any} outbound
 * @param {any} remote
 */
function lost(outbound, remote) {
  return (outbound.retransmittedPacketsSent ?? 0) + Math.max(0, remote.packetsLost ?? 0);
}

/** @param {number} ms */
export function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

/** A moving picture that needs no camera. */
export class TestPicture {
  #canvas = document.createElement("canvas");
  #timer;
  /** @type {MediaStreamTrack} */
  track;

  constructor() {
    const { width, height, frameRate } = PICTURE;
    Object.assign(this.#canvas, { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    const paint = () => {
      const image = context.createImageData(width, height);
      for (let n = 0; n < image.data.length; n += 4) {
        image.data.fill(Math.random() * 256, n, n + 3);
        image.data[n + 3] = 255;
      }
      context.putImageData(image, 0, 0);
    };
    paint();
    this.track = /** @type {MediaStreamTrack} */ (this.#canvas.captureStream(frameRate).getVideoTracks()[0]);
    this.#timer = setInterval(paint, 1_000 / frameRate);
  }

  stop() {
    clearInterval(this.#timer);
    this.track.stop();
  }
}
