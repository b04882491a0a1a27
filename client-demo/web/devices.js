/**
 * Cameras and microphones: opening them, and knowing how loud it is.
 */

import { deviceProblem, insecureContext } from "./words.js";

/** @import { Device } from "./words.js" */

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
 * @param {string} [id] Preferred, not insisted on: it may have been unplugged.
 * @returns {MediaTrackConstraints}
 */
function constraints(device, id) {
  const { width, height } = wantedVideo();
  return {
    ...(id && { deviceId: { ideal: id } }),
    ...(device === "camera" && { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: FRAME_RATE } }),
  };
}

/**
 * @param {Device} device
 * @param {string} [id]
 * @returns {Promise<MediaStreamTrack>}
 */
async function open(device, id) {
  const wanted = constraints(device, id);
  const stream = await navigator.mediaDevices.getUserMedia(device === "camera" ? { video: wanted } : { audio: wanted });
  return /** @type {MediaStreamTrack} */ (stream.getTracks()[0]);
}

/**
 * @param {Device} device
 * @param {string} [id]
 * @returns {Promise<{track: MediaStreamTrack | null, problem: string | null}>}
 */
export async function openDevice(device, id) {
  if (!navigator.mediaDevices) return { track: null, problem: insecureContext() };
  try {
    return { track: await open(device, id), problem: null };
  } catch (error) {
    return { track: null, problem: deviceProblem(error, device) };
  }
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

/** @returns {Promise<Record<Device, MediaDeviceInfo[]>>} */
export async function listDevices() {
  const all = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  return {
    camera: all.filter(({ kind }) => kind === "videoinput"),
    microphone: all.filter(({ kind }) => kind === "audioinput"),
  };
}

/** How loud a local audio track is. */
export class LevelMeter {
  #context = new AudioContext();
  #analyser = this.#context.createAnalyser();
  #samples = new Float32Array(this.#analyser.fftSize);
  /** Browsers keep audio contexts asleep until the user has touched the page. */
  #wake = () => void this.#context.resume();

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
    void this.#context.close();
  }
}
