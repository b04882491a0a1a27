/**
 * The dialog in which camera, microphone and speaker are chosen during a call. In: what is in use, and
 * what comes and goes at the computer. Out: `use`, when something else is chosen.
 */

import { deviceChoices, listDevices } from "./devices.js";
import { byId, setChoices, toast } from "./dom.js";

/** @import { Device } from "./words.js" */

/** @typedef {Device | "speaker"} Chosen */

/** @type {Chosen[]} */
const ALL = ["camera", "microphone", "speaker"];

export class DevicePanel {
  #callbacks;
  #dialog = /** @type {HTMLDialogElement} */ (byId("devices"));
  /** What has been there, by kind. @type {Record<Chosen, MediaDeviceInfo[]> | null} */
  #known = null;
  /** @type {(() => void)[]} */
  #undo = [];

  /**
   * @param {object} callbacks
   * @param {(device: Chosen) => string | undefined} callbacks.current The id of what is in use.
   * @param {(device: Chosen, id: string) => Promise<string | null>} callbacks.use Fulfilled with what went wrong, if anything.
   * @param {(devices: Record<Chosen, MediaDeviceInfo[]>) => void} callbacks.onChange Devices have come or gone.
   */
  constructor(callbacks) {
    this.#callbacks = callbacks;
    for (const device of ALL) {
      const picker = this.#picker(device);
      this.#listen(picker, "change", () => void this.#choose(device, picker));
    }
    this.#listen(byId("open-devices"), "click", () => void this.#open());
    if (navigator.mediaDevices) this.#listen(navigator.mediaDevices, "devicechange", () => void this.#handleChange());
    void this.refresh();
  }

  close() {
    for (const undo of this.#undo) undo();
    this.#dialog.close();
  }

  /** Says anew what there is and what is in use. */
  async refresh() {
    const devices = await listDevices();
    this.#known = devices;
    byId("speaker-label").hidden = devices.speaker.length === 0 || !("setSinkId" in HTMLMediaElement.prototype);
    for (const device of ALL) {
      setChoices(this.#picker(device), deviceChoices(device, devices[device]), this.#callbacks.current(device), `No ${device}`);
    }
    return devices;
  }

  async #open() {
    this.#say(null);
    await this.refresh();
    this.#dialog.showModal();
  }

  async #handleChange() {
    const before = this.#known;
    const devices = await this.refresh();
    for (const device of ALL) {
      for (const { deviceId, label } of devices[device]) {
        const isNew = before && before[device].every((known) => known.deviceId !== deviceId);
        // The system's choice by another name is no other device.
        if (isNew && label && deviceId !== "default" && deviceId !== "communications") toast(`${label} can be used now: see Devices`);
      }
    }
    this.#callbacks.onChange(devices);
  }

  /**
   * @param {Chosen} device
   * @param {HTMLSelectElement} picker
   */
  async #choose(device, picker) {
    picker.disabled = true;
    this.#say(await this.#callbacks.use(device, picker.value));
    await this.refresh();
    picker.focus();
  }

  /** @param {string | null} words */
  #say(words) {
    byId("devices-problem").textContent = words;
  }

  /** @param {Chosen} device */
  #picker(device) {
    return /** @type {HTMLSelectElement} */ (byId(`call-${device}`));
  }

  /**
   * @param {EventTarget} target
   * @param {string} type
   * @param {() => void} act
   */
  #listen(target, type, act) {
    target.addEventListener(type, act);
    this.#undo.push(() => target.removeEventListener(type, act));
  }
}
