/**
 * A participant of a Janus VideoRoom: one connection for what is published, one for everything that
 * is received. It mends itself, after the same waits as Confab's SDK: a lost socket is opened again
 * and the session claimed, a lost connection gets an ICE restart.
 *
 * The protocol: <https://janus.conf.meetecho.com/docs/rest.html> and
 * <https://janus.conf.meetecho.com/docs/videoroom.html>.
 */

import { JanusSession } from "./janus-session.js";

/** @import { Adapter, Audience, Kind, Settings } from "./types.js" */
/** @import { Handle, PluginEvent } from "./janus-session.js" */

/** `disconnected` often heals by itself; after this it is helped, milliseconds. As the SDK. */
const DISCONNECTED_PATIENCE_MS = 2_000;
/** A restart that has not connected by then is tried again, milliseconds. As the SDK. */
const CONNECT_PATIENCE_MS = 10_000;
/** The SDK's layers, in the order in which Janus expects them, and with the names that it does. @type {RTCRtpEncodingParameters[]} */
const SIMULCAST_ENCODINGS = [
  { rid: "h", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
  { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "l", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
];

/**
 * A stream of the subscriber's connection, as Janus tells it.
 * @typedef {{mid: string, type: Kind, active: boolean, feed_id?: string}} Stream
 */

/** One connection and the handle that it belongs to. */
class Line {
  connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  #handle;
  #restart;
  #onConnected;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;
  /** One negotiation at a time. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {Handle} handle
   * @param {() => Promise<unknown>} restart Begins an ICE restart.
   * @param {() => void} onConnected
   */
  constructor(handle, restart, onConnected) {
    this.#handle = handle;
    this.#restart = restart;
    this.#onConnected = onConnected;
    // Janus loses a candidate that overtakes its offer, and, being ICE-lite, needs none to begin.
    this.connection.onicecandidate = ({ candidate }) => {
      this.#last.catch(() => {}).then(() => handle.trickle(candidate));
    };
    this.connection.onconnectionstatechange = () => this.#handleState(this.connection.connectionState);
  }

  /**
   * @template Result
   * @param {() => Promise<Result>} negotiation
   * @returns {Promise<Result>}
   */
  inTurn(negotiation) {
    const done = this.#last.then(negotiation, negotiation);
    this.#last = done;
    return done;
  }

  /**
   * Sends a request with an offer of our own, and applies the answer.
   * @param {object} body
   * @param {RTCOfferOptions} [options]
   */
  offer(body, options) {
    return this.inTurn(async () => {
      await this.connection.setLocalDescription(await this.connection.createOffer(options));
      const event = await this.#handle.request(body, this.connection.localDescription);
      if (event.jsep) await this.connection.setRemoteDescription(event.jsep);
      return event;
    });
  }

  /**
   * Answers an offer of Janus.
   * @param {RTCSessionDescriptionInit} offer
   */
  answer(offer) {
    return this.inTurn(async () => {
      await this.connection.setRemoteDescription(offer);
      await this.connection.setLocalDescription();
      await this.#handle.request({ request: "start" }, this.connection.localDescription);
    });
  }

  close() {
    clearTimeout(this.#watchdog);
    this.connection.close();
  }

  /** @param {RTCPeerConnectionState} state */
  #handleState(state) {
    if (state === "connected") {
      clearTimeout(this.#watchdog);
      this.#onConnected();
    } else if (state === "disconnected") this.#restartIn(DISCONNECTED_PATIENCE_MS);
    else if (state === "failed") this.#restartIn(0);
  }

  /** @param {number} patienceMs */
  #restartIn(patienceMs) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      if (this.connection.signalingState === "closed") return;
      this.#restartIn(CONNECT_PATIENCE_MS);
      this.#restart().catch((error) => console.warn(`ICE restart: ${error.message}`));
    }, patienceMs);
  }
}

/** @implements {Adapter} */
export class JanusClient {
  #settings;
  #tracks;
  #audience;
  #session;
  /** @type {Line | null} */
  #publisher = null;
  /** @type {Line | null} */
  #subscriber = null;
  /** @type {Handle | null} */
  #subscriberHandle = null;
  /** Subscriptions are asked for one after the other. @type {Promise<void>} */
  #subscribing = Promise.resolve();
  /** Who is subscribed to: publishers are announced anew with each negotiation of theirs. @type {Set<string>} */
  #feeds = new Set();
  /** Whom each receiving m-line shows. @type {Map<string, Stream>} */
  #streams = new Map();

