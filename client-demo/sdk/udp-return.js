/**
 * The return to UDP: a call that had to move to TCP, where one lost packet holds up all that follow,
 * looks every few seconds whether UDP works again.
 */

import { isSteady } from "./steady.js";

/** Between two looks, milliseconds; twice as long after each that has brought nothing, up to the longest. */
const LOOK_MS = 4_000;
const LONGEST_MS = 60_000;
/** UDP is taken for good again when so many looks in a row have found it so. */
const GOOD_LOOKS = 2;
/**
 * So often in a row the relay has to answer over UDP, without a packet lost, to find it good: with a
 * quarter of them lost in each direction that happens at one look of a hundred.
 */
const ANSWERS = 4;
/** Until then the relay has answered, or does not. */
const PATIENCE_MS = 3_000;

export class UdpReturn {
  #isDetour;
  #works;
  #returnToUdp;
  #closed = false;
  #good = 0;
  #looksMs = LOOK_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} callbacks
   * @param {() => Promise<boolean>} callbacks.isDetour Whether media goes over TCP now.
   * @param {() => Promise<boolean>} callbacks.works Whether UDP would work.
   * @param {() => void} callbacks.returnToUdp Looks for the best way anew.
   */
  constructor({ isDetour, works, returnToUdp }) {
    this.#isDetour = isDetour;
    this.#works = works;
    this.#returnToUdp = returnToUdp;
    this.#next();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #next() {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    // A connection that has just been closed cannot be asked; the next one can.
    const look = () => this.#look().catch(() => {}).finally(() => this.#next());
    this.#timer = setTimeout(look, this.#looksMs);
  }

  async #look() {
    if (!(await this.#isDetour())) {
      this.#good = 0;
      this.#looksMs = LOOK_MS;
      return;
    }
    this.#good = (await this.#works()) ? this.#good + 1 : 0;
    if (this.#good < GOOD_LOOKS || this.#closed) return;
    this.#good = 0;
    this.#looksMs = Math.min(2 * this.#looksMs, LONGEST_MS);
    this.#returnToUdp();
  }
}

/**
 * Whether one of these servers gives out relayed addresses over UDP as if nothing were lost: then UDP
 * gets through, and is good.
 * @param {RTCIceServer[]} servers
 * @returns {Promise<boolean>}
 */
export async function worksOverUdp(servers) {
  const iceServers = reachedOver(isUdp, servers);
  return iceServers.length > 0 && isSteady(ANSWERS, () => isRelayed(iceServers));
}

/**
 * Servers, but only those of their addresses that are like this.
 * @param {(url: string) => boolean} isLike
 * @param {RTCIceServer[]} servers
 */
export function reachedOver(isLike, servers) {
  return servers.flatMap(({ urls, ...rest }) => {
    const those = [urls].flat().filter(isLike);
    return those.length > 0 ? [{ ...rest, urls: those }] : [];
  });
}

/**
 * Whether one of these servers gives out a relayed address.
 * @param {RTCIceServer[]} iceServers
 * @returns {Promise<boolean>}
 */
async function isRelayed(iceServers) {
  const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
  try {
    pc.createDataChannel("");
    const found = new Promise((resolve) => {
      pc.onicecandidate = ({ candidate }) => resolve(Boolean(candidate?.candidate));
      setTimeout(() => resolve(false), PATIENCE_MS);
    });
    await pc.setLocalDescription();
    return await found;
  } finally {
    pc.close();
  }
}

/** @param {string} url */
export function isRelayOverTcp(url) {
  return url.startsWith("turns:") || (url.startsWith("turn:") && !isUdp(url));
}

/** @param {string} url */
function isUdp(url) {
  return url.startsWith("turn:") && !/[?&]transport=(?!udp)/.test(url);
}
