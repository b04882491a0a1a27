/**
 * Confab's web SDK: join a room, publish tracks, receive the others'.
 *
 *     import { Confab } from "/sdk/confab.js";
 *     const capture = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
 *     const call = await Confab.join({ room: "kitchen", name: "Ada", tracks: capture.getTracks() });
 *     call.on("track", ({ track }) => show(track.mediaStreamTrack));
 *     call.view(track.id, videoElement); // optional: no more is sent than is seen
 *
 * No dependency, no build step. The call mends itself: a lost socket is resumed, a lost media
 * connection is restarted, a restarted server is joined again.
 */

import { signalingUrl } from "./address.js";
import { suitsSimulcast } from "./encodings.js";
import { asConfabError, ConfabError, Emitter } from "./events.js";
import { FirstFrame } from "./first-frame.js";
import { IceServers } from "./ice-servers.js";
import { FRESH, Media } from "./media.js";
import { PASSING_CODES, Signal } from "./signal.js";
import { Slots } from "./slots.js";
import { StatsReader } from "./stats.js";
import { isSteady } from "./steady.js";
import { ViewReports } from "./view-reports.js";

/** @import { Answered, IceServersInfo, Joined, Kind, ParticipantInfo, Permissions, PublishedLine, Quality, Reason, ServerEvent, Source, TrackInfo } from "./types.js" */
/** @import { Offer, Publication, Refusal } from "./media.js" */
/** @import { CallStats } from "./stats.js" */

export { ConfabError, signalingUrl };

/** So long without the server, milliseconds, and the user is told. */
const SERVER_GONE_MS = 10_000;
/**
 * So often in a row `start` waits for so long, where packets are lost. Where the network says that nobody is
 * there, once is enough.
 */
const START_PATIENCE = 6;
/** How long `leave` waits for the server's reply, milliseconds. */
const LEAVE_PATIENCE_MS = 1_000;
/**
 * So many pings in a row, with a pause between them, milliseconds, find out whether TCP loses packets. With
 * a quarter of them lost in each direction all are answered at once one time in ten thousand.
 */
const STEADY_PINGS = 16;
const PING_PAUSE_MS = 150;

/**
 * @typedef {object} JoinOptions
 * @property {string} room
 * @property {string} [name] How the others see you. Who has no name and publishes nothing is a viewer,
 *   whom they only count; a name in the token counts.
 * @property {string} [url] The server: `https://call.example.org`, or with `http`, `ws` or `wss`; with a
 *   path that ends in `/` the server is below it, any other path is that of its WebSocket. By default
 *   the server that this file is from, or, if it is not from a server's `/sdk/`, the page's.
 * @property {string} [token]
 * @property {() => string | Promise<string>} [getToken] Asked for another token, for the same identity and
 *   room, before the present one ends, and when it has been refused. Without it a call ends with its token
 *   (`token_expired`).
 * @property {MediaStreamTrack[]} [tracks] Published from the start: audio as `microphone`, video
 *   as `camera`. With a token that does not allow to publish they are not: see `call.permissions`.
 * @property {boolean} [simulcast] Whether those video tracks are sent in several sizes, of which each
 *   receiver gets the one that it shows and that its network carries; by default they are.
 * @property {RTCIceTransportPolicy} [iceTransportPolicy] With `relay`, media goes through the
 *   server's TURN relay only; by default wherever it gets through best.
 * @property {RTCConfiguration} [rtcConfiguration] The server's relay is added to its `iceServers`.
 */

/**
 * Why the server sends nothing of a picture: for programs, and in a sentence for the user.
 * @typedef {{reason: Reason, message: string}} Pause
 */

/**
 * A track of another participant.
 * @typedef {TrackInfo & {
 *   participant: string,
 *   mediaStreamTrack: MediaStreamTrack | null,
 *   paused: Pause | null,
 * }} RemoteTrack
 */

/**
 * Another participant.
 * @typedef {object} Participant
 * @property {string} id
 * @property {string} name
 * @property {string} [identity] Who it is: the `sub` of its access token. One may be there more than
 *   once, as with two devices.
 * @property {string} [metadata] What the application has put into its access token.
 * @property {boolean} unreachable Whether the server hears nothing of it: its network may be away, and it may
 *   come back.
 * @property {Map<string, RemoteTrack>} tracks
 */

