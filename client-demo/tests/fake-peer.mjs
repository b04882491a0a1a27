/**
 * A browser's media connection without media: it makes offers that the server answers, and says that it
 * is connected when it has an answer. With it the SDK runs in Node, whole calls in milliseconds.
 */

const FINGERPRINT = Array(32).fill("AB").join(":");
const CODECS = {
  audio: ["111", "opus/48000/2"],
  video: ["96", "VP8/90000"],
};

export class FakeTrack extends EventTarget {
  enabled = true;
  contentHint = "";
  readyState = "live";

  /** @param {"audio" | "video"} kind */
  constructor(kind) {
    super();
    this.kind = kind;
  }

  getSettings() {
    return { width: 320, height: 180 };
  }

  stop() {
    this.readyState = "ended";
  }
}

class FakeSender {
  #parameters;

  constructor(track, encodings) {
    this.track = track;
    this.#parameters = { encodings };
  }

  async replaceTrack(track) {
    this.track = track;
  }

  getParameters() {
    return structuredClone(this.#parameters);
  }

  async setParameters(parameters) {
    this.#parameters = structuredClone(parameters);
  }
}

class FakeReceiver {
  constructor(kind) {
    this.track = new FakeTrack(kind);
  }

  getSynchronizationSources() {
    return [];
  }

  async getStats() {
    return new Map();
  }
}

class FakeTransceiver {
  mid = null;

  constructor(kind, track, { direction, sendEncodings = [{}] }) {
    this.kind = kind;
    this.direction = direction;
    this.sender = new FakeSender(track, sendEncodings);
    this.receiver = new FakeReceiver(kind);
  }

  setCodecPreferences() {}

  stop() {}
}

export class FakePeerConnection {
  /** Every one that was made. @type {FakePeerConnection[]} */
  static all = [];
  /** What every one waits for before it applies a description. */
  static pause = () => Promise.resolve();
  connectionState = "new";
  signalingState = "stable";
  localDescription = null;
  remoteDescription = null;
  /** What `getStats` gives, by id. */
  stats = new Map();
  onconnectionstatechange = null;
  #transceivers = [];
  #ufrags = 0;
  #ufrag = "";

  constructor(configuration = {}) {
    this.configuration = configuration;
    FakePeerConnection.all.push(this);
  }

  setConfiguration(configuration) {
    if (this.signalingState === "closed") throw new DOMException("It is closed.", "InvalidStateError");
    this.configuration = configuration;
  }

  addTransceiver(trackOrKind, options) {
    const isKind = typeof trackOrKind === "string";
    const transceiver = new FakeTransceiver(isKind ? trackOrKind : trackOrKind.kind, isKind ? null : trackOrKind, options);
    this.#transceivers.push(transceiver);
    return transceiver;
  }

  getTransceivers() {
    return [...this.#transceivers];
  }

  async createOffer({ iceRestart = false } = {}) {
    this.#check();
    if (iceRestart || !this.#ufrag) {
      this.#ufrags += 1;
      this.#ufrag = `fake${this.#ufrags}`;
    }
    return { type: "offer", sdp: this.#offer() };
  }

  async setLocalDescription(description) {
    await FakePeerConnection.pause();
    this.#check();
    if (description.type === "rollback") {
      this.signalingState = "stable";
      return;
    }
    this.localDescription = description;
    this.signalingState = "have-local-offer";
    const lines = [...description.sdp.matchAll(/^a=mid:(.*)\r$/gm)];
    lines.forEach(([, mid], index) => (this.#transceivers[index].mid = mid));
  }

  async setRemoteDescription(description) {
    await FakePeerConnection.pause();
    this.#check();
    this.remoteDescription = description;
    this.signalingState = "stable";
    if (this.connectionState !== "connected") queueMicrotask(() => this.turn("connected"));
  }

  /** Becomes connected, disconnected or failed. */
  turn(state) {
    if (this.signalingState === "closed") return;
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  async getStats() {
    this.#check();
    return this.stats;
  }

  close() {
    this.signalingState = "closed";
    this.connectionState = "closed";
  }

  #check() {
    if (this.signalingState === "closed") throw new DOMException("It is closed.", "InvalidStateError");
  }

  #offer() {
    const mids = this.#transceivers.map((_, index) => String(index));
    const sections = this.#transceivers.map(({ kind, direction }, index) => {
      const [type, codec] = CODECS[kind];
      return [
        `m=${kind} 9 UDP/TLS/RTP/SAVPF ${type}`,
        "c=IN IP4 0.0.0.0",
        `a=ice-ufrag:${this.#ufrag}`,
        "a=ice-pwd:0123456789abcdef01234567",
        `a=fingerprint:sha-256 ${FINGERPRINT}`,
        "a=setup:actpass",
        `a=mid:${index}`,
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        `a=${direction}`,
        "a=rtcp-mux",
        `a=rtpmap:${type} ${codec}`,
      ];
    });
    const session = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", `a=group:BUNDLE ${mids.join(" ")}`];
    return [session, ...sections].flat().map((line) => `${line}\r\n`).join("");
  }
}

/** Events of the browser's window, `online` among them. */
export const browserWindow = new EventTarget();

/** Puts what the SDK needs of a browser in place. */
export function installFakes() {
  Object.assign(globalThis, {
    RTCPeerConnection: FakePeerConnection,
    RTCRtpReceiver: { getCapabilities: () => ({ codecs: [] }) },
    MediaStream: class {},
    document: { createElement: () => ({ play: async () => {} }) },
    addEventListener: browserWindow.addEventListener.bind(browserWindow),
    removeEventListener: browserWindow.removeEventListener.bind(browserWindow),
  });
}
