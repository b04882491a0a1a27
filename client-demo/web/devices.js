/**
 * Cameras and microphones: opening them, and knowing how loud it is.
 */

import { deviceProblem, insecureContext } from "./words.js";

/** @import { Device } from "./words.js" */
/** @typedef {"user" | "environment"} Facing Which side of a phone a camera is on. */
/** @typedef {{id?: string, facing?: Facing}} Wanted `id` is preferred, not insisted on: it may have been unplugged. */
/** @typedef {{track: MediaStreamTrack | null, problem: string | null}} Opened */

/** What a camera is asked for, unless the page's address says otherwise. */
const DEFAULT_VIDEO = { width: 1280, height: 720 };
const FRAME_RATE = 30;

/**
 * `?video=640x360` in the page's address.
 * @returns {{width: number, height: number}}
 */
function wantedVideo() {
  const [, width, height] = new URLSearchParams(location.search).get("video")?.match(/^(\d+)x(\d+)$/) ?? [];
  return width && height ? { width: Number(width), height: Number(height) } : DEFAULT_VIDEO;
}

/**
 * @param {Device} device
 * @param {Wanted} [wanted]
 * @returns {MediaTrackConstraints}
 */
function constraints(device, { id, facing } = {}) {
  const { width, height } = wantedVideo();
  return {
    ...(id && { deviceId: { ideal: id } }),
    ...(facing && { facingMode: { exact: facing } }),
    ...(device === "camera" && { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: FRAME_RATE } }),
  };
}

/**
 * @param {Device} device
 * @param {Wanted} [wanted]
 * @returns {Promise<MediaStreamTrack>}
 */
async function open(device, wanted) {
  const asked = constraints(device, wanted);
  const stream = await navigator.mediaDevices.getUserMedia(device === "camera" ? { video: asked } : { audio: asked });
  return /** @type {MediaStreamTrack} */ (stream.getTracks()[0]);
}

/**
 * @param {Device} device
 * @param {Wanted} [wanted]
 * @returns {Promise<Opened>}
 */
export async function openDevice(device, wanted) {
  if (!navigator.mediaDevices) return { track: null, problem: insecureContext() };
  try {
    return { track: await open(device, wanted), problem: null };
  } catch (error) {
    return { track: null, problem: deviceProblem(error, device) };
  }
}

/**
 * Opens another device while one is in use, which goes on until then, so that nobody sees or hears a gap.
 * Many a phone opens one camera at a time: there the present one is closed first, and opened again if the
 * other cannot be had.
 * @param {Device} device
 * @param {Wanted} wanted
 * @param {MediaStreamTrack} present Stopped if another comes of it.
 * @returns {Promise<Opened>}
 */
export async function changeDevice(device, wanted, present) {
  const opened = await openDevice(device, wanted);
  if (opened.track) {
    present.stop();
    return opened;
  }
  const { deviceId } = present.getSettings();
  present.stop();
  const again = await openDevice(device, wanted);
  if (again.track) return again;
  const before = await openDevice(device, { id: deviceId });
  return { track: before.track, problem: again.problem };
}

/**
 * Whether it looks away from who holds it: then it is no mirror.
 * @param {MediaStreamTrack | null} camera
 */
export function isRear(camera) {
  return camera?.getSettings().facingMode === "environment";
}

/**
 * Opens camera and microphone with one question to the user, or, where one is missing, the other.
 * @returns {Promise<{camera: MediaStreamTrack | null, microphone: MediaStreamTrack | null, problems: string[]}>}
 */
export async function openBoth() {
  if (!navigator.mediaDevices) return { camera: null, microphone: null, problems: [insecureContext()] };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: constraints("camera"), audio: constraints("microphone") });
    return { camera: stream.getVideoTracks()[0] ?? null, microphone: stream.getAudioTracks()[0] ?? null, problems: [] };
  } catch (error) {
    const camera = await openDevice("camera");
    const microphone = await openDevice("microphone");
    if (!camera.track && !microphone.track && error instanceof DOMException && error.name === "NotAllowedError") {
      return { camera: null, microphone: null, problems: [deviceProblem(error, "camera and microphone")] };
    }
    const problems = [camera.problem, microphone.problem].filter((problem) => problem !== null);
    return { camera: camera.track, microphone: microphone.track, problems };
  }
}

/** @returns {Promise<Record<Device | "speaker", MediaDeviceInfo[]>>} */
export async function listDevices() {
  const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  // Without permission there is one of each kind at most, without an id.
  const of = (/** @type {MediaDeviceKind} */ wanted) => all.filter(({ kind }) => kind === wanted);
  return { camera: of("videoinput"), microphone: of("audioinput"), speaker: of("audiooutput") };
}

/**
 * @param {Device | "speaker"} device
 * @param {MediaDeviceInfo[]} devices
 */
export function deviceChoices(device, devices) {
  const name = `${device[0]?.toUpperCase()}${device.slice(1)}`;
  return devices.map(({ deviceId, label }, index) => ({ value: deviceId, label: label || `${name} ${index + 1}` }));
}

/** How loud a local audio track is. */
export class LevelMeter {
  #context = new AudioContext();
  #analyser = this.#context.createAnalyser();
  #samples = new Float32Array(this.#analyser.fftSize);
  /** Browsers keep audio contexts asleep until the user has touched the page. */
  #wake = () => void this.#context.resume().catch(() => {});

  /** @param {MediaStreamTrack} track */
  constructor(track) {
    this.#context.createMediaStreamSource(new MediaStream([track])).connect(this.#analyser);
    addEventListener("pointerdown", this.#wake);
    addEventListener("keydown", this.#wake);
  }

  /** Root mean square, 0 to 1. */
  level() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const sum = this.#samples.reduce((total, sample) => total + sample * sample, 0);
    return Math.sqrt(sum / this.#samples.length);
  }

  close() {
    removeEventListener("pointerdown", this.#wake);
    removeEventListener("keydown", this.#wake);
    void this.#context.close().catch(() => {});
  }
}