/** @typedef {"connecting" | "connected" | "reconnecting" | "closed"} CallState */

/**
 * @typedef {object} CallEvents
 * @property {{participant: Participant}} participant Somebody came.
 * @property {{participant: Participant, reason: string}} participantleft It is gone, or only watches
 *   from now on (`watching`). After the server has lost the session everybody is `gone`, and who is there
 *   comes anew.
 * @property {{participant: Participant}} unreachable Its `unreachable` has changed.
 * @property {{count: number}} viewers How many only watch and have no name has changed.
 * @property {{participant: Participant, track: RemoteTrack}} track A remote track can be shown:
 *   its `mediaStreamTrack` is set, or is another one than before.
 * @property {{participant: Participant, track: RemoteTrack}} trackended It is gone, or has lost
 *   its slot to another track.
 * @property {{participant: Participant, track: RemoteTrack}} mute
 * @property {{participant: Participant, track: RemoteTrack}} pause Its `paused` has changed: the
 *   server stops sending this picture or audio, or goes on. Without bandwidth for all, the most important
 *   pictures stay; what this browser cannot receive is paused with reason `codec`.
 * @property {{id: string | null}} dominantspeaker Somebody else has the floor, perhaps oneself.
 * @property {{message: string, inMs: number}} stopping The server stops once everybody has left, in
 *   `inMs` milliseconds at the latest. Afterwards the call goes on trying to come back.
 * @property {{inMs: number}} tokenexpires The access token ends in `inMs` milliseconds, and the call with it
 *   unless `getToken`, which is asked at the same time, gives another one. Told a minute before.
 * @property {Refusal} refused The server does not take an own track, of which it has no codec for
 *   instance. It is no publication any more; the others are sent. Also in `call.refused`.
 * @property {{state: CallState, signaling: boolean, media: boolean}} state Whether the server hears what
 *   is asked of it, and whether pictures and audio get through.
 * @property {{error: ConfabError, fatal: boolean}} error With `fatal` the call has ended;
 *   otherwise it goes on trying.
 */

