/**
 * A session with Janus over its WebSocket interface: requests go out and get their one reply, events
 * go to the handle they are meant for. A lost socket is opened again and the session claimed;
 * requests without a reply are sent again then.
 */

/** Waits before the next attempt, milliseconds: the first, and where doubling ends. As Confab's SDK. */
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 5_000;
/** A socket that is not open by then is given up, milliseconds. As Confab's SDK. */
const CONNECT_TIMEOUT_MS = 10_000;
/** So often the socket is tried, milliseconds; after two intervals of silence it counts as dead. As Confab's SDK. */
const KEEPALIVE_MS = 15_000;
/** A socket that is in doubt has so long to answer, milliseconds. */
const DOUBT_PATIENCE_MS = 2_000;
/** The first connection is worth so long, milliseconds. */
const OPEN_PATIENCE_MS = 10_000;
/** Janus no longer has the session, or the handle. */
const GONE_CODES = new Set([458, 459]);

/** @typedef {Record<string, any>} Message */

/**
 * What a plugin says.
 * @typedef {{data: Record<string, any>, jsep?: RTCSessionDescriptionInit}} PluginEvent
 */

/**
 * @typedef {object} Waiting
 * @property {string} text
 * @property {boolean} isAsynchronous Whether an acknowledgement comes before the reply.
 * @property {(reply: Message) => void} resolve
 * @property {(error: Error) => void} reject
 */

/** A place at the VideoRoom plugin. */
export class Handle {
  #session;
  #id;

  /**
   * @param {JanusSession} session
   * @param {number} id
   */
  constructor(session, id) {
    this.#session = session;
    this.#id = id;
  }

  /**
   * @param {object} body
   * @param {RTCSessionDescription | null} [jsep]
   * @returns {Promise<PluginEvent>} Rejects with the plugin's sentence.
   */
  async request(body, jsep) {
    const message = { janus: "message", handle_id: this.#id, body, ...(jsep && { jsep }) };
    return pluginEvent(await this.#session.request(message, true));
  }

  /** @param {RTCIceCandidate | null} candidate Null when there are no more. */
  trickle(candidate) {
    const message = { janus: "trickle", handle_id: this.#id, candidate: candidate ?? { completed: true } };
    this.#session.request(message).catch((error) => console.warn(`trickle: ${error.message}`));
  }
}

export class JanusSession {
  #url;
  #onFailed;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {number | null} */
  #id = null;
  #closed = false;
  #attempts = 0;
  #heardAt = 0;
  #nextTransaction = 1;
  /** @type {Map<string, Waiting>} */
  #waiting = new Map();
  /** @type {Map<number, (event: PluginEvent) => void>} */
  #listeners = new Map();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #keepaliveTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {string} url
   * @param {(why: string) => void} onFailed The session is over.
   */
  constructor(url, onFailed) {
    this.#url = url;
    this.#onFailed = onFailed;
  }

  /** Connects and creates the session. */
  async open() {
    this.#connect();
    const patience = new Promise((_, reject) => {
      setTimeout(() => reject(new Error(`Janus does not answer at ${this.#url}.`)), OPEN_PATIENCE_MS);
    });
    const created = await Promise.race([this.request({ janus: "create" }), patience]);
    this.#id = created.data.id;
    this.#keepaliveTimer = setInterval(() => this.#keepAlive(), KEEPALIVE_MS);
  }

  /**
   * @param {(event: PluginEvent) => void} listener Gets what is no reply.
   * @returns {Promise<Handle>}
   */
  async attach(listener) {
    const { data } = await this.request({ janus: "attach", plugin: "janus.plugin.videoroom" });
    this.#listeners.set(data.id, listener);
    return new Handle(this, data.id);
  }

  /**
   * Sends a request now, or as soon as there is a socket.
   * @param {Message} message
   * @param {boolean} [isAsynchronous]
   * @returns {Promise<Message>}
   */
  request(message, isAsynchronous = false) {
    return new Promise((resolve, reject) => {
      const transaction = String(this.#nextTransaction++);
      const text = JSON.stringify({ ...message, transaction, ...(this.#id !== null && { session_id: this.#id }) });
      this.#waiting.set(transaction, { text, isAsynchronous, resolve, reject });
      if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text);
    });
  }

  /** Media has stopped, so the socket may be dead as well: finds out now rather than at the next keepalive. */
  doubt() {
    const asked = Date.now();
    this.#keepAlive();
    setTimeout(() => {
      if (this.#socket && this.#heardAt < asked) this.#handleLoss();
    }, DOUBT_PATIENCE_MS);
  }

  async close() {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#keepaliveTimer);
    clearTimeout(this.#timer);
    if (this.#socket?.readyState === WebSocket.OPEN) {
      const patience = new Promise((done) => setTimeout(done, 1_000));
      await Promise.race([this.request({ janus: "destroy" }), patience]).catch(() => {});
    }
    this.#socket?.close();
  }

  #connect() {
    const socket = new WebSocket(this.#url, "janus-protocol");
    this.#socket = socket;
    socket.onopen = () => this.#handleOpen();
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#handleMessage(JSON.parse(data));
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#handleLoss();
    };
    this.#timer = setTimeout(() => this.#handleLoss(), CONNECT_TIMEOUT_MS);
  }

  #handleOpen() {
    clearTimeout(this.#timer);
    this.#attempts = 0;
    this.#heardAt = Date.now();
    const unanswered = [...this.#waiting.values()];
    const repeat = () => unanswered.forEach(({ text }) => this.#socket?.send(text));
    if (this.#id === null) repeat();
    else this.request({ janus: "claim" }).then(repeat, (error) => this.#fail(error.message));
  }

  #handleLoss() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    if (this.#closed) return;
    const ceiling = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#timer = setTimeout(() => this.#connect(), (ceiling * (1 + Math.random())) / 2);
  }

  #keepAlive() {
    if (!this.#socket) return;
    if (Date.now() - this.#heardAt > 2 * KEEPALIVE_MS) this.#handleLoss();
    else this.request({ janus: "keepalive" }).catch(() => {});
  }

  /** @param {Message} message */
  #handleMessage(message) {
    this.#heardAt = Date.now();
    const waiting = this.#waiting.get(message.transaction);
    if (waiting) {
      if (message.janus === "ack" && waiting.isAsynchronous) return;
      this.#waiting.delete(message.transaction);
      if (message.janus === "error") this.#refuse(waiting, message.error);
      else waiting.resolve(message);
    } else if (this.#closed) {
      return;
    } else if (message.janus === "event") {
      this.#listeners.get(message.sender)?.(pluginEvent(message));
    } else if (message.janus === "timeout") {
      this.#fail("Janus has given up the session.");
    } else if (message.janus === "hangup") {
      console.warn(`Janus hung up: ${message.reason}`);
    }
  }

  /**
   * @param {Waiting} waiting
   * @param {{code: number, reason: string}} error
   */
  #refuse(waiting, { code, reason }) {
    waiting.reject(new Error(`Janus refuses: ${reason}`));
    if (GONE_CODES.has(code)) this.#fail(`Janus has given up the session: ${reason}`);
  }

  /** @param {string} why */
  #fail(why) {
    if (this.#closed) return;
    void this.close();
    this.#onFailed(why);
  }
}

/**
 * @param {Message} message
 * @returns {PluginEvent}
 */
function pluginEvent({ plugindata, jsep }) {
  const data = plugindata?.data ?? {};
  if (data.error) throw new Error(`Janus refuses: ${data.error}`);
  return { data, jsep };
}
