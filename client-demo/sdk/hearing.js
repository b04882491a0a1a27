/**
 * Whether anything is still received: the first sign, on this side, of a network that is gone or has
 * become another. Nothing may also mean that nobody sends any more; so it is a reason to ask the server,
 * and no more: who is answered has a network.
 */

const LOOK_MS = 100;
/**
 * So long nothing, where something came all the time. Opus sends every 400 ms while its speaker is silent
 * (discontinuous transmission): that is no silence.
 */
const SILENCE_MS = 500;

export class Hearing {
  #newest;
  #now;
  #onSilence;
  #last = 0;
  #changedAt = -Infinity;
  /** Several packets came, one soon after another. */
  #flows = false;
  /** @type {ReturnType<typeof setInterval>} */
  #timer;
  /** Whether nothing is received that was received all the time, and the server was not heard since. */
  isSilent = false;
  #isGap = false;
  #gapEnd = -Infinity;

  /**
   * @param {object} callbacks
   * @param {() => number} callbacks.newest When the newest packet of all came, on any clock.
   * @param {() => void} callbacks.onSilence Called once for each silence.
   * @param {() => number} [callbacks.now] Milliseconds.
   */
  constructor({ newest, onSilence, now = () => performance.now() }) {
    this.#newest = newest;
    this.#onSilence = onSilence;
    this.#now = now;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  close() {
    clearInterval(this.#timer);
  }

  /**
   * Whether the link has carried nothing for a while: what was missed then was neither lost nor late.
   * @param {number} ms Within so long until now.
   */
  wasOut(ms) {
    return this.#isGap || this.#now() - this.#gapEnd <= ms;
  }

  /** The server was heard: nobody sends anything. */
  handleAnswer() {
    this.isSilent = false;
  }

  #look() {
    const now = this.#now();
    const newest = this.#newest();
    // Browsers forget of a packet after ten seconds: an older one is no news.
    if (newest > this.#last) {
      if (this.#isGap) this.#gapEnd = now;
      // A single packet is no stream.
      this.#flows = now - this.#changedAt < SILENCE_MS;
      this.#last = newest;
      this.#changedAt = now;
      this.#isGap = false;
      this.isSilent = false;
    } else if (this.#flows && now - this.#changedAt >= SILENCE_MS) {
      this.#flows = false;
      this.#isGap = true;
      this.isSilent = true;
      this.#onSilence();
    }
  }
}