/** @extends {Emitter<CallEvents>} */
export class Call extends Emitter {
  /** The others, by id. @type {Map<string, Participant>} */
  participants = new Map();
  /** The own participant id. */
  id = "";
  /** The own identity and metadata, as the token says. @type {{identity?: string, metadata?: string}} */
  self = {};
  /**
   * What the token allows, known once joined. Without `publish` one only watches: nothing of `tracks` is
   * published, `publications` is empty, and `publish` rejects. Without `subscribe` nothing of the others
   * is received.
   * @type {Permissions}
   */
  permissions = { publish: true, subscribe: true };
  /** How many only watch and have no name, oneself included if one does. */
  viewers = 0;
  /** Who has the floor, perhaps oneself; in silence who had it last. @type {string | null} */
  dominantSpeaker = null;
  /** Own tracks that the server did not take, since joining. @type {Refusal[]} */
  refused = [];
  /** @type {CallState} */
  state = "connecting";
  #options;
  #signal;
  #media;
  #iceServers = new IceServers({
    ask: () => this.#signal.request("ice_servers", {}),
    take: (servers) => this.#media.setIceServers(servers),
  });
  #statsReader = new StatsReader();
  #joined = false;
  /** Whether the server has known us before; if it does not any more, it has to be told all anew. */
  #hadSession = false;
  /** @type {Promise<void> | null} */
  #leaving = null;
  #wasConnected = false;
  /** Whether the server has said that it stops. */
  #isStopping = false;
  #slots = new Slots({
    receivers: () => this.#media.receivers(),
    find: (id) => this.#remoteTrack(id),
    onShown: (track) => {
      if (track.kind === "video" && track.mediaStreamTrack) this.#firstFrame.watch(track.mediaStreamTrack);
      this.emit("track", { participant: this.#senderOf(track), track });
    },
    onHidden: (track) => this.emit("trackended", { participant: this.#senderOf(track), track }),
    onPause: (track) => this.emit("pause", { participant: this.#senderOf(track), track }),
  });
  #views = new ViewReports({
    slots: () => this.#slots.shownByMid(),
    send: (slots) => this.#signal.request("view", { slots }),
  });
  #firstFrame = new FirstFrame();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #goneTimer;
  /** How often the server was waited for in vain since it was last there. */
  #missed = 0;
  #isStarted = false;
  #fail = /** @type {(reason: ConfabError) => void} */ (() => {});
  /** Rejects when the call ends. @type {Promise<never>} */
  #ended = new Promise((_, reject) => (this.#fail = reject));
  #onPageHide = () => void this.leave();

  /**
   * Use `Confab.join`.
   * @param {JoinOptions} options
   */
  constructor(options) {
    super();
    this.#ended.catch(() => {});
    this.#options = options;
    this.#signal = new Signal({ url: signalingUrl(options.url), token: options.token, getToken: options.getToken });
    this.#media = new Media(
      {
        offer: (offer) => this.#sendOffer(offer),
        publish: (line) => this.#signal.request("publish", line),
        unpublish: (track) => this.#signal.request("unpublish", { track }),
      },
      { ...options.rtcConfiguration, ...(options.iceTransportPolicy && { iceTransportPolicy: options.iceTransportPolicy }) },
    );
    for (const track of options.tracks ?? []) {
      const video = track.kind === "video";
      const source = video ? "camera" : "microphone";
      this.#media.publications.add(newPublication(track, { source, simulcast: options.simulcast }));
    }
    this.#signal.on("open", ({ resumed, relay }) => this.#handleOpen(resumed, relay));
    this.#signal.on("heard", () => this.#media.handleAnswer());
    this.#signal.on("lost", () => this.#handleLost());
    // A bad link lets the welcome wait; a server that is not there opens no socket.
    this.#signal.on("contact", () => {
      this.#missed = 0;
      this.#waitForContact();
    });
    this.#signal.on("closed", (reason) => this.#end(reason));
    this.#signal.on("stopping", (stopping) => this.#handleStopping(stopping));
    this.#signal.on("tokenexpires", (ending) => this.emit("tokenexpires", ending));
    this.#signal.on("event", (event) => this.#handleEvent(event));
    this.#media.on("negotiated", () => this.#showTracks());
    this.#media.on("connected", () => this.#updateState());
    this.#media.on("silent", () => {
      this.#signal.check();
      this.#updateState();
    });
    this.#media.on("refused", (refusal) => {
      this.refused.push(refusal);
      this.emit("refused", refusal);
    });
    this.#media.on("error", (error) => this.#report(error));
  }

  /** The own tracks. @returns {Publication[]} */
  get publications() {
    return [...this.#media.publications];
  }

  /** For diagnosis; replaced when the connection is. */
  get peerConnection() {
    return this.#media.peerConnection;
  }

  /**
   * Connects and joins; `Confab.join` calls it.
   * @returns {Promise<void>} Rejects, and ends the call, when the server refuses or is not there.
   */
  async start() {
    globalThis.addEventListener?.("pagehide", this.#onPageHide);
    this.#waitForContact();
    this.#updateState();
    try {
      this.#signal.start();
      await Promise.race([this.#join(), this.#ended]);
      this.#isStarted = true;
    } catch (error) {
      const reason = asConfabError(error);
      this.#end(reason);
      throw reason;
    }
  }

  /** A server that has lost the session meanwhile is asked again. */
  async #join() {
    for (;;) {
      try {
        return await this.#media.negotiate(FRESH);
      } catch (error) {
        if (asConfabError(error).code !== "session_lost") throw error;
      }
    }
  }

  /**
   * Publishes a track.
   * @param {MediaStreamTrack} track
   * @param {{source: Source, name?: string, simulcast?: boolean}} options By default a camera is sent in
   *   several sizes, and anything else in one.
   * @returns {Promise<Publication>} Rejects when the server does not take it, and with `not_allowed` if
   *   the token does not allow it.
   */
  async publish(track, options) {
    if (!this.permissions.publish) {
      throw new ConfabError("not_allowed", "The access token does not allow to publish: you can only watch.");
    }
    const publication = newPublication(track, options);
    await this.#media.publish(publication);
    if (publication.muted) await this.setMuted(publication, true);
    return publication;
  }

  /**
   * Withdraws a track. The MediaStreamTrack itself is not stopped.
   * @param {Publication} publication
   */
  async unpublish(publication) {
    await this.#media.unpublish(publication);
  }

  /**
   * Sends another track of the same kind in its place, or, with null, nothing for now. Nothing is
   * negotiated, so that the others see and hear no gap.
   * @param {Publication} publication
   * @param {MediaStreamTrack | null} track
   */
  async replaceTrack(publication, track) {
    if (track) track.enabled = !publication.muted;
    await this.#media.replaceTrack(publication, track);
  }

  /**
   * Silences or blanks an own track at once, and tells the others. The device stays open: to turn
   * a camera's light off, stop the track and replace it with null.
   * @param {Publication} publication
   * @param {boolean} muted
   */
  async setMuted(publication, muted) {
    publication.muted = muted;
    if (publication.track) publication.track.enabled = !muted;
    if (publication.id !== null) await this.#signal.request("mute", { track: publication.id, muted });
  }

  /**
   * Makes sure that a remote track has a slot and keeps it.
   * @param {string} trackId
   */
  async pin(trackId) {
    if (!this.permissions.subscribe) {
      throw new ConfabError("not_allowed", "The access token does not allow to receive anything.");
    }
    const track = this.#remoteTrack(trackId);
    if (!track) throw new ConfabError("unknown_track", `There is no remote track ${trackId}.`);
    const mid = this.#slots.slotOf(trackId) ?? this.#slots.lastOf(track.kind);
    if (mid === undefined) throw new ConfabError("no_slot", "There is no slot to pin this track to yet.");
    await this.#signal.request("subscribe", { mid, track: trackId }, ({ track }) => this.#assign(mid, track));
  }

  /**
   * Lets the server use a pinned track's slot as it sees fit.
   * @param {string} trackId
   */
  async unpin(trackId) {
    const mid = this.#slots.slotOf(trackId);
    if (mid === undefined) return;
    await this.#signal.request("subscribe", { mid, auto: true }, ({ track }) => this.#assign(mid, track));
  }

  /**
   * Says which element shows a remote picture. From then on its size and visibility are watched, and
   * the server sends no more than is seen: a smaller encoding for a small picture, nothing for one that
   * is scrolled away or in a hidden tab. To be called again when another element shows the track; a
   * track of which nothing was said comes as good as it can.
   * @param {string} trackId
   * @param {HTMLVideoElement | null} element Null if it is shown nowhere. Setting its `srcObject`
   *   stays the caller's.
   */
  view(trackId, element) {
    if (this.#remoteTrack(trackId)?.kind === "video") this.#views.show(trackId, element);
  }

  /**
   * What the server reckons with, what it sends of each picture, and why it sends no better.
   * @returns {Promise<Quality>} Rejects with `unknown_type` if the server is too old to tell.
   */
  quality() {
    return this.#signal.request("quality", {});
  }

  /** Ends the call. Own tracks are not stopped. @returns {Promise<void>} */
  leave() {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  async #leave() {
    if (this.#signal.isOpen) {
      const left = this.#signal.request("leave", {}).catch(() => {});
      await Promise.race([left, new Promise((done) => setTimeout(done, LEAVE_PATIENCE_MS))]);
    }
    this.#end(null);
  }

  /** @returns {Promise<CallStats>} */
  async stats() {
    const pc = this.#media.peerConnection;
    const report = pc ? await pc.getStats() : /** @type {RTCStatsReport} */ (new Map());
    const sent = new Map();
    for (const { id, transceiver } of this.#media.publications) {
      if (id !== null && transceiver?.mid) sent.set(transceiver.mid, id);
    }
    return { ...this.#statsReader.read(report, { sent, received: this.#slots.shownByMid() }), firstFrameMs: this.#firstFrame.ms };
  }

  /**
   * How loud a remote audio track is right now, 0 to 1; cheap enough to ask ten times a second.
   * @param {string} trackId
   */
  audioLevel(trackId) {
    return this.#slots.receiverOf(trackId)?.getSynchronizationSources()[0]?.audioLevel ?? 0;
  }

  /**
   * @param {Offer} offer
   * @returns {Promise<Answered>}
   */
  async #sendOffer({ sdp, tracks, newConnection, avoidUdp }) {
    if (this.#leaving) throw new ConfabError("closed", "The call is being left.");
    if (newConnection) {
      this.#slots.forget();
      this.#views.reset();
    }
    if (!this.#joined) return this.#sendJoin(sdp, tracks);
    const offer = { sdp, tracks, new_connection: newConnection, ...(avoidUdp && { avoid_udp: /** @type {true} */ (true) }) };
    return this.#signal.request("offer", offer, (answer) => {
      this.#slots.handleAnswer(answer.slots);
      if (newConnection) this.#repeatMutes(answer);
    });
  }

  /**
   * @param {string} offer
   * @param {PublishedLine[]} tracks
   * @returns {Promise<Answered>}
   */
  async #sendJoin(offer, tracks) {
    const { room, name } = this.#options;
    try {
      const joined = await this.#signal.request("join", { room, name, offer, tracks }, (joined) => {
        this.#handleJoined(joined);
        this.#slots.handleAnswer(joined.slots);
        this.#repeatMutes(joined);
      });
      const { answer = "", tracks: own, slots, refused } = joined;
      return { sdp: answer, tracks: own, slots, refused };
    } catch (error) {
      const reason = asConfabError(error);
      if (!PASSING_CODES.has(reason.code)) this.#end(reason);
      throw reason;
    }
  }

  /**
   * Tracks published anew start unmuted at the server.
   * @param {Pick<Answered, "tracks">} answer
   */
  #repeatMutes({ tracks }) {
    for (const { transceiver, muted } of this.#media.publications) {
      const own = tracks.find(({ mid }) => mid === transceiver?.mid);
      if (own && muted) this.#signal.request("mute", { track: own.id, muted }).catch(() => {});
    }
  }

  /** @param {Joined} joined */
  #handleJoined({ participant: id, identity, metadata, permissions, viewers, participants }) {
    this.#joined = true;
    this.id = id;
    this.self = { identity, metadata };
    this.permissions = permissions ?? this.permissions;
    if (!this.permissions.publish) {
      for (const publication of this.publications) this.#media.withdraw(publication);
    }
    this.#setViewers(viewers ?? 0);
    this.#setDominantSpeaker(null);
    // Who was known was known to another session, perhaps of another server: ids may be others' now.
    for (const gone of [...this.participants.keys()]) this.#removeParticipant(gone, "gone");
    for (const info of participants) this.#addParticipant(info);
    this.#noteOthers(true);
    this.#reserveSlots();
    this.#updateState();
  }

  /**
   * @param {boolean} resumed
   * @param {IceServersInfo} [relay]
   */
  #handleOpen(resumed, relay) {
    clearTimeout(this.#goneTimer);
    this.#isStopping = false;
    if (this.#leaving) return;
    if (!resumed) this.#iceServers.handle(relay);
    if (!this.#media.hasPath) {
      this.#end(new ConfabError("no_relay", "Media may go through a relay only, and the server has none."));
      return;
    }
    if (!resumed && this.#hadSession) {
      this.#joined = false;
      this.#media.renew();
    } else if (this.#media.isSilent) {
      // The network is another now, or has been away: media needs another way as well.
      this.#media.handleNetworkChange();
    }
    this.#hadSession = true;
    this.#updateState();
  }

  #handleLost() {
    this.#waitForContact();
    this.#updateState();
  }

  #waitForContact() {
    clearTimeout(this.#goneTimer);
    if (this.state === "closed") return;
    this.#goneTimer = setTimeout(() => this.#missContact(), SERVER_GONE_MS);
  }

  #missContact() {
    const error = this.#signal.refusal ?? this.#absence();
    this.#missed += 1;
    const isPatient = this.#signal.wasUnanswered && this.#missed < START_PATIENCE;
    if (!this.#isStarted && !isPatient) return this.#end(error);
    this.#report(error);
    if (!this.#isStarted) this.#waitForContact();
  }

  #absence() {
    return this.#isStopping
      ? new ConfabError("server_stopped", "The server has stopped. The call goes on when it is there again.")
      : new ConfabError("server_gone", "The server does not answer.");
  }

  /** @param {{message: string, inMs: number}} stopping */
  #handleStopping(stopping) {
    this.#isStopping = true;
    this.emit("stopping", stopping);
  }

  /** @param {ServerEvent} event */
  #handleEvent(event) {
    switch (event.type) {
      case "participant_joined":
        this.#addParticipant(event.participant);
        break;
      case "participant_left":
        this.#removeParticipant(event.participant, event.reason);
        break;
      case "track_published":
        this.#addTrack(event.participant, event.track);
        break;
      case "track_unpublished":
        this.#removeTrack(event.participant, event.track);
        break;
      case "track_muted":
        this.#muteTrack(event.participant, event.track, event.muted);
        break;
      case "unreachable":
        this.#setUnreachable(event.participant, event.unreachable);
        return;
      case "slot":
        this.#assign(event.mid, event.track);
        return;
      case "slot_paused":
        this.#slots.pause(event.mid, event.reason && { reason: event.reason, message: event.message });
        return;
      case "layers":
        this.#media.handleLayers(event.track, event.encodings, event.bitrate);
        return;
      case "speakers":
        this.#setDominantSpeaker(event.dominant);
        return;
      case "viewers":
        this.#setViewers(event.viewers);
        return;
      case "media":
        if (event.state === "silent") this.#media.seekPath();
        if (event.state === "lossy") this.#considerTcp().catch(() => {});
        return;
      case "reconnect":
        this.#media.handleGone();
        return;
    }
    this.#noteOthers();
    this.#reserveSlots();
    this.#showTracks();
  }

  /** Media may leave UDP, unless TCP loses as much: then it would be worse there. */
  async #considerTcp() {
    const ask = async () => {
      await new Promise((resolve) => setTimeout(resolve, PING_PAUSE_MS));
      return this.#signal.request("ping", {});
    };
    const { searches } = this.#media;
    const isGood = await isSteady(STEADY_PINGS, ask);
    // The network may be another since.
    if (searches !== this.#media.searches) return;
    if (isGood) await this.#media.leaveUdp();
    else console.info("confab: UDP loses much, and so does TCP");
  }

  /** @param {ParticipantInfo} info */
  #addParticipant({ id, name, identity, metadata, unreachable = false, tracks }) {
    if (id === this.id || this.participants.has(id)) return;
    /** @type {Participant} */
    const participant = { id, name, identity, metadata, unreachable, tracks: new Map() };
    for (const track of tracks) {
      participant.tracks.set(track.id, newRemoteTrack(id, track));
    }
    this.participants.set(id, participant);
    this.emit("participant", { participant });
  }

  /**
   * @param {string} id
   * @param {string} reason
   */
  #removeParticipant(id, reason) {
    const participant = this.participants.get(id);
    if (!participant) return;
    for (const trackId of [...participant.tracks.keys()]) this.#removeTrack(id, trackId);
    this.participants.delete(id);
    this.emit("participantleft", { participant, reason });
  }

  /**
   * @param {string} id
   * @param {boolean} unreachable
   */
  #setUnreachable(id, unreachable) {
    const participant = this.participants.get(id);
    if (!participant || participant.unreachable === unreachable) return;
    participant.unreachable = unreachable;
    this.emit("unreachable", { participant });
  }

  /**
   * @param {string} participantId
   * @param {TrackInfo} info
   */
  #addTrack(participantId, info) {
    const participant = this.participants.get(participantId);
    if (!participant) return;
    const known = participant.tracks.get(info.id);
    if (known) this.#muteTrack(participantId, info.id, info.muted);
    else participant.tracks.set(info.id, newRemoteTrack(participantId, info));
  }

  /**
   * @param {string} participantId
   * @param {string} trackId
   */
  #removeTrack(participantId, trackId) {
    const participant = this.participants.get(participantId);
    this.#slots.hide(trackId);
    this.#views.forget(trackId);
    participant?.tracks.delete(trackId);
  }

  /**
   * @param {string} participantId
   * @param {string} trackId
   * @param {boolean} muted
   */
  #muteTrack(participantId, trackId, muted) {
    const participant = this.participants.get(participantId);
    const track = participant?.tracks.get(trackId);
    if (!participant || !track || track.muted === muted) return;
    track.muted = muted;
    this.emit("mute", { participant, track });
  }

  #reserveSlots() {
    if (!this.permissions.subscribe) return;
    const count = { audio: 0, video: 0 };
    for (const { tracks } of this.participants.values()) {
      for (const { kind } of tracks.values()) count[kind] += 1;
    }
    for (const kind of /** @type {Kind[]} */ (["audio", "video"])) {
      this.#media.reserve(kind, count[kind]).catch((error) => {
        // A lost session is joined anew, with as many slots as are wanted by then.
        if (error.code !== "session_lost" && error.code !== "closed") this.#report(error);
      });
    }
  }

  /**
   * @param {string} mid
   * @param {string | null} track
   */
  #assign(mid, track) {
    this.#slots.assign(mid, track);
    this.#showTracks();
  }

  /** Brings what is surfaced in line with what the slots show. */
  #showTracks() {
    if (this.state === "closed") return;
    this.#slots.show();
    this.#views.update();
  }

  /** @param {number} count */
  #setViewers(count) {
    if (count === this.viewers) return;
    this.viewers = count;
    this.emit("viewers", { count });
  }

  /** @param {string | null} id */
  #setDominantSpeaker(id) {
    if (id === this.dominantSpeaker) return;
    this.dominantSpeaker = id;
    this.emit("dominantspeaker", { id });
  }

  /**
   * Notes how many there are, and whether anybody shows anything.
   * @param {boolean} [fromJoin]
   */
  #noteOthers(fromJoin = false) {
    this.#media.setOthers(this.participants.size);
    const tracks = [...this.participants.values()].flatMap((participant) => [...participant.tracks.values()]);
    this.#firstFrame.update(tracks.some(({ kind, muted }) => kind === "video" && !muted), fromJoin);
  }

  /**
   * @param {string} id
   * @returns {RemoteTrack | undefined}
   */
  #remoteTrack(id) {
    for (const { tracks } of this.participants.values()) {
      const track = tracks.get(id);
      if (track) return track;
    }
    return undefined;
  }

  /** @param {RemoteTrack} track */
  #senderOf({ participant }) {
    return /** @type {Participant} */ (this.participants.get(participant));
  }

  #updateState() {
    if (this.state === "closed") return;
    const signaling = this.#signal.isOpen && this.#joined;
    // A connection counts as one for some seconds after the server is gone.
    const media = this.#media.isConnected && (signaling || !this.#media.isSilent);
    if (signaling && media) this.#wasConnected = true;
    const broken = this.#wasConnected ? "reconnecting" : "connecting";
    this.state = signaling && media ? "connected" : broken;
    this.emit("state", { state: this.state, signaling, media });
  }

  /**
   * Who leaves is told of nothing that comes of it, or meanwhile.
   * @param {ConfabError} error
   * @param {boolean} [fatal]
   */
  #report(error, fatal = false) {
    if (!this.#leaving) this.emit("error", { error, fatal });
  }

  /** @param {ConfabError | null} error */
  #end(error) {
    if (this.state === "closed") return;
    this.state = "closed";
    globalThis.removeEventListener?.("pagehide", this.#onPageHide);
    clearTimeout(this.#goneTimer);
    this.#views.close();
    this.#firstFrame.close();
    this.#iceServers.close();
    this.#fail(error ?? new ConfabError("closed", "The call has ended."));
    this.#media.close();
    this.#signal.close();
    if (error) this.#report(error, true);
    this.emit("state", { state: "closed", signaling: false, media: false });
  }
}

