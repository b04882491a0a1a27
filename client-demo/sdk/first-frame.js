/**
 * How long the first picture took: from when there was something to see, which may be long after one's
 * own joining, to the first frame that was decoded.
 *
 * In: whether anybody shows anything, and the received tracks. Out: the time, once.
 */

export class FirstFrame {
  #began;
  /** Since when there is something to see. @type {number | null} */
  #since = null;
  /** What is waited for. @type {Map<MediaStreamTrack, HTMLVideoElement>} */
  #awaited = new Map();
  /** Milliseconds; null until the frame has come. @type {number | null} */
  ms = null;

  /** @param {number} began When `join` was called. */
  constructor(began = performance.now()) {
    this.#began = began;
  }

  /**
   * Says whether anybody shows anything.
   * @param {boolean} isOffered
   * @param {boolean} [fromJoin] Whether that was so before one joined.
   */
  update(isOffered, fromJoin = false) {
    if (!isOffered) this.#since = null;
    else this.#since ??= fromJoin ? this.#began : performance.now();
  }

  /**
   * Waits for the first frame of a track, too.
   * @param {MediaStreamTrack} track
   */
  watch(track) {
    if (this.ms !== null || this.#awaited.has(track)) return;
    const video = document.createElement("video");
    this.#awaited.set(track, video);
    video.muted = true;
    video.srcObject = new MediaStream([track]);
    const look = () => {
      // What comes of a camera that is off is nothing to see.
      if (this.#since === null || this.ms !== null) return;
      this.ms = performance.now() - this.#since;
      this.close();
    };
    video.onloadeddata = look;
    video.ontimeupdate = look;
    video.play().catch(() => {});
  }

  close() {
    for (const video of this.#awaited.values()) video.srcObject = null;
    this.#awaited.clear();
  }
}
