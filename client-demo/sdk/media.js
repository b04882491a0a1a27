/**
 * The media connection: one RTCPeerConnection, sendonly m-lines for what is published, recvonly
 * m-lines as slots for what is received. It makes offers, one at a time, hands each to `control`,
 * applies the answer, and mends the connection when it breaks: first an ICE restart, then a new
 * connection. Which remote track a slot shows is not known here.
 */

import { cameraEncodings, screenEncodings, sizeOf } from "./encodings.js";
import { asConfabError, ConfabError, Emitter } from "./events.js";
import { Hearing } from "./hearing.js";
import { withAudioNack, withStartBitrate } from "./sdp.js";
import { AudioDelays } from "./audio-delay.js";
import { connectionStats, isOverTcp } from "./stats.js";
import { WantedLayers } from "./wanted-layers.js";
import { isRelayOverTcp, reachedOver, UdpReturn, worksOverUdp } from "./udp-return.js";

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
/**
 * Until moving to TCP is tried again after it was in vain, milliseconds; twice as long after each time, up to
 * the longest. The server asks for it every half minute while UDP loses much.
 */
const MOVE_PAUSE_MS = 120_000;
const LONGEST_MOVE_PAUSE_MS = 1_800_000;
/** Longest wait between two attempts, milliseconds. */
const MAX_RETRY_MS = 8_000;
/** Between two looks at what the own network carries, milliseconds. */
const UPLINK_INTERVAL_MS = 1_000;
/**
 * For so long what the connection before has carried says what the next one will, milliseconds: longer, and
 * the network may be another.
 */
