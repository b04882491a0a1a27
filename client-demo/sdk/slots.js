/**
 * Which remote track each slot shows, as the server says, and so which tracks can be shown: those that have
 * a slot with media at this end. Answers and events come in; tracks that can be shown, or no longer, or
 * that pause, go out.
 */

/** @import { Pause, RemoteTrack } from "./confab.js" */
/** @import { Kind, SlotInfo } from "./types.js" */

export class Slots {
  #callbacks;
  /** What the server says each slot shows. @type {Map<string, string | null>} */
  #tracks = new Map();
  /** Slots of which the server sends nothing for now, by mid. @type {Map<string, Pause>} */
  #pauses = new Map();
  /** Tracks that are surfaced, and where. @type {Map<string, {mid: string, media: MediaStreamTrack}>} */
  #shown = new Map();

  /**
   * @param {object} callbacks
   * @param {() => Map<string, RTCRtpReceiver>} callbacks.receivers The slots that there are at this end, by mid.
   * @param {(id: string) => RemoteTrack | undefined} callbacks.find
   * @param {(track: RemoteTrack) => void} callbacks.onShown Its `mediaStreamTrack` is set.
   * @param {(track: RemoteTrack) => void} callbacks.onHidden Its `mediaStreamTrack` is null.
   * @param {(track: RemoteTrack) => void} callbacks.onPause Its `paused` has changed.
   */
  constructor(callbacks) {
    this.#callbacks = callbacks;
  }

  /** An answer names every slot there is. @param {SlotInfo[]} slots */
  handleAnswer(slots) {
    const mids = new Set(slots.map(({ mid }) => mid));
    for (const mid of [...this.#tracks.keys()]) {
      if (!mids.has(mid)) this.#tracks.delete(mid);
    }
    for (const { mid, track } of slots) this.assign(mid, track);
  }

  /**
   * @param {string} mid
   * @param {string | null} track
   */
  assign(mid, track) {
    if (this.#tracks.get(mid) !== track) this.#pauses.delete(mid);
    this.#tracks.set(mid, track);
  }

  /**
   * @param {string} mid
   * @param {Pause | null} pause
   */
  pause(mid, pause) {
    if (pause) this.#pauses.set(mid, pause);
    else this.#pauses.delete(mid);
    this.#showPauses();
  }

  /** The server has none of the slots any more. */
  forget() {
    this.#tracks.clear();
    this.#pauses.clear();
  }

  /** Brings what is surfaced in line with what the slots show. */
  show() {
    const receivers = this.#callbacks.receivers();
    for (const [id, { mid, media }] of [...this.#shown]) {
      if (this.#tracks.get(mid) !== id || receivers.get(mid)?.track !== media) this.hide(id);
    }
    for (const [mid, id] of this.#tracks) {
      const track = id === null ? null : this.#callbacks.find(id);
      const media = receivers.get(mid)?.track;
      if (!track || !media || this.#shown.has(track.id)) continue;
      this.#shown.set(track.id, { mid, media });
      track.mediaStreamTrack = media;
      this.#callbacks.onShown(track);
    }
    this.#showPauses();
  }

  /** Brings `paused` of what is surfaced in line with what the server says of the slots. */
  #showPauses() {
    for (const [id, { mid }] of this.#shown) {
      const track = this.#callbacks.find(id);
      const paused = this.#pauses.get(mid) ?? null;
      if (!track || track.paused === paused) continue;
      track.paused = paused;
      this.#callbacks.onPause(track);
    }
  }

  /** @param {string} trackId */
  hide(trackId) {
    const track = this.#callbacks.find(trackId);
    if (!this.#shown.delete(trackId) || !track) return;
    track.mediaStreamTrack = null;
    track.paused = null;
    this.#callbacks.onHidden(track);
  }

  /** What is surfaced, by the mid of its slot. */
  shownByMid() {
    return new Map([...this.#shown].map(([track, { mid }]) => [mid, track]));
  }

  /** What receives a track that is surfaced. @param {string} trackId */
  receiverOf(trackId) {
    const shown = this.#shown.get(trackId);
    return shown && this.#callbacks.receivers().get(shown.mid);
  }

  /** The slot that the server has given a track. @param {string} trackId */
  slotOf(trackId) {
    return [...this.#tracks].find(([, track]) => track === trackId)?.[0];
  }

  /** The last slot that the server knows of; what is being offered it may not. @param {Kind} kind */
  lastOf(kind) {
    const own = [...this.#callbacks.receivers()].filter(([mid, { track }]) => track.kind === kind && this.#tracks.has(mid));
    return own.at(-1)?.[0];
  }
}
