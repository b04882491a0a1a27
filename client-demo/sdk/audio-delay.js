/**
 * How long received audio is held back. A browser's own buffer reckons with jitter, not with audio
 * that is sent again: on a link that loses much it would drop what comes a round trip late. In: how
 * much was missing in each second. Out: `jitterBufferTarget` of the receivers (W3C WebRTC Extensions).
 */

/** How often to look, milliseconds. */
const INTERVAL_MS = 1_000;
/** From this share of concealed samples in a second on, something is missing that one would hear. */
const AUDIBLE = 0.02;
/** From this share on, words are missing. */
const GRAVE = 0.1;
/** Steps up, and down after a quiet while, milliseconds. */
const STEP_MS = 100;
const GRAVE_STEP_MS = 200;
const STEP_DOWN_MS = 20;
/** Seconds without loss before the delay shrinks. */
const QUIET_SECONDS = 15;
/**
 * What was made up because the link was away is counted when it is played, and looked at up to an interval
 * later: so long after its end an outage explains what is missing, milliseconds.
 */
const OUTAGE_COUNTS_MS = 2 * INTERVAL_MS;
/** Beyond this people talk at the same time (ITU-T G.114). */
const MAX_DELAY_MS = 400;

/** What to do with one receiver. */
export class AudioDelay {
  /** Milliseconds; 0 leaves it to the browser. */
  target = 0;
  #quiet = 0;

  /**
   * @param {number} missing Share of samples that were concealed in the last second, 0 to 1.
   * @param {boolean} [wasOut] Whether the link was away for a part of it. No delay would have helped then,
   *   and the link is as good as before.
   * @returns {boolean} Whether the target has changed.
   */
  handleSecond(missing, wasOut = false) {
    const before = this.target;
    if (wasOut) return false;
    if (missing >= AUDIBLE) {
      this.#quiet = 0;
      this.target = Math.min(MAX_DELAY_MS, before + (missing >= GRAVE ? GRAVE_STEP_MS : STEP_MS));
    } else {
      this.#quiet += 1;
      if (this.#quiet > QUIET_SECONDS) this.target = Math.max(0, before - STEP_DOWN_MS);
    }
    return this.target !== before;
  }
}

/**
 * @typedef {object} Watched
 * @property {AudioDelay} delay
 * @property {number} samples
 * @property {number} concealed
 */

/** Looks after the receivers of a connection while it lives. */
export class AudioDelays {
  /** @type {WeakMap<RTCRtpReceiver, Watched>} */
  #watched = new WeakMap();
  #wasOut;
  #timer;

  /**
   * @param {object} callbacks
   * @param {() => Iterable<RTCRtpReceiver>} callbacks.receivers
   * @param {(ms: number) => boolean} callbacks.wasOut Whether the link carried nothing for a while, within so long
   *   until now.
   */
  constructor({ receivers, wasOut }) {
    this.#wasOut = wasOut;
    this.#timer = setInterval(() => {
      for (const receiver of receivers()) {
        if (receiver.track.kind === "audio" && "jitterBufferTarget" in receiver) this.#look(receiver).catch(() => {});
      }
    }, INTERVAL_MS);
  }

  close() {
    clearInterval(this.#timer);
  }

  /** @param {RTCRtpReceiver} receiver */
  async #look(receiver) {
    for (const entry of (await receiver.getStats()).values()) {
      if (entry.type !== "inbound-rtp" || entry.totalSamplesReceived === undefined) continue;
      const samples = entry.totalSamplesReceived;
      const concealed = entry.concealedSamples - entry.silentConcealedSamples;
      const last = this.#watched.get(receiver) ?? { delay: new AudioDelay(), samples, concealed };
      this.#watched.set(receiver, { delay: last.delay, samples, concealed });
      const passed = samples - last.samples;
      if (passed <= 0) continue;
      const missing = (concealed - last.concealed) / passed;
      if (!last.delay.handleSecond(missing, this.#wasOut(OUTAGE_COUNTS_MS))) continue;
      /** @type {any} */ (receiver).jitterBufferTarget = last.delay.target || null;
    }
  }
}