export const Confab = {
  /**
   * Joins a room. When this is fulfilled, `participants` is filled and tracks that already have a
   * slot carry their `mediaStreamTrack`; what comes later is told by events.
   * @param {JoinOptions} options
   * With a token that allows less, `call.permissions` says so: the call is there all the same.
   * @returns {Promise<Call>} Rejects with a `ConfabError`.
   */
  async join(options) {
    const call = new Call(options);
    await call.start();
    return call;
  },
};

/**
 * @param {MediaStreamTrack} track
 * @param {{source: Source, name?: string, simulcast?: boolean}} options
 * @returns {Publication}
 */
function newPublication(track, { source, name, simulcast = suitsSimulcast(track, source) }) {
  const kind = /** @type {Kind} */ (track.kind);
  // Letters rather than motion, unless the application knows better.
  if (source === "screen" && track.contentHint === "") track.contentHint = "detail";
  return {
    id: null,
    kind,
    source,
    name,
    simulcast: simulcast && kind === "video",
    encodings: [],
    muted: !track.enabled,
    track,
    transceiver: null,
  };
}

/**
 * @param {string} participant
 * @param {TrackInfo} info
 * @returns {RemoteTrack}
 */
function newRemoteTrack(participant, info) {
  return { ...info, participant, mediaStreamTrack: null, paused: null };
}