const CARRIED_COUNTS_MS = 60_000;
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
 * @property {(track: string) => Promise<unknown>} unpublish
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
 * An offer and its answer.
 * @typedef {object} Negotiation
 * @property {Purpose} purpose
 * @property {boolean} isNew Whether it is for a new connection; known once it has begun.
 * @property {boolean} isSearching Whether the search for ways has begun.
 * @property {boolean} isSent Whether the offer is on its way.
 * @property {boolean} isAnswered
 * @property {Promise<void>} done
 */

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
  #iceServersKnown;
  #resolveIceServers = () => {};
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
  /** The negotiation that has not begun yet, if any. @type {Negotiation | null} */
  #next = null;
  /** That which is under way, if any. @type {Negotiation | null} */
  #present = null;
  /** Publications whose track the server is told to forget as soon as it has named it. @type {Set<Publication>} */
  #withdrawn = new Set();
  /** What waits for the server to name its track. @type {Map<Publication, Promise<unknown>>} */
  #publishing = new Map();
  /** Whether UDP is not to be used although it works, because it loses too much. */
  #avoidsUdp = false;
  /** When leaving UDP may be tried again, and the pause after that. */
  #mayMoveAt = -Infinity;
  #movePauseMs = MOVE_PAUSE_MS;
  /** Whether the server knows the present RTCPeerConnection. */
  #answered = false;
  #connected = false;
  #attempts = 0;
  /** How often the connection was mended, or another path looked for: what was found out before is of the past. */
  searches = 0;
  #closed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;
  /** What could be sent at last, bits a second, and when that was. @type {{rate: number, at: number} | null} */
  #carried = null;
  #audioDelays = new AudioDelays({
    receivers: () => this.receivers().values(),
    wasOut: (ms) => this.#hearing.wasOut(ms),
  });
  #wantedLayers = new WantedLayers();
  #isPair = false;
  // A connection that has just been closed cannot be asked; the next one can.
  #uplinkTimer = setInterval(() => this.#lookAtUplink().catch(() => {}), UPLINK_INTERVAL_MS);
  #hearing = new Hearing({
    newest: () => this.#newestPacket(),
    onSilence: () => this.emit("silent", undefined),
  });
  #udpReturn = new UdpReturn({
    isDetour: () => this.#isDetour(),
    works: () => worksOverUdp(this.#allIceServers()),
    returnToUdp: () => this.seekPath(),
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
    this.#iceServersKnown = new Promise((resolve) => (this.#resolveIceServers = resolve));
  }

  /** Whether there is any way that media may go. */
  get hasPath() {
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
    this.#configure();
    this.#resolveIceServers();
    if (this.#pc && this.#connected) this.#restartRelayed(this.#pc).catch(() => {});
  }

  #configure() {
    try {
      this.#pc?.setConfiguration(this.#fullConfiguration());
    } catch {
      // The next connection has it.
    }
  }

  /** @param {RTCPeerConnection} pc */
  async #restartRelayed(pc) {
    const { localCandidateType } = connectionStats(await pc.getStats());
    if (localCandidateType !== "relay" || pc !== this.#pc || !this.#connected) return;
    this.seekPath();
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
  seekPath() {
    if (!this.#pc || this.#closed) return;
    this.#avoidUdp(false);
    // The server and we ourselves often notice at the same time. A search that has begun is of another
    // time, and perhaps of another network.
    if ([this.#next, this.#present].some((one) => one && one.purpose !== UPDATE && !one.isSearching)) return;
    console.info("confab: looking for another way");
    this.#attempt(RESTART);
  }

  /** The network is another, or has been away: what was in vain may work there. */
  handleNetworkChange() {
    this.#mayMoveAt = -Infinity;
    this.#movePauseMs = MOVE_PAUSE_MS;
    this.seekPath();
  }

  /** Leaves UDP, which works but loses too much, for TCP; if that does not work, all stays as it is. */
  async leaveUdp() {
    if (!this.#mayMove() || (await this.#isDetour()) || !this.#mayMove()) return;
    console.info("confab: UDP loses too much, trying TCP");
    this.#avoidUdp(true);
    const mayMoveAt = performance.now() + this.#movePauseMs;
    this.#mayMoveAt = mayMoveAt;
    this.#movePauseMs = Math.min(LONGEST_MOVE_PAUSE_MS, 2 * this.#movePauseMs);
    await this.negotiate(RESTART).catch((error) => console.warn("confab:", error.message));
    await new Promise((resolve) => setTimeout(resolve, MOVE_PATIENCE_MS));
    // It may have been given up meanwhile, and another begun.
    if (!this.#avoidsUdp || this.#closed || this.#mayMoveAt !== mayMoveAt) return;
    if (!(await this.#isDetour())) return this.seekPath();
    this.#mayMoveAt = -Infinity;
    this.#movePauseMs = MOVE_PAUSE_MS;
  }

  #mayMove() {
    return this.#connected && !this.#avoidsUdp && performance.now() >= this.#mayMoveAt;
  }

  /** @param {boolean} avoidsUdp */
  #avoidUdp(avoidsUdp) {
    if (avoidsUdp === this.#avoidsUdp) return;
    this.#avoidsUdp = avoidsUdp;
    this.#configure();
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
    /** @type {Negotiation} */
    const next = { purpose, isNew: false, isSearching: false, isSent: false, isAnswered: false, done: Promise.resolve() };
    const begin = async () => {
      this.#next = null;
      this.#present = next;
      try {
        await this.#exchange(next);
      } finally {
        this.#present = null;
      }
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
    const publishing = this.#publish(publication);
    this.#publishing.set(publication, publishing);
    try {
      await publishing;
    } catch (error) {
      void this.unpublish(publication).catch(() => {});
      throw asConfabError(error);
    } finally {
      this.#publishing.delete(publication);
    }
  }

  /** @param {Publication} publication */
  async #publish(publication) {
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
    await this.#wantedLayers.apply(publication);
    if (!this.publications.has(publication)) return;
    await idle.sender.replaceTrack(publication.track);
    const line = { mid: /** @type {string} */ (idle.mid), source: publication.source, name: publication.name };
    const { track } = await this.#control.publish(line);
    if (publication.transceiver === idle) this.#name(publication, track);
  }

  /**
   * Stops sending, and has the server forget the track, also one that it is about to hear of.
   * @param {Publication} publication
   * @returns {Promise<void>} Fulfilled when nothing is left of it.
   */
  async unpublish(publication) {
    if (!this.publications.delete(publication)) return;
    publication.transceiver?.sender.replaceTrack(null).catch(() => {});
    if (publication.id === null) {
      this.#withdrawn.add(publication);
      await Promise.allSettled([this.#present?.done, this.#publishing.get(publication)]);
      this.#withdrawn.delete(publication);
    }
    const { id } = publication;
    // What is published next may have the m-line: requests are carried out in their order.
    this.withdraw(publication);
    if (id !== null) await this.#control.unpublish(id);
  }

  /**
   * Stops sending what the server need not be told of; the m-line stays negotiated for the next
   * publication.
   * @param {Publication} publication
   */
  withdraw(publication) {
    this.publications.delete(publication);
    const { id, transceiver } = publication;
    if (id !== null) this.#wantedLayers.forget(id);
    publication.id = null;
    publication.transceiver = null;
    if (!transceiver) return;
    transceiver.sender.replaceTrack(null).catch(() => {});
    this.#idle.push(transceiver);
  }

  /**
   * Sends only those encodings of an own track that somebody receives.
   * @param {string} track
   * @param {boolean[]} encodings
   * @param {number} [bitrate] The most bits per second for one in a single encoding.
   */
  handleLayers(track, encodings, bitrate) {
    this.#wantedLayers.handleLayers(track, encodings, bitrate);
    for (const publication of this.publications) {
      if (publication.id === track) void this.#wantedLayers.apply(publication);
    }
  }

  /** @param {number} others How many there are beside oneself. */
  setOthers(others) {
    this.#isPair = others <= 1;
  }

  /** Has what is sent follow what the own network carries. */
  async #lookAtUplink() {
    const pc = this.#pc;
    const videos = [...this.publications].filter(({ kind }) => kind === "video");
    if (!pc || !this.#connected || videos.length === 0) return;
    const { availableOutgoingKbps } = connectionStats(await pc.getStats());
    if (pc !== this.#pc || !this.#connected) return;
    const available = availableOutgoingKbps === undefined ? undefined : 1_000 * availableOutgoingKbps;
    if (available !== undefined) this.#carried = { rate: available, at: performance.now() };
    this.#wantedLayers.setUplink({ available, isPair: this.#isPair });
    for (const publication of videos.filter(({ encodings }) => encodings.length > 1)) void this.#wantedLayers.apply(publication);
  }

  /**
   * A new connection begins with what the one before has carried.
   * @param {string} answer
   */
  #withRateOfBefore(answer) {
    const { rate, at } = this.#carried ?? { rate: 0, at: -Infinity };
    return performance.now() - at < CARRIED_COUNTS_MS ? withStartBitrate(answer, rate) : answer;
  }

  /** The server has lost the connection: begin anew, unless it is one that is being replaced already. */
  handleGone() {
    const isReplaced = this.#next?.purpose === FRESH || (this.#present?.isNew && !this.#present.isAnswered);
    if (!isReplaced) this.renew();
  }

  /** The server knows of no connection any more: begin anew. */
  renew() {
    for (const publication of this.publications) publication.id = null;
    this.#setConnected(false);
    // An offer of a new connection that is yet to be sent finds the server as it is.
    if (this.#present?.isNew && !this.#present.isSent) return;
    this.#recover(FRESH);
  }

  close() {
    this.#closed = true;
    this.#resolveIceServers();
    clearTimeout(this.#watchdog);
    clearInterval(this.#uplinkTimer);
    this.#audioDelays.close();
    this.#udpReturn.close();
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
    await this.#wantedLayers.apply(publication);
  }

  /** @param {Publication} publication */
  #takeIdle({ kind, encodings }) {
    const index = this.#idle.findIndex(({ mid, receiver, sender }) =>
      mid !== null && receiver.track.kind === kind && sender.getParameters().encodings.length === encodings.length);
    return index < 0 ? null : this.#idle.splice(index, 1)[0] ?? null;
  }

  /** @param {Negotiation} negotiation */
  async #exchange(negotiation) {
    this.#checkOpen();
    const { purpose } = negotiation;
    const newConnection = purpose === FRESH || !this.#answered;
    negotiation.isNew = newConnection;
    const pc = newConnection ? this.#open() : /** @type {RTCPeerConnection} */ (this.#pc);
    this.#addLines(pc);
    const offer = await pc.createOffer({ iceRestart: purpose === RESTART });
    // The search for ways begins with the local description. Nothing waits for its end: the server
    // learns our addresses from our checks.
    await this.#iceServersKnown;
    this.#checkOpen();
    negotiation.isSearching = true;
    try {
      await pc.setLocalDescription({ type: "offer", sdp: withAudioNack(offer.sdp ?? "") });
    } catch {
      await pc.setLocalDescription(offer);
    }
    this.#checkOpen();
    negotiation.isSent = true;
    const sdp = /** @type {RTCSessionDescription} */ (pc.localDescription).sdp;
    try {
      const answer = await this.#control.offer({ sdp, tracks: this.#lines(), newConnection, avoidUdp: this.#avoidsUdp });
      this.#checkOpen();
      negotiation.isAnswered = true;
      this.#nameOwnTracks(answer.tracks);
      await pc.setRemoteDescription({ type: "answer", sdp: newConnection ? this.#withRateOfBefore(answer.sdp) : answer.sdp });
      this.#checkOpen();
      this.#answered = true;
      for (const line of answer.refused ?? []) this.#dropRefused(line);
      this.emit("negotiated", undefined);
      if (!this.#connected) this.#watch(CONNECT_PATIENCE_MS);
    } catch (error) {
      // Without this the next offer would be refused as one too many.
      if (pc.signalingState === "have-local-offer") await pc.setLocalDescription({ type: "rollback" }).catch(() => {});
      const reason = asConfabError(error);
      if (LOST_CONNECTION.has(reason.code) && !newConnection) this.renew();
      throw reason;
    } finally {
      // Senders refuse changes that cross a negotiation.
      for (const publication of this.publications) void this.#wantedLayers.apply(publication);
    }
  }

  #checkOpen() {
    if (this.#closed) throw new ConfabError("closed", "The call has ended.");
  }

  #open() {
    const old = this.#pc;
    this.#avoidsUdp = false;
    const pc = new RTCPeerConnection(this.#fullConfiguration());
    this.#pc = pc;
    this.#answered = false;
    this.#idle = [];
    this.#slots = { audio: [], video: [] };
    this.#wantedLayers.clear();
    for (const publication of [...this.publications, ...this.#withdrawn]) {
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
    for (const publication of [...this.publications, ...this.#withdrawn]) {
      const own = tracks.find(({ mid }) => mid === publication.transceiver?.mid);
      if (own) publication.id = own.id;
    }
  }

  /**
   * The m-line is stopped; what is published next gets a new one.
   * @param {RefusedLine} line
   */
  #dropRefused({ mid, code, message }) {
    const all = [...this.publications, ...this.#withdrawn];
    const publication = all.find(({ transceiver }) => transceiver?.mid === mid);
    if (!publication) return;
    // The first of a bundle is not rejected, though nothing is taken from it.
    publication.transceiver?.stop();
    publication.transceiver = null;
    if (!this.publications.delete(publication)) return;
    this.emit("refused", { publication, error: new ConfabError(code, message) });
  }

  /**
   * @param {Publication} publication
   * @param {string} id
   */
  #name(publication, id) {
    publication.id = id;
    void this.#wantedLayers.apply(publication);
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
    if (this.#closed) return;
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
    if (this.#closed) return;
    // Where nothing gets through, what loses much is better than nothing.
    this.#avoidUdp(false);
    this.#attempts += 1;
    this.#attempt(purpose);
  }

  /** @param {Purpose} purpose */
  #attempt(purpose) {
    this.searches += 1;
    // Its answer is what is waited for from now on.
    clearTimeout(this.#watchdog);
    this.negotiate(purpose).catch((error) => {
      // While signaling is down its own recovery comes first, and then starts this one again.
      if (this.#closed || error.code === "session_lost") return;
      console.warn("confab:", error.message);
      if (!this.#connected) this.#watch(Math.min(MAX_RETRY_MS, 500 * 2 ** this.#attempts));
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
