/**
 * The page of one participant: captures, joins a call when told to, shows the others, and says
 * once a second how it is. The process that opened it provides `tell` for the lines that go out and
 * calls `participant`.
 */

import { openCamera } from "./camera.js";
import { now } from "./clock.js";
import { ConfabClient } from "./confab.js";
import { JanusClient } from "./janus.js";
import { Screen } from "./screen.js";
import { Statistics } from "./statistics.js";

/** @import { Adapter, Audience, Line, Settings } from "./types.js" */

const SAMPLE_INTERVAL_MS = 1_000;
/** A sample is not held up for longer by what the server believes, milliseconds. */
const ESTIMATE_PATIENCE_MS = 500;

class Participant {
  #tell;
  #settings;
  #tracks;
  /** @type {Adapter | null} */
  #client = null;
  #statistics = new Statistics();
  /** Whose track each is. @type {Map<MediaStreamTrack, string>} */
  #senders = new Map();
  #screen;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #sampleTimer;

  /**
   * @param {Settings} settings
   * @param {MediaStreamTrack[]} tracks
   * @param {(line: Line) => void} tell
   */
  constructor(settings, tracks, tell) {
    this.#settings = settings;
    this.#tracks = tracks;
    this.#tell = tell;
    this.#screen = new Screen((from, at) => tell({ type: "first_frame", at, from }));
  }

  async join() {
    const at = now();
    this.#tell({ type: "joining", at });
    this.#sampleAt(at + SAMPLE_INTERVAL_MS);
    const Client = this.#settings.serverKind === "janus" ? JanusClient : ConfabClient;
    this.#client = new Client(this.#settings, this.#tracks, this.#audience());
    try {
      await this.#client.join();
    } catch (error) {
      this.#fail(messageOf(error));
    }
  }

  async leave() {
    clearTimeout(this.#sampleTimer);
    await this.#client?.leave();
  }

  /** @returns {Audience} */
  #audience() {
    return {
      joined: () => this.#tell({ type: "joined", at: now() }),
      connected: () => this.#tell({ type: "connected", at: now() }),
      shown: (from, track) => {
        this.#senders.set(track, from);
        this.#screen.show(from, track);
      },
      hidden: (from, kind) => {
        for (const [track, sender] of this.#senders) {
          if (sender === from && track.kind === kind) this.#senders.delete(track);
        }
        this.#screen.hide(from, kind);
      },
      failed: (why) => this.#fail(why),
    };
  }

  /** @param {number} due */
  #sampleAt(due) {
    this.#sampleTimer = setTimeout(async () => {
      this.#sampleAt(due + SAMPLE_INTERVAL_MS);
      const connections = this.#client?.connections() ?? [];
      // Asked at the same time; the answer may take a round trip.
      const estimate = this.#client?.downlinkEstimate?.() ?? null;
      const sample = await this.#statistics.read(now(), connections, this.#senders, (from) => this.#screen.takeDelays(from));
      this.#tell({ type: "sample", ...sample, downlink_estimate: await within(ESTIMATE_PATIENCE_MS, estimate) });
    }, due - now());
  }

  /** @param {string} why */
  #fail(why) {
    clearTimeout(this.#sampleTimer);
    this.#tell({ type: "failed", at: now(), why });
  }
}

/**
 * @param {Settings} settings
 * @returns {Promise<MediaStreamTrack[]>}
 */
async function capture({ publish, width, height, fps }) {
  const tracks = [];
  if (publish.includes("audio")) {
    // What a browser does to a voice before sending it would be measured along with the network.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    tracks.push(...(await navigator.mediaDevices.getUserMedia({ audio })).getTracks());
  }
  if (publish.includes("video")) tracks.push(openCamera({ width, height, fps }));
  return tracks;
}

/**
 * What comes of a promise in this time, or nothing.
 * @template Result
 * @param {number} patienceMs
 * @param {Promise<Result> | Result} promise
 * @returns {Promise<Result | null>}
 */
function within(patienceMs, promise) {
  return Promise.race([promise, new Promise((done) => setTimeout(() => done(null), patienceMs))]);
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Captures, and is ready to join then.
 * @param {Settings} settings
 */
async function prepare(settings) {
  const tell = /** @type {any} */ (globalThis).tell;
  /** @type {any} */ (globalThis).participant = new Participant(settings, await capture(settings), tell);
}

/** @type {any} */ (globalThis).prepare = prepare;
