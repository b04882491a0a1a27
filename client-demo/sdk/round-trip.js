/**
 * How long to wait for an answer before it counts as lost, from how long the answers before took: as TCP
 * reckons (RFC 6298 section 2).
 */

const SMOOTHING = 1 / 8;
const VARIATION_SMOOTHING = 1 / 4;
const VARIATIONS = 4;

export class RoundTrip {
  /** How long an answer takes, milliseconds; null while nothing is known. @type {number | null} */
  smoothed = null;
  #variation = 0;

  /** @param {number} ms How long an answer took. */
  handle(ms) {
    if (this.smoothed === null) {
      this.smoothed = ms;
      this.#variation = ms / 2;
      return;
    }
    this.#variation += VARIATION_SMOOTHING * (Math.abs(ms - this.smoothed) - this.#variation);
    this.smoothed += SMOOTHING * (ms - this.smoothed);
  }

  /** Milliseconds; 0 while nothing is known. */
  get patience() {
    return (this.smoothed ?? 0) + VARIATIONS * this.#variation;
  }
}
