/**
 * What went wrong, and why things are as they are, in words for the person in front of the page, with
 * what to do about it.
 */

/** @import { Refusal } from "./sdk/media.js" */
/** @import { Permissions, Quality, Reason } from "./sdk/types.js" */

/** @typedef {"camera" | "microphone"} Device */

/**
 * @param {unknown} error What getUserMedia threw.
 * @param {Device | "camera and microphone"} device
 */
export function deviceProblem(error, device) {
  const name = error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return `The browser may not use your ${device}: permission was denied. Allow it with the icon in the address bar and try again, or join without.`;
    case "NotFoundError":
    case "OverconstrainedError":
      return `No ${device} was found. Plug one in and try again, or join without.`;
    case "NotReadableError":
    case "AbortError":
      return `Your ${device} is busy: another program may be using it. Close that program and try again, or join without.`;
    default:
      return `Your ${device} could not be opened${error instanceof Error ? ` (${error.message})` : ""}. You can join without.`;
  }
}

/** Browsers hide cameras and microphones from pages that could have been tampered with. */
export function insecureContext() {
  return "This page was not loaded over HTTPS or from this computer, so the browser gives it no camera and no microphone. Open it with https:// to be seen and heard; you can join to watch and listen.";
}

/**
 * @param {{code: string, message: string, reason?: string}} error
 * @param {{joining?: boolean}} [when] Whether the call had not begun yet.
 */
export function callProblem({ code, message, reason }, { joining = false } = {}) {
  if (hasLinkEnded({ code, reason })) return "Your link has ended; ask for a new one.";
  switch (code) {
    case "server_gone":
      return joining
        ? "The server does not answer. Check your network and try again."
        : "The server does not answer. Check your network; the call goes on trying to come back.";
    case "media_failed":
      return firefoxOnLoopback()
        ? "No media connection: Firefox makes none to a server on 127.0.0.1. Use Chromium on this computer, or let the server receive media on a network address (--media-listen)."
        : "No sound and picture get through: a firewall may be blocking them. Still trying.";
    case "room_full":
      return "This room is full. Try again later, or pick another room.";
    case "server_full":
    case "overloaded":
      return "The server has no room for another call right now. Try again in a moment.";
    case "unauthorized":
    case "wrong_room":
    case "not_allowed":
      return `The server did not let you in: ${message}`;
    default:
      return message;
  }
}

/**
 * Whether it is for the end of its access token that the server lets nobody in, or no longer.
 * @param {{code: string, reason?: string}} error
 */
export function hasLinkEnded({ code, reason }) {
  return code === "token_expired" || reason === "expired";
}

/**
 * Who is there.
 * @param {number} people Oneself among them.
 * @param {number} viewers Who only watch.
 */
export function headCount(people, viewers) {
  const words = people === 1 ? "only you" : `${people} people`;
  if (viewers === 0) return words;
  return `${words}, ${viewers === 1 ? "1 viewer" : `${viewers} viewers`}`;
}

/**
 * What one does in a call that one's token restricts; null if it does not.
 * @param {Permissions} permissions
 */
export function roleWords({ publish, subscribe }) {
  if (publish && subscribe) return null;
  if (publish) return "You are sending: you see and hear nobody";
  return subscribe ? "You are watching" : "You neither send nor receive anything";
}

/**
 * What a stopping server means for a call.
 * @param {number} inMs How long it goes on, at most.
 */
export function stoppingWords(inMs) {
  const when = inMs < 1_000 ? "now" : `in ${duration(inMs)}, or when everybody has left`;
  return `The server is stopping ${when}. Finish what you are saying; the call goes on if the server comes back.`;
}

/**
 * What a link that ends soon means for a call.
 * @param {number} inMs
 */
export function linkEndsWords(inMs) {
  return `Your link ends in ${duration(inMs)}, and the call for you with it. Ask for a new one to go on.`;
}

/**
 * An own track that the server does not take.
 * @param {Refusal} refusal
 */
export function refusalWords({ publication: { source }, error }) {
  const what = source === "screen_audio" ? "the sound of your screen" : `your ${source === "other" ? "track" : source}`;
  return `The others do not get ${what}: ${error.message}`;
}

/**
 * What keeps a connection from carrying more.
 * @param {Quality["limit"]} limit
 */
export function limitWords(limit) {
  switch (limit) {
    case "delay":
      return "More would wait in a queue on the way, or has not been tried yet.";
    case "loss":
      return "When more is sent, packets are lost.";
    case "draining":
      return "A queue on the way is being emptied first.";
    case "receiver":
      return "Your browser asks for no more.";
    default:
      return "";
  }
}

/**
 * Why a picture got what it got.
 * @param {Reason} reason
 */
export function reasonWords(reason) {
  switch (reason) {
    case "best":
      return "the best there is";
    case "wanted":
      return "enough for its place on your screen";
    case "estimate":
      return "all that your connection carries";
    case "settling":
      return "to be tried again in a while";
    case "hidden":
      return "not on your screen";
    case "codec":
      return "not in a form that your browser can receive";
    case "not_offered":
      return "not sent by its sender";
    case "no_bandwidth":
      return "no room beside what matters more";
    default:
      return reason;
  }
}

/**
 * In the unit of the server's own sentences, so that one can compare.
 * @param {number} perSecond Bits.
 */
export function bitrate(perSecond) {
  const mbits = perSecond / 1_000_000;
  return `${mbits.toFixed(mbits < 0.1 ? 2 : 1)} Mbit/s`;
}

/** @param {number} ms */
export function duration(ms) {
  return ms < 90_000 ? `${Math.round(ms / 1_000)} s` : `${Math.round(ms / 60_000)} min`;
}

/** Where Firefox makes no media connection, whatever the network is like. */
export function firefoxOnLoopback() {
  const loopback = /^(localhost|127\.|\[::1\])/.test(location.hostname);
  return loopback && navigator.userAgent.includes("Firefox/");
}

const ADJECTIVES = ["amber", "brisk", "calm", "clever", "gentle", "golden", "happy", "lucky", "mellow", "quiet", "sunny", "velvet"];
const NOUNS = ["badger", "comet", "falcon", "harbor", "lantern", "maple", "meadow", "otter", "pebble", "robin", "teapot", "willow"];

/** A room name that is easy to say and hard to meet by chance. */
export function friendlyRoom() {
  const [first, second, third] = /** @type {[number, number, number]} */ ([...crypto.getRandomValues(new Uint16Array(3))]);
  return `${ADJECTIVES[first % ADJECTIVES.length]}-${NOUNS[second % NOUNS.length]}-${third}`;
}
