/**
 * What the checks have found, in words for the person in front of the page, with what to do about it.
 */

import { hasLinkEnded, insecureContext } from "./words.js";

/** @import { Outcome, Way } from "./check-paths.js" */
/** @import { Device } from "./words.js" */

/** @typedef {"good" | "fair" | "bad" | "none"} Grade What a line is marked as; `none` is neither good nor bad. */
/** @typedef {{grade: Grade, words: string}} Finding */
/** @typedef {Partial<Record<Way, Outcome>>} Outcomes */

/** From this share of lost packets on people notice. */
const NOTICED_LOSS = 0.03;
/**
 * From this round trip on people talk into each other's words, milliseconds: with what capture and playout
 * add, the 400 ms one way that are the most (ITU-T G.114) are near.
 */
const NOTICED_ROUND_TRIP_MS = 400;

/** @type {Record<Way, string>} */
export const WAY_NAMES = {
  udp: "UDP to the server",
  "turn-udp": "Relay over UDP",
  tcp: "TCP to the server",
  "turn-tcp": "Relay over TCP",
  "turn-tls": "Relay over TLS",
};

/**
 * @param {Device} device
 * @param {{secure: boolean, permission: PermissionState | null, count: number}} facts `permission` is null if the browser does not tell.
 * @returns {Finding}
 */
export function deviceFinding(device, { secure, permission, count }) {
  if (!secure) return { grade: "bad", words: insecureContext() };
  if (permission === "denied") {
    return { grade: "bad", words: `This page may not use your ${device}. Allow it with the icon in the address bar.` };
  }
  if (count === 0) return { grade: "fair", words: `No ${device} was found. Plug one in to be ${device === "camera" ? "seen" : "heard"}.` };
  return { grade: "good", words: permission === "granted" ? "There is one, and this page may use it." : "There is one; the browser will ask whether this page may use it." };
}

/**
 * @param {{roundTrip?: number, error?: {code: string, message: string, reason?: string}}} facts
 * @returns {Finding}
 */
export function signalingFinding({ roundTrip, error }) {
  if (!error) return { grade: "good", words: `The server answers in ${ms(roundTrip)}.` };
  if (hasLinkEnded(error)) return { grade: "bad", words: "The server answers, but your link has ended; ask for a new one." };
  switch (error.code) {
    case "unauthorized":
    case "wrong_room":
      return { grade: "bad", words: "The server answers, but asks for a token: open this page from your call's lobby, so that it has the token of the call." };
    case "server_gone":
      return { grade: "bad", words: "The server does not answer. A firewall or a proxy that lets no WebSocket through may be in the way, or the server is down." };
    default:
      return { grade: "bad", words: `The server answers, but does not let this page in: ${error.message}` };
  }
}

/**
 * @param {Outcome} outcome
 * @returns {Finding}
 */
export function wayFinding(outcome) {
  switch (outcome.state) {
    case "absent":
      return { grade: "none", words: "The server does not offer it." };
    case "blocked":
      return { grade: "bad", words: "Blocked: nothing comes through." };
    case "works": {
      const { roundTrip, loss } = outcome;
      return { grade: isPoor(outcome) ? "fair" : "good", words: `Works: round trip ${ms(roundTrip)}, about ${percent(loss)} of sent packets lost.` };
    }
  }
}

/**
 * All in all.
 * @param {Outcomes} outcomes
 * @param {string} host The server's, as the page knows it.
 * @returns {Finding}
 */
export function verdict(outcomes, host) {
  const works = (/** @type {Way} */ way) => outcomes[way]?.state === "works";
  const best = /** @type {Way[]} */ (["udp", "turn-udp"]).map((way) => outcomes[way]).find((outcome) => outcome?.state === "works");
  if (best && isPoor(best)) {
    return { grade: "fair", words: "UDP works, but the network is poor: packets are lost or take long. Calls work with gaps; a cable, or a place nearer to the Wi-Fi, may help." };
  }
  if (works("udp")) return { grade: "good", words: "UDP works: calls go the best way." };
  if (works("turn-udp")) {
    return { grade: "good", words: "UDP works through the server's relay: calls go well, though not the shortest way." };
  }
  if (works("tcp") || works("turn-tcp") || works("turn-tls")) {
    return { grade: "fair", words: `UDP is blocked here: calls go over TCP, which is slower, and sound may lag when the network is busy. Ask the administrator of this network to let UDP to ${host} out.` };
  }
  const offered = Object.values(outcomes).some(({ state }) => state !== "absent");
  const asked = offered
    ? `Ask the administrator of this network to let UDP, or at least TCP, to ${host} out, and that of the server what \`confab doctor\` says of its ports and public address.`
    : "Ask the administrator of the server what `confab doctor` says.";
  const relay = outcomes["turn-tls"]?.state === "absent" ? " A relay over TLS on port 443 (turn.tls_listen) gets through most firewalls; the server offers none." : "";
  return { grade: "bad", words: `Nothing works: no call comes about from this network. ${asked}${offered ? relay : ""}` };
}

/** @param {{roundTrip?: number, loss: number}} outcome */
function isPoor({ roundTrip = 0, loss }) {
  return loss >= NOTICED_LOSS || roundTrip >= NOTICED_ROUND_TRIP_MS;
}

/** @param {number | undefined} value */
function ms(value) {
  if (value === undefined) return "unknown";
  return value < 1 ? "under 1 ms" : `${Math.round(value)} ms`;
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}
