/**
 * Where the others are seen and heard. Tells the first picture of each, and gathers how old the
 * pictures were when they were shown.
 */

import { since1970 } from "./clock.js";
import { PERIOD_MS, TimeCodeReader } from "./time-code.js";

/** @import { Kind } from "./types.js" */

/** An older picture is a misread one, milliseconds. */
const MAX_DELAY_MS = 60_000;

/**
 * One participant on the screen.
 * @typedef {object} Tile
 * @property {HTMLVideoElement} video
 * @property {HTMLAudioElement} audio
 * @property {number[]} delays
 * @property {boolean} seen Whether a picture of it has ever been shown.
 */

export class Screen {
  /** @type {Map<string, Tile>} */
  #tiles = new Map();
  #reader = new TimeCodeReader();
  #onFirstFrame;

  /**
   * @param {(from: string, at: number) => void} onFirstFrame
   */
  constructor(onFirstFrame) {
    this.#onFirstFrame = onFirstFrame;
  }

  /**
   * @param {string} from
   * @param {MediaStreamTrack} track
   */
  show(from, track) {
    const element = this.#tile(from)[/** @type {Kind} */ (track.kind)];
    element.srcObject = new MediaStream([track]);
    element.play().catch((error) => console.warn(`${track.kind} of ${from} does not play: ${error.message}`));
  }

  /**
   * @param {string} from
   * @param {Kind} kind
   */
  hide(from, kind) {
    this.#tile(from)[kind].srcObject = null;
  }

  /**
   * How old the pictures were that were shown since this was asked last, milliseconds each.
   * @param {string} from
   */
  takeDelays(from) {
    return this.#tile(from).delays.splice(0);
  }

  /** @param {string} from */
  #tile(from) {
    let tile = this.#tiles.get(from);
    if (!tile) {
      const video = document.createElement("video");
      video.muted = true;
      tile = { video, audio: document.createElement("audio"), delays: [], seen: false };
      this.#tiles.set(from, tile);
      document.body.append(video, tile.audio);
      this.#watch(from, tile);
    }
    return tile;
  }

  /**
   * @param {string} from
   * @param {Tile} tile
   */
  #watch(from, tile) {
    tile.video.requestVideoFrameCallback((_, { presentationTime }) => {
      const shownAt = since1970(presentationTime);
      if (!tile.seen) this.#onFirstFrame(from, shownAt);
      tile.seen = true;
      const made = this.#reader.read(tile.video);
      if (made !== null) {
        const delay = (((shownAt - made) % PERIOD_MS) + PERIOD_MS) % PERIOD_MS;
        if (delay < MAX_DELAY_MS) tile.delays.push(Math.round(delay * 10) / 10);
      }
      this.#watch(from, tile);
    });
  }
}
