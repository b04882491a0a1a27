/**
 * The media connection: one RTCPeerConnection, sendonly m-lines for what is published, recvonly
 * m-lines as slots for what is received. It makes offers, one at a time, hands each to `control`,
 * applies the answer, and mends the connection when it breaks: first an ICE restart, then a new
 * connection. Which remote track a slot shows is not known here.
 */

import { cameraEncodings, screenEncodings, sizeOf } from "./encodings.js";
import { asConfabError, ConfabError, Emitter } from "./events.js";
import { Hearing } from "./hearing.js";
import { SoundDelays } from "./sound-delay.js";
import { connectionStats, isOverTcp } from "./stats.js";
import { Thrift } from "./thrift.js";
import { isRelayOverTcp, reachedOver, WayBack, worksOverUdp } from "./way-back.js";

/** @import { Encoding } from "./encodings.js" */
/** @import { Answered, IceServersInfo, Kind, OwnTrack, PublishedLine, RefusedLine, Source } from "./types.js" */

/** Slots of each kind in the first offer, so that joining a small call takes one round trip. */
const FIRST_SLOTS = 4;
/** Slots are added in steps, so that a filling room costs few offers. */
const SLOT_STEP = 4;
/** Most slots of a kind: the server takes at most 64 m-lines. */
const MAX_SLOTS = 28;
/** `disconnected` often heals by itself; after this it is helped, milliseconds. */
const DISCONNECTED_PATIENCE_MS = 2_000;
/** An attempt that has not connected by then has failed, milliseconds. */
const CONNECT_PATIENCE_MS = 10_000;
/** Media goes over TCP by then, if it can, milliseconds. */
const MOVE_PATIENCE_MS = 12_000;
/** Longest wait between two attempts, milliseconds. */
const MAX_RETRY_MS = 8_000;
/** Between two looks at what the own network carries, milliseconds. */
const UPLINK_INTERVAL_MS = 1_000;
/** Refusals that mean: the server no longer has this connection. */
const LOST_CONNECTION = new Set(["unknown_peer", "worker_failed"]);

/**
 * One own track, published or about to be.
 * @typedef {object} Publication
 * @property {string | null} id The server's id; a new one after a new connection.
 * @property {Kind} kind
 * @property {Source} source
 * @property {string} [name]
 * @property {boolean} simulcast Whether it is sent in several sizes, if its picture is large enough.
 * @property {Encoding[]} encodings In which it is sent, as the SDK would have it.
 * @property {boolean} muted
 * @property {MediaStreamTrack | null} track Null while nothing is captured (camera off).
 * @property {RTCRtpTransceiver | null} transceiver
 */

/**
 * How to reach the server.
 * @typedef {object} Control
 * @property {(offer: Offer) => Promise<Answered>} offer
 * @property {(line: PublishedLine) => Promise<{track: string}>} publish
 */

/** @typedef {{sdp: string, tracks: PublishedLine[], newConnection: boolean, avoidUdp: boolean}} Offer */

/**
 * What a negotiation is for, weakest first: new m-lines, an ICE restart, a new connection.
 * @typedef {0 | 1 | 2} Purpose
 */
export const UPDATE = 0;
export const RESTART = 1;
export const FRESH = 2;

/**
 * @typedef {object} MediaEvents
 * @property {undefined} negotiated An answer has been applied; there may be new slots.
 * @property {boolean} connected Whether media can flow.
 * @property {undefined} silent Nothing is received any more that was received all the time.
 * @property {Refusal} refused An own track is not sent: it is no publication any more.
 * @property {ConfabError} error
 */

/**
 * An own track that the server does not take, and why.
 * @typedef {{publication: Publication, error: ConfabError}} Refusal
 */

