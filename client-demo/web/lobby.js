/**
 * The lobby: who you are, which room, which camera and microphone, with a preview of both.
 */

import { deviceChoices, isRear, LevelMeter, listDevices, openBoth, openDevice } from "./devices.js";
import { byId, setChoices, setSwitch } from "./dom.js";
import { fit } from "./layout.js";
import { roomIn } from "./links.js";
import { friendlyRoom } from "./words.js";

/** @import { Device } from "./words.js" */

const NAME_KEY = "confab.name";
/** Between two readings of the level, milliseconds. */
const METER_INTERVAL_MS = 60;
/** Devices that take longer than this are waited for with a word, milliseconds. */
const DEVICE_PATIENCE_MS = 1_000;
/** Speech seldom exceeds this root mean square; the meter's full scale. */
const LOUD = 0.3;

/** @typedef {{name: string, room: string, camera: MediaStreamTrack | null, microphone: MediaStreamTrack | null}} Choice */

export class Lobby {
  #name = /** @type {HTMLInputElement} */ (byId("name"));
  #room = /** @type {HTMLInputElement} */ (byId("room"));
  #pickers = { camera: /** @type {HTMLSelectElement} */ (byId("camera")), microphone: /** @type {HTMLSelectElement} */ (byId("microphone")) };
  #buttons = { camera: byId("lobby-camera"), microphone: byId("lobby-mic") };
  /** @type {Record<Device, MediaStreamTrack | null>} */
  #tracks = { camera: null, microphone: null };
  /** @type {LevelMeter | null} */
  #meter = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #meterTimer;
  #open = false;
  /** Until the devices that are asked for are there, or are known not to be. @type {Promise<void> | null} */
  #asking = null;
  /** Whether the button to join had the focus when it was pressed. */
  #isFocusDue = false;
  #watches;

  /**
   * @param {() => void} onJoin
   * @param {{watches: boolean}} options Whether one may only watch: then no device is asked for.
   */
  constructor(onJoin, { watches }) {
    this.#watches = watches;
    byId("lobby-watching").hidden = !watches;
    for (const part of document.querySelectorAll(".preview, label:has(#camera), label:has(#microphone)")) {
      /** @type {HTMLElement} */ (part).hidden = watches;
    }
    const query = new URLSearchParams(location.search);
    this.#name.value = query.get("name") ?? localStorage.getItem(NAME_KEY) ?? "";
    this.#room.value = roomIn() ?? friendlyRoom();
    byId("join-form").addEventListener("submit", (event) => {
      event.preventDefault();
      localStorage.setItem(NAME_KEY, this.#name.value);
      onJoin();
    });
    byId("retry-devices").addEventListener("click", () => void this.open());
    for (const device of /** @type {Device[]} */ (["camera", "microphone"])) {
      this.#pickers[device].addEventListener("change", () => void this.#switch(device));
      this.#buttons[device].addEventListener("click", () => void this.#toggle(device));
    }
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#fillPickers());
    const preview = /** @type {HTMLVideoElement} */ (byId("preview"));
    preview.addEventListener("resize", () => fit(preview, { width: preview.clientWidth, height: preview.clientHeight }));
  }

  /** Asks for the devices and shows them. */
  async open() {
    this.#open = true;
    this.say(null);
    if (this.#watches) return;
    await this.#ask(async () => {
      const { camera, microphone, problems } = await openBoth();
      this.#set("camera", camera);
      this.#set("microphone", microphone);
      await this.#fillPickers();
      this.say(problems.join(" ") || null, true);
    });
  }

  /** @param {() => Promise<void>} open Opens devices. */
  async #ask(open) {
    const asking = open();
    this.#asking = asking;
    await asking.finally(() => {
      if (this.#asking === asking) this.#asking = null;
    });
  }

  /**
   * What was chosen, as soon as the devices are there; the tracks are the caller's from now on.
   * @returns {Promise<Choice>}
   */
  async choice() {
    const words = "Waiting for your camera and microphone. If your browser asks whether this page may use them, please answer.";
    const impatient = setTimeout(() => this.say(words), DEVICE_PATIENCE_MS);
    try {
      while (this.#asking) await this.#asking;
    } finally {
      clearTimeout(impatient);
    }
    return { name: this.#name.value.trim(), room: this.#room.value.trim(), ...this.#tracks };
  }

  /** Lets go of the preview without stopping the tracks. */
  handOver() {
    this.#open = false;
    this.#set("camera", null);
    this.#set("microphone", null);
  }

  /**
   * @param {string | null} words What is wrong, if anything.
   * @param {boolean} [retry] Whether trying the devices again may help.
   */
  say(words, retry = false) {
    byId("lobby-problem").hidden = words === null;
    byId("lobby-problem-words").textContent = words;
    byId("retry-devices").hidden = !retry;
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    const button = /** @type {HTMLButtonElement} */ (byId("join"));
    const isFocused = document.activeElement === button;
    button.disabled = busy;
    button.textContent = busy ? "Joining…" : "Join";
    this.#isFocusDue = busy ? isFocused : this.#isFocusDue;
    // A disabled button has lost it.
    if (!busy && this.#isFocusDue && document.body.dataset.view === "lobby") button.focus();
  }

  async #fillPickers() {
    if (!this.#open) return;
    const devices = await listDevices();
    for (const device of /** @type {Device[]} */ (["camera", "microphone"])) {
      const current = this.#tracks[device]?.getSettings().deviceId;
      setChoices(this.#pickers[device], deviceChoices(device, devices[device]), current, `No ${device}`);
    }
  }

  /** @param {Device} device */
  async #switch(device) {
    this.#tracks[device]?.stop();
    await this.#ask(async () => {
      const { track, problem } = await openDevice(device, { id: this.#pickers[device].value });
      this.#set(device, track);
      this.say(problem, true);
    });
  }

  /** @param {Device} device */
  async #toggle(device) {
    const track = this.#tracks[device];
    if (!track) return this.#switch(device);
    track.stop();
    this.#set(device, null);
  }

  /**
   * @param {Device} device
   * @param {MediaStreamTrack | null} track
   */
  #set(device, track) {
    this.#tracks[device] = track;
    const on = track !== null;
    if (device === "camera") {
      setSwitch(this.#buttons.camera, on, on ? "camera" : "camera-off", on ? "Turn camera off" : "Turn camera on");
      const preview = /** @type {HTMLVideoElement} */ (byId("preview"));
      preview.srcObject = track && new MediaStream([track]);
      preview.classList.toggle("mirrored", !isRear(track));
      byId("preview-empty").hidden = on;
    } else {
      setSwitch(this.#buttons.microphone, on, on ? "mic" : "mic-off", on ? "Turn microphone off" : "Turn microphone on");
      this.#listen(track);
    }
  }

  /** @param {MediaStreamTrack | null} track */
  #listen(track) {
    clearInterval(this.#meterTimer);
    this.#meter?.close();
    this.#meter = track && new LevelMeter(track);
    const level = /** @type {HTMLMeterElement} */ (byId("level"));
    level.value = 0;
    if (!track) return;
    this.#meterTimer = setInterval(() => {
      level.value = Math.min(1, (this.#meter?.level() ?? 0) / LOUD);
    }, METER_INTERVAL_MS);
  }
}
