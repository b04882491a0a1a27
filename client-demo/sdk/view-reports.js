/**
 * Tells the server how large each remote picture is shown, so that it sends no more than is seen. In:
 * which element shows which track, and which slots show which tracks. Out: `view` requests with what
 * has changed. A track of which nothing was said gets the best there is.
 */

import { asConfabError } from "./events.js";
import { PASSING_CODES } from "./signal.js";
import { HIDDEN, ViewWatcher } from "./view-watcher.js";

/** @import { View } from "./types.js" */

/** Changes are reported together when this has passed, milliseconds: a resized window makes many. */
const DELAY_MS = 150;
/** Until what was refused for now is reported again, milliseconds. */
const RETRY_MS = 1_000;
/** A size that is so little different is the same: encodings are rounded to whole pixels. */
const SLACK = 0.02;
/** More pixels than any picture has. @type {View} */
const EVERYTHING = { visible: true, width: 16_384, height: 16_384 };

/** @typedef {{mid: string, track: string, view: View}} Change */

export class ViewReports {
  #slots;
  #send;
  #watcherClass;
  /** @type {ViewWatcher | null} */
  #watcher = null;
  /** Where a track is shown, null for nowhere. @type {Map<string, HTMLVideoElement | null>} */
  #elements = new Map();
  /** @type {WeakMap<HTMLVideoElement, View>} */
  #views = new WeakMap();
  /** What was reported of a slot. @type {Map<string, {track: string, view: View}>} */
  #reported = new Map();
  #isRefused = false;
  #isUrgent = false;
  /** One request at a time, so that a long outage leaves one behind and not many. */
  #isSending = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} options
   * @param {() => Map<string, string>} options.slots The tracks that are received now, by the mid of
   *   their slots.
   * @param {(slots: (View & {mid: string})[]) => Promise<unknown>} options.send
   * @param {typeof ViewWatcher} [options.watcherClass] Another implementation, for tests.
   */
  constructor({ slots, send, watcherClass = ViewWatcher }) {
    this.#slots = slots;
    this.#send = send;
    this.#watcherClass = watcherClass;
  }

  /**
   * @param {string} track
   * @param {HTMLVideoElement | null} element
   */
  show(track, element) {
    const before = this.#elements.get(track);
    if (this.#isRefused || before === element) return;
    this.#elements.set(track, element);
    if (before) this.#release(before);
    if (element) this.#watch(element);
    this.update();
  }

  /** The track is no more. @param {string} track */
  forget(track) {
    const element = this.#elements.get(track);
    this.#elements.delete(track);
    if (element) this.#release(element);
  }

  /** The server knows nothing of what was reported: there is another connection. */
  reset() {
    this.#reported.clear();
  }

  /** Looks for what is to be reported. Call it when slots show other tracks. */
  update() {
    const changes = this.#changes();
    if (changes.length === 0) return;
    if (!changes.some(({ mid, view }) => view.visible && this.#reported.get(mid)?.view.visible === false)) {
      this.#timer ??= setTimeout(() => this.#flush(), DELAY_MS);
    } else if (!this.#isUrgent) {
      // Not within the loop that found the first of several.
      this.#isUrgent = true;
      queueMicrotask(() => this.#flush());
    }
  }

  close() {
    this.#isRefused = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
    this.#elements.clear();
    this.#reported.clear();
  }

  /** @param {HTMLVideoElement} element */
  #watch(element) {
    this.#watcher ??= new this.#watcherClass((watched, view) => {
      this.#views.set(watched, view);
      this.update();
    });
    this.#watcher.add(element);
  }

  /** @param {HTMLVideoElement} element */
  #release(element) {
    if ([...this.#elements.values()].includes(element)) return;
    this.#watcher?.remove(element);
    this.#views.delete(element);
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isUrgent = false;
    const changes = this.#changes();
    if (changes.length > 0 && !this.#isSending) void this.#report(changes);
  }

  /** @param {Change[]} changes */
  async #report(changes) {
    this.#isSending = true;
    for (const { mid, track, view } of changes) this.#reported.set(mid, { track, view });
    try {
      await this.#send(changes.map(({ mid, view }) => ({ mid, ...view })));
      this.#isSending = false;
      this.update();
    } catch (error) {
      this.#isSending = false;
      this.#handleRefusal(changes, asConfabError(error).code);
    }
  }

  /**
   * @param {Change[]} changes
   * @param {string} code
   */
  #handleRefusal(changes, code) {
    // A server older than the request, which sends the best of everything.
    if (code === "unknown_type") return this.close();
    for (const { mid } of changes) this.#reported.delete(mid);
    if (this.#isRefused || !(PASSING_CODES.has(code) || code === "too_many_requests")) return;
    this.#timer ??= setTimeout(() => this.#flush(), RETRY_MS);
  }

  /** @returns {Change[]} */
  #changes() {
    if (this.#isRefused) return [];
    return [...this.#slots()].flatMap(([mid, track]) => {
      const reported = this.#reported.get(mid);
      const view = this.#viewOf(track) ?? (reported && !this.#elements.has(track) ? EVERYTHING : undefined);
      return !view || (reported?.track === track && isSame(reported.view, view)) ? [] : [{ mid, track, view }];
    });
  }

  /** @param {string} track */
  #viewOf(track) {
    const element = this.#elements.get(track);
    return element ? this.#views.get(element) : element === null ? HIDDEN : undefined;
  }
}

/**
 * @param {View} a
 * @param {View} b
 */
function isSame(a, b) {
  return a.visible === b.visible && isNear(a.width, b.width) && isNear(a.height, b.height);
}

/**
 * @param {number} a
 * @param {number} b
 */
function isNear(a, b) {
  return Math.abs(a - b) <= SLACK * Math.max(a, b);
}