/** @extends {Emitter<MediaEvents>} */
export class Media extends Emitter {
  #control;
  #configuration;
  /** The server's, beside those of the configuration. @type {IceServersInfo["ice_servers"]} */
  #iceServers = [];
  /** Fulfilled when they are known: the first connection tries every way from the start. @type {Promise<void>} */
  #told;
  #tell = () => {};
  /** @type {RTCPeerConnection | null} */
  #pc = null;
  /** @type {Set<Publication>} */
  publications = new Set();
  /** Negotiated sending m-lines that publish nothing now. @type {RTCRtpTransceiver[]} */
  #idle = [];
  /** @type {Record<Kind, RTCRtpTransceiver[]>} */
  #slots = { audio: [], video: [] };
  /** @type {Record<Kind, number>} */
  #slotsWanted = { audio: FIRST_SLOTS, video: FIRST_SLOTS };
  /** @type {Promise<void>} */
  #last = Promise.resolve();
  /** The negotiation that has not begun yet, if any. @type {{purpose: Purpose, done: Promise<void>} | null} */
  #next = null;
  /** Whether UDP is not to be used although it works, because it loses too much. */
  #avoidsUdp = false;
  /** Whether an offer that looks for another way is to come: what is asked for until then, it does. */
  #isSeeking = false;
  /** Whether the server knows the present RTCPeerConnection. */
  #answered = false;
  #connected = false;
  #attempts = 0;
  #closed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;
  #soundDelays = new SoundDelays({
    receivers: () => this.receivers().values(),
    wasOut: (ms) => this.#hearing.wasOut(ms),
  });
  #thrift = new Thrift();
  #isPair = false;
  #uplinkTimer = setInterval(() => void this.#lookAtUplink(), UPLINK_INTERVAL_MS);
  #hearing = new Hearing({
    newest: () => this.#newestPacket(),
    onSilence: () => this.emit("silent", undefined),
  });
  #wayBack = new WayBack({
    isDetour: () => this.#isDetour(),
    works: () => worksOverUdp(this.#allIceServers()),
    goBack: () => this.seekWay(),
  });

  /**
   * @param {Control} control
   * @param {RTCConfiguration} [configuration]
   */
  constructor(control, configuration = {}) {
    super();
    this.#control = control;
    /** @type {RTCConfiguration} */
    this.#configuration = { bundlePolicy: "max-bundle", ...configuration };
    this.#told = new Promise((resolve) => (this.#tell = resolve));
  }

  /** Whether there is any way that media may go. */
  get hasWay() {
    const { iceServers = [], iceTransportPolicy } = this.#fullConfiguration();
    return iceTransportPolicy !== "relay" || iceServers.length > 0;
  }

  /**
   * Takes over what takes media past firewalls. Connections use it when they look for a way, and one
   * that goes through a relay now looks at once: the relay ends with the credentials of before.
   * @param {IceServersInfo["ice_servers"]} servers
   */
  setIceServers(servers) {
    this.#iceServers = servers;
    const pc = this.#pc;
    try {
      pc?.setConfiguration(this.#fullConfiguration());
    } catch {
      // The next connection has them.
    }
    this.#tell();
    if (pc && this.#connected) void this.#restartRelayed(pc);
  }

  /** @param {RTCPeerConnection} pc */
  async #restartRelayed(pc) {
    const { localCandidateType } = connectionStats(await pc.getStats());
    if (localCandidateType !== "relay" || pc !== this.#pc || !this.#connected) return;
    this.seekWay();
  }

  /** Whether nothing is received any more that was received all the time, and the network may be gone. */
  get isSilent() {
    return this.#hearing.isSilent;
  }

  /** The server was asked whether the network is gone, and was heard. */
  handleAnswer() {
    this.#hearing.handleAnswer();
  }

  #newestPacket() {
    const sources = [...this.receivers().values()].flatMap((receiver) => receiver.getSynchronizationSources());
    return Math.max(0, ...sources.map(({ timestamp }) => timestamp));
  }

  /** Looks for the best way anew; the one that media goes now is kept until another works. */
  seekWay() {
    // The server and we ourselves often notice at the same time.
    if (!this.#connected || this.#isSeeking) return;
    console.info("confab: looking for another way");
    this.#avoidUdp(false);
    this.#isSeeking = true;
    this.negotiate(RESTART)
      .catch((error) => console.warn("confab:", error.message))
      .finally(() => (this.#isSeeking = false));
  }

  /** Leaves UDP, which works but loses too much, for TCP; if that does not work, all stays as it is. */
  async leaveUdp() {
    if (!this.#connected || this.#avoidsUdp || await this.#isDetour()) return;
    console.info("confab: UDP loses too much, trying TCP");
    this.#avoidUdp(true);
    await this.negotiate(RESTART).catch((error) => console.warn("confab:", error.message));
    await new Promise((resolve) => setTimeout(resolve, MOVE_PATIENCE_MS));
    if (this.#isAvoidingInVain() && !(await this.#isDetour())) this.seekWay();
  }

  /** What has been avoided for so long may have been given up meanwhile. */
  #isAvoidingInVain() {
    return this.#avoidsUdp && !this.#closed;
  }

  /** @param {boolean} avoidsUdp */
  #avoidUdp(avoidsUdp) {
    if (avoidsUdp === this.#avoidsUdp) return;
    this.#avoidsUdp = avoidsUdp;
    this.#pc?.setConfiguration(this.#fullConfiguration());
  }

  /** Whether media goes over TCP. */
  async #isDetour() {
    return this.#connected && isOverTcp(connectionStats(await this.#pc?.getStats() ?? new Map()));
  }

  #allIceServers() {
    return [...(this.#configuration.iceServers ?? []), ...this.#iceServers];
  }

  /** @returns {RTCConfiguration} */
  #fullConfiguration() {
    if (this.#avoidsUdp) {
      return { ...this.#configuration, iceServers: reachedOver(isRelayOverTcp, this.#allIceServers()) };
    }
    const isRelayedOnly = this.#configuration.iceTransportPolicy === "relay";
    // Chromium would go through those even where it can go directly.
    const iceServers = this.#allIceServers().filter((server) => isRelayedOnly || !("at_media_port" in server));
    return { ...this.#configuration, iceServers };
  }

  get isConnected() {
    return this.#connected;
  }

  get peerConnection() {
    return this.#pc;
  }

  /** The slots that have been negotiated, by mid. */
  receivers() {
    /** @type {Map<string, RTCRtpReceiver>} */
    const receivers = new Map();
    for (const { mid, receiver } of [...this.#slots.audio, ...this.#slots.video]) {
      if (mid !== null) receivers.set(mid, receiver);
    }
    return receivers;
  }

  /**
   * Makes an offer when those before it are done. Calls that come meanwhile share one offer.
   * @param {Purpose} purpose
   * @returns {Promise<void>} Fulfilled when the answer is applied.
   */
  negotiate(purpose) {
    if (this.#next) {
      if (purpose > this.#next.purpose) this.#next.purpose = purpose;
      return this.#next.done;
    }
    const next = { purpose, done: Promise.resolve() };
    const begin = () => {
      this.#next = null;
      return this.#exchange(next.purpose);
    };
    next.done = this.#last.then(begin, begin);
    this.#next = next;
    this.#last = next.done;
    return next.done;
  }

  /**
   * Sees to it that there are slots for so many remote tracks.
   * @param {Kind} kind
   * @param {number} tracks
   */
  async reserve(kind, tracks) {
    const wanted = Math.min(MAX_SLOTS, Math.ceil(tracks / SLOT_STEP) * SLOT_STEP);
    if (wanted <= this.#slotsWanted[kind]) return;
    this.#slotsWanted[kind] = wanted;
    await this.negotiate(UPDATE);
  }

  /**
   * Publishes a track on an idle m-line if there is one, else on a new one.
   * @param {Publication} publication
   */
  async publish(publication) {
    this.publications.add(publication);
    try {
      publication.encodings = encodingsOf(publication);
      const idle = this.#takeIdle(publication);
      if (!idle) {
        /** @type {ConfabError | undefined} */
        let refusal;
        const undo = this.on("refused", (refused) => {
          if (refused.publication === publication) refusal = refused.error;
        });
        await this.negotiate(UPDATE).finally(undo);
        if (refusal) throw refusal;
        return;
      }
      publication.transceiver = idle;
      // What nobody received of the last publication must not be missing from this one.
      await this.#thrift.apply(publication);
      await idle.sender.replaceTrack(publication.track);
      const line = { mid: /** @type {string} */ (idle.mid), source: publication.source, name: publication.name };
      const { track } = await this.#control.publish(line);
      if (publication.transceiver === idle) this.#name(publication, track);
    } catch (error) {
      this.withdraw(publication);
      throw asConfabError(error);
    }
  }

  /**
   * Stops sending; the m-line stays negotiated for the next publication.
   * @param {Publication} publication
   */
  withdraw(publication) {
    this.publications.delete(publication);
    const { id, transceiver } = publication;
    if (id !== null) this.#thrift.forget(id);
    publication.transceiver = null;
    if (!transceiver) return;
    transceiver.sender.replaceTrack(null).catch(() => {});
    this.#idle.push(transceiver);
  }

  /**
   * Sends only those encodings of an own track that somebody receives.
   * @param {string} track
   * @param {boolean[]} encodings
   */
  handleLayers(track, encodings) {
    this.#thrift.handleLayers(track, encodings);
    for (const publication of this.publications) {
      if (publication.id === track) void this.#thrift.apply(publication);
    }
  }

  /** @param {number} others How many there are beside oneself. */
  setOthers(others) {
    this.#isPair = others <= 1;
  }

  /** Has what is sent follow what the own network carries. */
  async #lookAtUplink() {
    const pc = this.#pc;
    const layered = [...this.publications].filter(({ encodings }) => encodings.length > 1);
    if (!pc || !this.#connected || layered.length === 0) return;
    const { availableOutgoingKbps } = connectionStats(await pc.getStats());
    if (pc !== this.#pc) return;
    const available = availableOutgoingKbps === undefined ? undefined : 1_000 * availableOutgoingKbps;
    this.#thrift.setUplink({ available, isPair: this.#isPair });
    for (const publication of layered) void this.#thrift.apply(publication);
  }

  /** The server has lost the connection, or the network has: begin anew. */
  renew() {
    this.#setConnected(false);
    this.#recover(FRESH);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#watchdog);
    clearInterval(this.#uplinkTimer);
    this.#soundDelays.close();
    this.#wayBack.close();
    this.#hearing.close();
    this.#pc?.close();
    this.#setConnected(false);
  }

  /**
   * Sends another track in place of the present one, or none.
   * @param {Publication} publication
   * @param {MediaStreamTrack | null} track
   */
  async replaceTrack(publication, track) {
    publication.track = track;
    // As many as before: how many there are has been negotiated.
    if (track) publication.encodings = encodingsOf(publication, publication.encodings.length);
    await publication.transceiver?.sender.replaceTrack(track);
    await this.#thrift.apply(publication);
  }

  /** @param {Publication} publication */
  #takeIdle({ kind, encodings }) {
    const index = this.#idle.findIndex(({ mid, receiver, sender }) =>
      mid !== null && receiver.track.kind === kind && sender.getParameters().encodings.length === encodings.length);
    return index < 0 ? null : this.#idle.splice(index, 1)[0] ?? null;
  }

  /** @param {Purpose} purpose */
  async #exchange(purpose) {
    if (this.#closed) return;
    const newConnection = purpose === FRESH || !this.#answered;
    const pc = newConnection ? this.#open() : /** @type {RTCPeerConnection} */ (this.#pc);
    this.#addLines(pc);
    const offer = await pc.createOffer({ iceRestart: purpose === RESTART });
    // The search for ways begins with the local description. Nothing waits for its end: the server
    // learns our addresses from our checks.
    await this.#told;
    if (this.#closed) return;
    try {
      await pc.setLocalDescription({ type: "offer", sdp: withAudioNack(offer.sdp ?? "") });
    } catch {
      await pc.setLocalDescription(offer);
    }
    if (purpose !== UPDATE) this.#isSeeking = false;
    const sdp = /** @type {RTCSessionDescription} */ (pc.localDescription).sdp;
    try {
      const answer = await this.#control.offer({ sdp, tracks: this.#lines(), newConnection, avoidUdp: this.#avoidsUdp });
      if (this.#closed) return;
      await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      this.#answered = true;
      this.#nameOwnTracks(answer.tracks);
      for (const line of answer.refused ?? []) this.#dropRefused(line);
      this.emit("negotiated", undefined);
      if (!this.#connected) this.#watch(CONNECT_PATIENCE_MS);
    } catch (error) {
      // Without this the next offer would be refused as one too many.
      if (pc.signalingState === "have-local-offer") await pc.setLocalDescription({ type: "rollback" });
      const reason = asConfabError(error);
      if (LOST_CONNECTION.has(reason.code) && !newConnection) this.renew();
      throw reason;
    } finally {
      // Senders refuse changes that cross a negotiation.
      for (const publication of this.publications) void this.#thrift.apply(publication);
    }
  }

  #open() {
    const old = this.#pc;
    this.#avoidsUdp = false;
    const pc = new RTCPeerConnection(this.#fullConfiguration());
    this.#pc = pc;
    this.#answered = false;
    this.#idle = [];
    this.#slots = { audio: [], video: [] };
    this.#thrift.clear();
    for (const publication of this.publications) {
      publication.transceiver = null;
      publication.id = null;
    }
    old?.close();
    pc.onconnectionstatechange = () => {
      if (pc === this.#pc) this.#handleConnectionState(pc.connectionState);
    };
    return pc;
  }

  /** @param {RTCPeerConnection} pc */
  #addLines(pc) {
    for (const publication of this.publications) {
      if (publication.transceiver) continue;
      publication.encodings = encodingsOf(publication);
      publication.transceiver = pc.addTransceiver(publication.track ?? publication.kind, {
        direction: "sendonly",
        sendEncodings: publication.encodings,
      });
    }
    for (const kind of /** @type {Kind[]} */ (["audio", "video"])) {
      const slots = this.#slots[kind];
      while (slots.length < this.#slotsWanted[kind]) {
        const slot = pc.addTransceiver(kind, { direction: "recvonly" });
        slot.setCodecPreferences(slotCodecs(kind));
        slots.push(slot);
      }
    }
  }

  /** @returns {PublishedLine[]} */
  #lines() {
    return [...this.publications].flatMap(({ transceiver, source, name }) =>
      transceiver?.mid ? [{ mid: transceiver.mid, source, name }] : []);
  }

  /** @param {OwnTrack[]} tracks */
  #nameOwnTracks(tracks) {
    for (const publication of this.publications) {
      const own = tracks.find(({ mid }) => mid === publication.transceiver?.mid);
      if (own) publication.id = own.id;
    }
  }

  /**
   * The m-line is stopped; what is published next gets a new one.
   * @param {RefusedLine} line
   */
  #dropRefused({ mid, code, message }) {
    const publication = [...this.publications].find(({ transceiver }) => transceiver?.mid === mid);
    if (!publication) return;
    this.publications.delete(publication);
    // The first of a bundle is not rejected, though nothing is taken from it.
    publication.transceiver?.stop();
    publication.transceiver = null;
    this.emit("refused", { publication, error: new ConfabError(code, message) });
  }

  /**
   * @param {Publication} publication
   * @param {string} id
   */
  #name(publication, id) {
    publication.id = id;
    void this.#thrift.apply(publication);
  }

  /** @param {RTCPeerConnectionState} state */
  #handleConnectionState(state) {
    if (this.#closed) return;
    if (state === "connected") {
      clearTimeout(this.#watchdog);
      this.#attempts = 0;
      this.#setConnected(true);
    } else if (state === "disconnected") {
      this.#setConnected(false);
      this.#watch(DISCONNECTED_PATIENCE_MS);
    } else if (state === "failed") {
      this.#handleFailure();
    }
  }

  /** @param {number} patienceMs */
  #watch(patienceMs) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#handleFailure(), patienceMs);
  }

  #handleFailure() {
    if (this.#closed) return;
    this.#setConnected(false);
    if (this.#attempts > 0) {
      const message = this.#iceServers.length > 0
        ? "No media connection to the server, not even through its relay: a firewall may be blocking both. Still trying."
        : "No media connection to the server: a firewall may be blocking UDP. Still trying.";
      this.emit("error", new ConfabError("media_failed", message));
    }
    this.#recover(this.#attempts === 0 ? RESTART : FRESH);
  }

  /** @param {Purpose} purpose */
  #recover(purpose) {
    clearTimeout(this.#watchdog);
    this.#attempts += 1;
    this.negotiate(purpose).catch((error) => {
      // While signaling is down its own recovery comes first, and then starts this one again.
      if (this.#closed || this.#connected || error.code === "session_lost") return;
      this.#watch(Math.min(MAX_RETRY_MS, 500 * 2 ** this.#attempts));
    });
  }

  /** @param {boolean} connected */
  #setConnected(connected) {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.emit("connected", connected);
  }
}

/**
 * @param {Publication} publication
 * @param {number} [count] How many have been negotiated.
 */
function encodingsOf({ source, simulcast, track }, count) {
  if (simulcast) return cameraEncodings(sizeOf(track), count);
  return source === "screen" ? screenEncodings() : [{}];
}

/**
 * Has published sound sent again when it is asked for. Chromium can, and offers it to nobody; there is
 * no other way to tell it. Slots go without: what they are sent is protected in advance.
 * @param {string} sdp
 */
function withAudioNack(sdp) {
  const sections = sdp.split(/^(?=m=)/m).map((section) => {
    const opus = /^a=rtpmap:(\d+) opus\//m.exec(section)?.[1];
    const isPublished = /^a=send(only|recv)\r?$/m.test(section);
    if (!opus || !section.startsWith("m=audio") || !isPublished) return section;
    if (new RegExp(`^a=rtcp-fb:(${opus}|\\*) nack\\r?$`, "m").test(section)) return section;
    return section.replace(new RegExp(`^a=rtpmap:${opus} .*\\r\\n`, "m"), `$&a=rtcp-fb:${opus} nack\r\n`);
  });
  return sections.join("");
}

/**
 * What a slot needs to be able to show. Every codec a browser knows, times every slot, would make
 * an offer of a large room several times as long.
 * @param {Kind} kind
 */
function slotCodecs(kind) {
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  return codecs.filter(({ mimeType, sdpFmtpLine = "" }) => {
    switch (mimeType.split("/")[1]?.toLowerCase()) {
      case "vp9":
        return !/profile-id=[1-3]/.test(sdpFmtpLine);
      case "h264":
        return sdpFmtpLine.includes("packetization-mode=1");
      case "opus":
      case "pcmu":
      case "pcma":
      case "g722":
      case "vp8":
      case "av1":
      case "h265":
      case "rtx":
      case "red":
      case "ulpfec":
      case "flexfec-03":
        return true;
      default:
        return false;
    }
  });
}