  /**
   * @param {Settings} settings
   * @param {MediaStreamTrack[]} tracks
   * @param {Audience} audience
   */
  constructor(settings, tracks, audience) {
    this.#settings = settings;
    this.#tracks = tracks;
    this.#audience = audience;
    this.#session = new JanusSession(settings.url, (why) => audience.failed(why));
  }

  async join() {
    await this.#session.open();
    const handle = await this.#session.attach((event) => this.#handleRoomEvent(event));
    const { room, name } = this.#settings;
    // Ids are names, as the rooms have string ids.
    const join = { request: "join", ptype: "publisher", room, id: name, display: name };
    const joined = await (this.#tracks.length > 0 ? this.#publish(handle, join) : handle.request(join));
    this.#audience.joined();
    this.#handleRoomEvent(joined);
  }

  async leave() {
    this.#publisher?.close();
    this.#subscriber?.close();
    await this.#session.close();
  }

  connections() {
    return [this.#publisher, this.#subscriber].flatMap((line) => (line ? [line.connection] : []));
  }

  /**
   * Joins and publishes at once.
   * @param {Handle} handle
   * @param {object} join
   */
  #publish(handle, join) {
    const restart = () => {
      this.#session.doubt();
      return publisher.offer({ request: "configure" }, { iceRestart: true });
    };
    const publisher = new Line(handle, restart, () => this.#handleConnected());
    this.#publisher = publisher;
    for (const track of this.#tracks) {
      const layered = this.#settings.simulcast && track.kind === "video";
      publisher.connection.addTransceiver(track, {
        direction: "sendonly",
        ...(layered && { sendEncodings: SIMULCAST_ENCODINGS }),
      });
    }
    return publisher.offer({ ...join, request: "joinandconfigure" });
  }

  /** @param {PluginEvent} event */
  #handleRoomEvent({ data }) {
    for (const gone of [data.leaving, data.unpublished]) this.#feeds.delete(gone);
    const ids = (data.publishers ?? []).map((/** @type {{id: string}} */ { id }) => id);
    const feeds = ids.filter((/** @type {string} */ id) => !this.#feeds.has(id));
    if (feeds.length === 0) return;
    for (const id of feeds) this.#feeds.add(id);
    const subscribed = () => this.#subscribe(feeds.map((/** @type {string} */ feed) => ({ feed })));
    this.#subscribing = this.#subscribing.then(subscribed).catch((error) => this.#audience.failed(error.message));
  }

  /** @param {{feed: string}[]} streams */
  async #subscribe(streams) {
    if (this.#subscriberHandle) {
      await this.#handleSubscribed(await this.#subscriberHandle.request({ request: "subscribe", streams }));
      return;
    }
    const handle = await this.#session.attach((event) => this.#handleSubscribed(event));
    const restart = async () => {
      this.#session.doubt();
      await this.#handleSubscribed(await handle.request({ request: "configure", restart: true }));
    };
    this.#subscriberHandle = handle;
    this.#subscriber = new Line(handle, restart, () => this.#handleConnected());
    const join = { request: "join", ptype: "subscriber", room: this.#settings.room, streams };
    await this.#handleSubscribed(await handle.request(join));
  }

  /** @param {PluginEvent} event */
  async #handleSubscribed({ data, jsep }) {
    if (jsep) await this.#subscriber?.answer(jsep);
    if (!data.streams) return;
    const streams = new Map(/** @type {Stream[]} */ (data.streams).map((stream) => [stream.mid, stream]));
    for (const [mid, { feed_id: from, type }] of this.#streams) {
      const now = streams.get(mid);
      if (from !== undefined && (!now?.active || now.feed_id !== from)) this.#audience.hidden(from, type);
    }
    for (const [mid, { feed_id: from, active }] of streams) {
      const known = this.#streams.get(mid);
      if (from === undefined || !active || (known?.active && known.feed_id === from)) continue;
      const line = this.#subscriber?.connection.getTransceivers().find((transceiver) => transceiver.mid === mid);
      if (line) this.#audience.shown(from, line.receiver.track);
    }
    this.#streams = streams;
  }

  #handleConnected() {
    if (this.connections().every(({ connectionState }) => connectionState === "connected")) this.#audience.connected();
  }
}
