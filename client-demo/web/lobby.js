/**
 * The lobby: who you are, which room, which camera and microphone, with a preview of both.
 */

import { LevelMeter, listDevices, openBoth, openDevice } from "./devices.js";
import { byId, create, setToggle } from "./dom.js";
import { friendlyRoom } from "./words.js";

/** @import { Device } from "./words.js" */

const NAME_KEY = "confab.name";
/** Between two readings of the level, milliseconds. */
const METER_INTERVAL_MS = 60;
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

  /** @param {(choice: Choice) => void} onJoin */
  constructor(onJoin) {
    const query = new URLSearchParams(location.search);
    this.#name.value = query.get("name") ?? localStorage.getItem(NAME_KEY) ?? "";
    this.#room.value = query.get("room") ?? friendlyRoom();
    byId("join-form").addEventListener("submit", (event) => {
      event.preventDefault();
      localStorage.setItem(NAME_KEY, this.#name.value);
      onJoin(this.choice());
    });
    byId("retry-devices").addEventListener("click", () => void this.open());
    for (const device of /** @type {Device[]} */ (["camera", "microphone"])) {
      this.#pickers[device].addEventListener("change", () => void this.#switch(device));
      this.#buttons[device].addEventListener("click", () => void this.#toggle(device));
    }
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#fillPickers());
  }

  /** Asks for the devices and shows them. */
  async open() {
    this.#open = true;
    this.say(null);
    const { camera, microphone, problems } = await openBoth();
    this.#set("camera", camera);
    this.#set("microphone", microphone);
    await this.#fillPickers();
    if (problems.length > 0) this.say(problems.join(" "), true);
  }

  /** What was chosen; the tracks are the caller's from now on. */
  choice() {
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
    button.disabled = busy;
    button.textContent = busy ? "Joining…" : "Join";
  }

  async #fillPickers() {
    if (!this.#open) return;
    const devices = await listDevices();
    for (const device of /** @type {Device[]} */ (["camera", "microphone"])) {
      const current = this.#tracks[device]?.getSettings().deviceId;
      const options = devices[device].map(({ deviceId, label }, index) => {
        const option = create("option", "", label || `${device === "camera" ? "Camera" : "Microphone"} ${index + 1}`);
        option.value = deviceId;
        option.selected = deviceId === current;
        return option;
      });
      if (options.length === 0) options.push(create("option", "", `No ${device}`));
      this.#pickers[device].replaceChildren(...options);
      this.#pickers[device].disabled = devices[device].length === 0;
    }
  }

  /** @param {Device} device */
  async #switch(device) {
    this.#tracks[device]?.stop();
    const { track, problem } = await openDevice(device, this.#pickers[device].value);
    this.#set(device, track);
    this.say(problem, true);
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
      setToggle(this.#buttons.camera, on, on ? "camera" : "camera-off", on ? "Turn camera off" : "Turn camera on");
      /** @type {HTMLVideoElement} */ (byId("preview")).srcObject = track && new MediaStream([track]);
      byId("preview-empty").hidden = on;
    } else {
      setToggle(this.#buttons.microphone, on, on ? "mic" : "mic-off", on ? "Turn microphone off" : "Turn microphone on");
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
