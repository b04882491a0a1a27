/**
 * The tiles of a call and the grid that lays them out.
 */

import { isRear } from "./devices.js";
import { create, icon, setSwitch } from "./dom.js";
import { arrange, fit } from "./layout.js";

/** @import { Size } from "./layout.js" */

/** Louder than this, somebody is speaking (root mean square or RFC 6464 level, 0 to 1). */
const SPEAKING_LEVEL = 0.015;
/** The ring outlasts the pauses between words, milliseconds. */
const SPEAKING_HOLD_MS = 700;

/** One picture with a name: a participant, or a shared screen. */
export class Tile {
  video = create("video", "");
  #audio = create("audio", "");
  #note = create("span", "note");
  #pause = create("p", "pause");
  #mark = create("p", "mark", "Connection lost");
  #isAudible = true;
  #isUnreachable = false;
  /** @type {{audio: string | null, video: string | null}} */
  #pauses = { audio: null, video: null };
  #microphone = icon("mic-off");
  #heardAt = -Infinity;
  /** CSS pixels. @type {Size} */
  #place = { width: 0, height: 0 };
  pinButton = create("button", "round pin", icon("pin"));
  element;

  /**
   * @param {string} key
   * @param {string} name
   * @param {{self?: boolean, screen?: boolean}} [kind]
   */
  constructor(key, name, { self = false, screen = false } = {}) {
    this.key = key;
    this.name = name;
    this.self = self;
    this.screen = screen;
    this.video.playsInline = true;
    this.video.autoplay = true;
    this.video.muted = true;
    this.video.addEventListener("resize", () => this.#fit());
    this.#audio.autoplay = true;
    this.#microphone.classList.add("mic-off");
    this.pinButton.type = "button";
    const avatar = create("span", "avatar", initials(name));
    avatar.ariaHidden = "true";
    const label = create("span", "label", this.#microphone, create("span", "name", self && !screen ? `${name} (you)` : name));
    this.element = create("div", "tile", avatar, this.video, this.#audio, this.#pause, this.#mark, this.#note, label, this.pinButton);
    this.element.role = "listitem";
    this.element.dataset.key = key;
    this.element.style.setProperty("--hue", String(hue(name)));
    this.element.classList.toggle("self", self && !screen);
    this.element.classList.toggle("screen", screen);
    this.setVideo(null);
    this.setMicrophone(true);
    this.setPinned(false);
  }

  /** @param {MediaStreamTrack | null} track */
  setVideo(track) {
    this.element.classList.toggle("blank", track === null);
    this.element.classList.toggle("mirrored", this.self && !this.screen && !isRear(track));
    show(this.video, track);
  }

  /** @param {Size} place How large it is, CSS pixels. */
  setPlace(place) {
    this.#place = place;
    this.#fit();
  }

  #fit() {
    if (!this.screen) this.element.classList.toggle("whole", fit(this.video, this.#place));
  }

  /** @param {MediaStreamTrack | null} track */
  setAudio(track) {
    show(this.#audio, track);
  }

  /** @param {string} id Where it is to be heard. */
  async setSpeaker(id) {
    await this.#audio.setSinkId?.(id);
  }

  /**
   * @param {"audio" | "video"} kind
   * @param {string | null} words Why the picture stands still, whose place they take, or why there is no
   *   audio. Null if there is.
   */
  setPaused(kind, words) {
    this.#pauses[kind] = words;
    const { audio, video } = this.#pauses;
    this.element.classList.toggle("paused", video !== null);
    this.element.classList.toggle("unheard", audio !== null);
    this.#pause.textContent = video ?? audio;
    // A small tile has no place for a long sentence.
    this.#pause.title = this.#pause.textContent ?? "";
  }

  /** @param {boolean} dominant Whether this is who has the floor. */
  setDominant(dominant) {
    this.element.classList.toggle("dominant", dominant);
  }

  /** @param {boolean} audible */
  setMicrophone(audible) {
    this.#isAudible = audible;
    this.#microphone.classList.toggle("hidden", audible);
    this.#describe();
  }

  /** @param {boolean} isUnreachable Whether nothing is heard of who it is: what it shows is old. */
  setUnreachable(isUnreachable) {
    this.#isUnreachable = isUnreachable;
    this.element.classList.toggle("unreachable", isUnreachable);
    this.#describe();
  }

  #describe() {
    const states = [this.#isAudible ? [] : "muted", this.#isUnreachable ? "connection lost" : []].flat();
    this.element.ariaLabel = [this.name, ...states].join(", ");
  }

  /** @param {boolean} pinned */
  setPinned(pinned) {
    setSwitch(this.pinButton, pinned, "pin", pinned ? `Unpin ${this.name}` : `Pin ${this.name}`);
    this.element.classList.toggle("pinned", pinned);
  }

  /** @param {number} level */
  setLevel(level) {
    const now = performance.now();
    if (level > SPEAKING_LEVEL) this.#heardAt = now;
    this.element.classList.toggle("speaking", now - this.#heardAt < SPEAKING_HOLD_MS);
  }

  /** @param {string} words Figures for the statistics view; empty for none. */
  setNote(words) {
    this.#note.textContent = words;
  }

  close() {
    this.setVideo(null);
    this.setAudio(null);
    this.element.remove();
  }
}

export class Grid {
  #element;
  /** @type {Map<string, Tile>} */
  #tiles = new Map();
  /** @type {string | null} */
  #pinned = null;
  #onPin;
  #speaker = "";

  /**
   * @param {HTMLElement} element
   * @param {(key: string, pinned: boolean) => void} [onPin]
   */
  constructor(element, onPin = () => {}) {
    this.#element = element;
    this.#onPin = onPin;
    new ResizeObserver(() => this.#layOut()).observe(element);
  }

  /** @param {string} key */
  tile(key) {
    return this.#tiles.get(key);
  }

  /**
   * Screens come first, then people in the order they came. Another's screen takes the stage.
   * @param {Tile} tile
   */
  add(tile) {
    this.#tiles.set(tile.key, tile);
    if (this.#speaker) tile.setSpeaker(this.#speaker).catch(() => {});
    const before = tile.screen ? [...this.#tiles.values()].find(({ screen }) => !screen) : undefined;
    this.#element.insertBefore(tile.element, before?.element ?? null);
    tile.pinButton.onclick = () => this.pin(this.#pinned === tile.key ? null : tile.key);
    if (tile.screen && !tile.self && this.#pinned === null) this.pin(tile.key);
    this.#layOut();
  }

  /** @param {string} key */
  remove(key) {
    const tile = this.#tiles.get(key);
    if (!tile) return;
    if (this.#pinned === key) this.pin(null);
    this.#tiles.delete(key);
    tile.close();
    this.#layOut();
  }

  clear() {
    for (const key of [...this.#tiles.keys()]) this.remove(key);
  }

  /** @param {string | null} key */
  pin(key) {
    for (const candidate of [this.#pinned, key]) {
      const tile = candidate === null ? undefined : this.#tiles.get(candidate);
      if (!tile) continue;
      tile.setPinned(candidate === key);
      this.#onPin(tile.key, candidate === key);
    }
    this.#pinned = key;
    this.#layOut();
  }

  get speaker() {
    return this.#speaker;
  }

  /**
   * Has everybody heard there.
   * @param {string} id Of the device; empty for what the system has chosen.
   */
  async setSpeaker(id) {
    await Promise.all([...this.#tiles.values()].map((tile) => tile.setSpeaker(id)));
    this.#speaker = id;
  }

  #layOut() {
    const { clientWidth: width, clientHeight: height, children } = this.#element;
    if (!width || !height) return;
    const tiles = /** @type {HTMLElement[]} */ ([...children]);
    const pinned = tiles.findIndex(({ dataset }) => dataset.key === this.#pinned);
    arrange(tiles.length, { width, height }, pinned).forEach((rect, index) => {
      const { style, dataset } = /** @type {HTMLElement} */ (tiles[index]);
      style.setProperty("transform", `translate(${rect.x}px, ${rect.y}px)`);
      style.setProperty("width", `${rect.width}px`);
      style.setProperty("height", `${rect.height}px`);
      this.#tiles.get(dataset.key ?? "")?.setPlace(rect);
    });
  }
}

/**
 * @param {HTMLMediaElement} element
 * @param {MediaStreamTrack | null} track
 */
function show(element, track) {
  const shown = element.srcObject instanceof MediaStream ? element.srcObject.getTracks()[0] : undefined;
  if ((shown ?? null) === track) return;
  element.srcObject = track && new MediaStream([track]);
  // Without a gesture the browser refuses audio; then the next click or key starts it.
  if (track) element.play().catch(() => addEventListener("click", () => void element.play().catch(() => {}), { once: true }));
}

/** @param {string} name */
function initials(name) {
  return name.trim().split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
}

/** @param {string} name */
function hue(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360, 7);
}
