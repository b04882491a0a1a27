/**
 * What the own network carries of a simulcast. In: which encodings the server asks for, and what the
 * browser estimates that can be sent. Out: which of them are sent, and how large.
 *
 * Browsers fill encodings from the smallest up, each larger one only when all below it are full, and never
 * send one with less than its size needs. Both are right for many receivers and an ample network. In a call
 * of two on a narrow one the only receiver would see the smallest while half the network is idle; and where
 * the large one is sent alone and the network gets narrower, more would be sent than it carries. So:
 *
 * 1. In a call of two, the largest that is asked for goes alone when not all that are asked for fit.
 * 2. An encoding that goes alone is made smaller, and larger again, as the estimate falls and rises.
 */

/** @import { Encoding } from "./encodings.js" */

/** So long not all must have fitted until the largest goes alone, milliseconds: estimates begin low. */
const SHORT_FOR_MS = 6_000;
/** Of the estimate so much is left for pictures: the rest is audio, repair and headers. */
const USABLE = 0.85;
/**
 * By so much more has to fit before more is sent again, and so long after the last change, milliseconds:
 * estimates waver, and each change costs a key frame.
 */
const MORE_AGAIN = 1.25;
const MORE_AFTER_MS = 8_000;
/** A picture is halved so often at most; a quarter is the smallest encoding of a usual camera. */
const MOST_HALVINGS = 2;
/**
 * When the server asks for a smaller encoding that it had not asked for, its receiver's network needs it:
 * for so long it is sent beside the others whatever fits, milliseconds.
 */
const HOLD_MS = 30_000;

/**
 * What is known of the own network.
 * @typedef {object} Uplink
 * @property {number} [available] Bits a second that can be sent, if the browser tells.
 * @property {boolean} isPair Whether there is one receiver at most.
 */

/** The decisions about one track. */
export class UplinkFit {
  #isAlone = false;
  #halvings = 0;
  #heldUntil = -Infinity;
  #changedAt = -Infinity;
  /** Since when not all fit. @type {number | null} */
  #shortSince = null;

  /** @type {boolean[] | undefined} */
  #wanted;

  /**
   * @param {boolean[] | undefined} wanted Which encodings the server asks for; all if it has not said.
   * @param {number} now Milliseconds.
   */
  handleWanted(wanted, now) {
    const before = this.#wanted;
    this.#wanted = wanted;
    if (!before || !wanted) return;
    const top = wanted.lastIndexOf(true);
    if (wanted.some((isWanted, index) => isWanted && !before[index] && index < top)) this.#heldUntil = now + HOLD_MS;
  }

  /**
   * @param {Encoding[]} encodings What is asked for and suits the picture, the smallest first.
   * @param {Uplink} uplink
   * @param {number} now Milliseconds.
   * @returns {Encoding[]}
   */
  fit(encodings, { available, isPair }, now) {
    const active = encodings.filter(({ active }) => active);
    const top = active.at(-1);
    if (!top || available === undefined || encodings.length < 2) return encodings;
    const usable = USABLE * available;
    const isHeld = now < this.#heldUntil;
    const mayRise = isHeld || now - this.#changedAt >= MORE_AFTER_MS;
    const before = [this.#isAlone, this.#halvings].join();
    if (isHeld || active.length === 1 || !isPair) {
      this.#isAlone = false;
      this.#shortSince = null;
    } else if (isTooMuch(active, usable, this.#isAlone)) {
      this.#shortSince ??= now;
      this.#isAlone ||= now - this.#shortSince >= SHORT_FOR_MS;
    } else {
      this.#shortSince = null;
      this.#isAlone &&= !mayRise;
    }
    if (active.length > 1 && !this.#isAlone) {
      this.#halvings = 0;
    } else {
      const halvings = halvingsFor(top, usable, this.#halvings);
      if (halvings > this.#halvings || mayRise) this.#halvings = halvings;
    }
    if (before !== [this.#isAlone, this.#halvings].join()) this.#changedAt = now;
    if (active.length > 1 && !this.#isAlone) return encodings;
    const scale = (top.scaleResolutionDownBy ?? 1) * 2 ** this.#halvings;
    return encodings.map((encoding) => (encoding === top ? { ...top, scaleResolutionDownBy: scale } : { ...encoding, active: false }));
  }
}

/**
 * Whether the largest does not fit beside the smaller ones.
 * @param {Encoding[]} active
 * @param {number} usable
 * @param {boolean} isAlone Whether it goes alone already.
 */
function isTooMuch(active, usable, isAlone) {
  const smaller = active.slice(0, -1).reduce((sum, { maxBitrate = 0 }) => sum + maxBitrate, 0);
  const needed = smaller + (active.at(-1)?.leastBitrate ?? 0);
  return usable < needed * (isAlone ? MORE_AGAIN : 1);
}

/**
 * How often a picture has to be halved to fit.
 * @param {Encoding} encoding
 * @param {number} usable
 * @param {number} now How often it is.
 */
function halvingsFor({ leastBitrate = 0 }, usable, now) {
  for (let halvings = 0; halvings < MOST_HALVINGS; halvings += 1) {
    const needed = leastBitrate / 4 ** halvings;
    if (usable >= needed * (halvings < now ? MORE_AGAIN : 1)) return halvings;
  }
  return MOST_HALVINGS;
}
