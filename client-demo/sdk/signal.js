/**
 * The signaling session: requests go out and get their one reply, server events come in once, and
 * both in the order in which the server said them, whatever happens to the socket underneath. After a
 * lost socket the session is resumed with the last event seen, and requests without a reply are sent
 * again under their old id.
 */

import { AccessToken } from "./access-token.js";
import { canDeflate, deflate, inflate } from "./deflate.js";
import { asConfabError, ConfabError, Emitter } from "./events.js";
import { RoundTrip } from "./round-trip.js";

/** @import { IceServersInfo, Requests, Replies, ServerEvent, Welcome } from "./types.js" */

const PROTOCOL_VERSION = 1;
/** Waits before the next attempt, milliseconds: the first, and where doubling ends. */
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 5_000;
/**
 * How long a socket may take to open, and then until the welcome has come, milliseconds: the first, the factor
 * for those after it, and the last. TCP waits longer with each time that it has to repeat something; a new socket
 * begins anew. Not side by side: a browser opens one WebSocket to a server at a time.
 */
const FIRST_PATIENCE_MS = 3_000;
const PATIENCE_GROWTH = 1.5;
const MAX_PATIENCE_MS = 10_000;
/**
 * How long a socket after another may take to open at least, milliseconds; growing like the above. TCP would
 * repeat its first packet after that (RFC 6298 section 2), and would do so from the address of before although
 * the network may be another by now: a new socket loses nothing, and takes the path that there is.
 */
const OPEN_PATIENCE_MS = 1_000;
/** Round trips that opening takes at most: one for TCP, two for TLS, one for HTTP. */
const OPENING_ROUND_TRIPS = 4;
/** How long at least when there is reason to doubt that the server can be heard, milliseconds. */
const CHECK_PATIENCE_MS = 400;
/** How long a reply may take before another socket is tried, milliseconds; growing like the above. */
const REPLY_PATIENCE_MS = 5_000;
/** Messages of so many characters are compressed: shorter ones fit a packet as they are. */
const DEFLATE_FROM = 1_024;
/** Events are acknowledged together when this has passed, milliseconds. */
const ACK_DELAY_MS = 50;
/** Ping intervals of silence after which the socket counts as dead. */
const SILENT_INTERVALS = 2;
/** With this code a closed socket ends its session at once (RFC 6455 section 7.4.1: normal closure). */
const GOODBYE = 1_000;
/** Until the server has named its interval, milliseconds. */
const DEFAULT_PING_INTERVAL_MS = 15_000;
/** Requests that belong to their socket, and are answered at once; every other one outlives it. */
const BOUND_TO_SOCKET = new Set(["hello", "ping"]);
/** Refusals, and reasons for closing, after which trying again makes sense. */
export const PASSING_CODES = new Set([
  "hello_timeout",
  "idle",
  "internal",
  "overloaded",
  // By a socket of ours that was given up, and whose hello came late all the same.
  "replaced",
  "server_full",
  "session_lost",
  "shutting_down",
  "slow_client",
  "worker_failed",
]);

/** Those after which it does with another access token. */
const TOKEN_CODES = new Set(["token_expired", "unauthorized"]);
/** Refusals of another access token for the session after which it need not be given one more. */
const NEEDS_NO_RENEWAL = new Set(["session_lost", "unknown_type"]);

/**
 * @typedef {object} Waiting
 * @property {number} id
 * @property {keyof Requests} type
 * @property {string} text
 * @property {number} askedAt
 * @property {(reply: any) => void} apply
 * @property {(reply: any) => void} resolve
 * @property {(error: ConfabError) => void} reject
 */

/**
 * @typedef {object} SignalEvents
 * @property {ServerEvent} event
 * @property {{resumed: boolean, relay?: IceServersInfo}} open A session is up. If it is not a resumed
 *   one, the server knows nothing of what was said in an earlier session, and tells of its relay.
 * @property {undefined} contact A socket has opened: there is a server.
 * @property {undefined} heard The server can be heard, which was in doubt (`check`).
 * @property {undefined} lost The socket is gone, and is being reconnected.
 * @property {{message: string, inMs: number}} stopping The server stops when everybody has left, or then.
 * @property {{inMs: number}} tokenexpires The access token ends then, and the session with it unless it is renewed.
 * @property {ConfabError} closed The session is over for good.
 */

/** @extends {Emitter<SignalEvents>} */
export class Signal extends Emitter {
  #url;
  /** @type {AccessToken} */
  #token;
  /** Why another token is asked for; null while none is. @type {ConfabError | null} */
  refusal = null;
  #socketClass;
  /** @type {WebSocket | null} */
  #socket = null;
  /** What is being compressed or read, so that nothing overtakes it. @type {Promise<void> | null} */
  #outgoing = null;
  /** @type {Promise<void> | null} */
  #incoming = null;
  /** @type {string | null} */
  #session = null;
  #welcomed = false;
  #closed = false;
  #nextId = 1;
  #lastSeq = 0;
  #ackedSeq = 0;
  #attempts = 0;
  /** Another one, opened while it is doubtful whether the server can be heard. @type {WebSocket | null} */
  #rival = null;
  /** Whether the server refuses to go on with the session for what this SDK says of it: an older one does. */
  #mustBeginAnew = false;
  /** Sockets given up since the last reply. */
  #unanswered = 0;
  /** Whether a socket was given up because nothing at all came of it, and none has opened since. */
  wasUnanswered = false;
  #heardAt = 0;
  #pingIntervalMs = DEFAULT_PING_INTERVAL_MS;
  #roundTrip = new RoundTrip();
  /** Requests without a reply, in the order of their ids. @type {Map<number, Waiting>} */
  #waiting = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #connectTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #checkTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #replyTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ackTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #pingTimer;
  #onOnline = () => this.#reconnectNow();

  /**
   * @param {object} options
   * @param {string} options.url `ws://…/v1/ws`
   * @param {string} [options.token]
   * @param {() => string | Promise<string>} [options.getToken] Asked for another one.
   * @param {typeof WebSocket} [options.socketClass] Another implementation, for tests.
   */
  constructor({ url, token, getToken, socketClass = WebSocket }) {
    super();
    this.#url = url;
    this.#token = new AccessToken(token, getToken);
    this.#socketClass = socketClass;
  }

  /** Opens the socket, and keeps one open until `close`. */
  start() {
    if (this.#closed) return;
    globalThis.addEventListener?.("online", this.#onOnline);
    this.#connect();
  }

  /** Whether requests reach the server right now. */
  get isOpen() {
    return this.#welcomed;
  }

  /**
   * Sends a request now, or as soon as there is a socket.
   * @template {keyof Requests} Type
   * @param {Type} type
   * @param {Requests[Type]} body
   * @param {(reply: Replies[Type]) => void} [apply] Is given the reply before anything that the server
   *   said after it is told, which the promise is too late for.
   * @returns {Promise<Replies[Type]>} Rejects with the server's `ConfabError`, or with
   *   `session_lost` when the server forgot the session in which the request was made.
   */
  request(type, body, apply = () => {}) {
    if (this.#closed) return Promise.reject(new ConfabError("closed", "The call has ended."));
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      const text = JSON.stringify({ id, type, ...body });
      this.#waiting.set(id, { id, type, text, askedAt: Date.now(), apply, resolve, reject });
      if (this.#welcomed) {
        this.#send(text);
        this.#awaitReply();
      }
    });
  }

  /**
   * Finds out whether the server can still be heard: asks it, and opens another socket meanwhile. It is
   * dropped when anything is heard, and takes the place of the present one when it opens before.
   */
  check() {
    if (!this.#welcomed || this.#checkTimer) return;
    this.request("ping", {}).catch(() => {});
    this.#rival = this.#open();
    const patience = Math.min(Math.max(CHECK_PATIENCE_MS, this.#roundTrip.patience), FIRST_PATIENCE_MS);
    this.#checkTimer = setTimeout(() => this.#replaceSocket(), patience);
  }

  /** Goes on with the other socket, open or not yet. */
  #replaceSocket() {
    const rival = this.#rival ?? this.#open();
    this.#rival = null;
    this.#handleLoss();
    clearTimeout(this.#retryTimer);
    // That one is the first since a socket was good.
    this.#attempts = 0;
    // Whoever is told of the loss may end the call.
    if (this.#closed) rival.close();
    else this.#use(rival);
  }

  #endCheck() {
    clearTimeout(this.#checkTimer);
    this.#checkTimer = undefined;
    const rival = this.#rival;
    this.#rival = null;
    rival?.close();
  }

  #awaitReply() {
    this.#replyTimer ??= setTimeout(() => {
      this.#unanswered += 1;
      this.#handleLoss();
    }, growing(REPLY_PATIENCE_MS, this.#unanswered));
  }

  #stopAwaitingReply() {
    clearTimeout(this.#replyTimer);
    this.#replyTimer = undefined;
  }

  /**
   * Ends the session; what waits for a reply is rejected.
   * @param {ConfabError} [reason]
   */
  close(reason = new ConfabError("closed", "The call has ended.")) {
    if (this.#closed) return;
    this.#closed = true;
    this.#token.close();
    globalThis.removeEventListener?.("online", this.#onOnline);
    this.#dropSocket(GOODBYE);
    clearTimeout(this.#retryTimer);
    this.#rejectWaiting(reason);
    this.emit("closed", reason);
  }

  #connect() {
    this.#use(this.#open());
  }

  #open() {
    const socket = new this.#socketClass(this.#url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (socket === this.#rival) this.#replaceSocket();
      if (socket !== this.#socket) return;
      this.wasUnanswered = false;
      this.emit("contact", undefined);
      // Whoever is told may end the call.
      if (socket !== this.#socket) return;
      this.#giveTime(FIRST_PATIENCE_MS);
      this.#hello(socket);
    };
    socket.onmessage = ({ data }) => this.#receive(socket, data);
    socket.onclose = () => {
      if (socket === this.#rival) this.#rival = null;
      if (socket === this.#socket) this.#handleLoss();
    };
    return socket;
  }

  /** @param {WebSocket} socket */
  #use(socket) {
    this.#socket = socket;
    const { smoothed } = this.#roundTrip;
    this.#giveTime(smoothed === null ? FIRST_PATIENCE_MS : Math.max(OPEN_PATIENCE_MS, OPENING_ROUND_TRIPS * smoothed));
  }

  /** Gives the socket up unless its next step is made by then. @param {number} ms At the first attempt. */
  #giveTime(ms) {
    clearTimeout(this.#connectTimer);
    this.#connectTimer = setTimeout(() => {
      this.wasUnanswered = true;
      this.#handleLoss();
    }, growing(ms, this.#attempts));
  }

  /** @param {string} text */
  #send(text) {
    const socket = this.#socket;
    const isLong = canDeflate && text.length >= DEFLATE_FROM;
    if (!isLong && !this.#outgoing) {
      socket?.send(text);
      return;
    }
    const frame = isLong ? deflate(text) : Promise.resolve(text);
    // Whoever waits for it hears of it in turn.
    frame.catch(() => {});
    this.#outgoing = this.#inTurn(this.#outgoing, async () => {
      const data = await frame;
      if (socket === this.#socket) socket?.send(data);
    });
    this.#forget(this.#outgoing);
  }

  /**
   * @param {WebSocket} socket
   * @param {string | ArrayBuffer} data
   */
  #receive(socket, data) {
    if (typeof data === "string" && !this.#incoming) {
      if (socket === this.#socket) this.#handleFrame(data);
      return;
    }
    const text = typeof data === "string" ? Promise.resolve(data) : inflate(data);
    text.catch(() => {});
    this.#incoming = this.#inTurn(this.#incoming, async () => {
      const frame = await text;
      if (socket === this.#socket) this.#handleFrame(frame);
    });
    this.#forget(this.#incoming);
  }

  /**
   * @param {Promise<void> | null} before
   * @param {() => Promise<void>} work
   */
  #inTurn(before, work) {
    return (before ?? Promise.resolve()).then(work).catch((error) => console.error("confab:", error));
  }

  /** What comes after this need not wait for it once it is done. @param {Promise<void>} turn */
  #forget(turn) {
    turn.then(() => {
      if (this.#outgoing === turn) this.#outgoing = null;
      if (this.#incoming === turn) this.#incoming = null;
    });
  }

  /** @param {WebSocket} socket */
  #hello(socket) {
    // Another socket often is on another network.
    this.#roundTrip = new RoundTrip();
    const id = this.#nextId++;
    const resumes = this.#session !== null && !this.#mustBeginAnew;
    const unanswered = [...this.#waiting.keys()];
    const resume = resumes && {
      resume: { session: this.#session, seq: this.#lastSeq },
      ...(unanswered.length > 0 && { unanswered }),
    };
    const hello = { id, type: "hello", version: PROTOCOL_VERSION, token: this.#token.show(), ...resume, deflate: canDeflate };
    this.#waiting.set(id, {
      id,
      type: "hello",
      text: "",
      askedAt: Date.now(),
      apply: (welcome) => this.#handleWelcome(welcome),
      resolve: () => {},
      reject: (error) => {
        if (this.#closed) return;
        // What is said of a session is all that a server takes of one hello and not of another.
        const isOlder = resumes && error.code === "bad_request";
        this.#mustBeginAnew ||= isOlder;
        if (isOlder || PASSING_CODES.has(error.code)) this.#handleLoss();
        else this.#handleEnd(error);
      },
    });
    socket.send(JSON.stringify(hello));
  }

  /** Comes back with another token if that is what it takes, or ends. @param {ConfabError} reason */
  #handleEnd(reason) {
    const { isUnseen, isRenewable } = this.#token;
    if (!TOKEN_CODES.has(reason.code) || !(isUnseen || isRenewable)) {
      this.close(reason);
      return;
    }
    this.refusal = isUnseen ? null : reason;
    this.#handleLoss();
    this.#reconnectNow();
  }

  /** Nothing else is tried until there is another token: it would be refused. */
  #renew() {
    this.#token.renew().then(
      () => {
        this.refusal = null;
        this.#reconnectNow();
      },
      () => {
        clearTimeout(this.#retryTimer);
        if (!this.#closed) this.#retryTimer = setTimeout(() => this.#renew(), MAX_RETRY_MS);
      },
    );
  }

  /** @param {number} inMs */
  #handleTokenExpires(inMs) {
    void this.#token.keep((token) => this.#giveToken(token));
    this.emit("tokenexpires", { inMs });
  }

  /** @param {string} token */
  async #giveToken(token) {
    try {
      await this.request("renew", { token });
    } catch (error) {
      // The session that came after began with it, or the server there is an older one, which needs none.
      if (!NEEDS_NO_RENEWAL.has(asConfabError(error).code)) throw error;
    }
  }

  /** @param {Welcome} welcome */
  #handleWelcome(welcome) {
    clearTimeout(this.#connectTimer);
    this.#token.handleTaken();
    this.#mustBeginAnew = false;
    this.#attempts = 0;
    const hadSession = this.#session !== null;
    this.#session = welcome.session;
    if (!welcome.resumed) {
      this.#lastSeq = 0;
      this.#ackedSeq = 0;
      if (hadSession) {
        this.#rejectWaiting(new ConfabError("session_lost", "The server has forgotten this session."));
      }
    }
    this.#welcomed = true;
    for (const waiting of this.#waiting.values()) this.#send(waiting.text);
    if (this.#waiting.size > 0) this.#awaitReply();
    this.#pingIntervalMs = welcome.ping_interval_ms || DEFAULT_PING_INTERVAL_MS;
    this.#pingTimer = setInterval(() => this.#ping(), this.#pingIntervalMs);
    this.emit("open", { resumed: welcome.resumed, relay: welcome.relay });
  }

  #ping() {
    if (Date.now() - this.#heardAt > SILENT_INTERVALS * this.#pingIntervalMs) this.#handleLoss();
    else this.request("ping", {}).catch(() => {});
  }

  /** @param {string} text */
  #handleFrame(text) {
    this.#heardAt = Date.now();
    if (this.#checkTimer) {
      this.#endCheck();
      this.emit("heard", undefined);
    }
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (typeof message?.re === "number") this.#handleReply(message);
    else if (typeof message?.seq === "number") this.#handleEvent(message);
    else if (message?.type === "closing") this.#handleClosing(message);
  }

  /** @param {any} reply */
  #handleReply(reply) {
    const waiting = this.#waiting.get(reply.re);
    if (!waiting) return;
    this.#waiting.delete(reply.re);
    this.#unanswered = 0;
    if (BOUND_TO_SOCKET.has(waiting.type)) this.#roundTrip.handle(Date.now() - waiting.askedAt);
    this.#stopAwaitingReply();
    if (this.#welcomed && this.#waiting.size > 0) this.#awaitReply();
    if (reply.type === "error") return waiting.reject(new ConfabError(reply.code, reply.message, reply.reason));
    waiting.apply(reply);
    waiting.resolve(reply);
  }

  /** @param {ServerEvent & {seq: number}} event */
  #handleEvent(event) {
    if (event.seq <= this.#lastSeq) return;
    this.#lastSeq = event.seq;
    this.#ackTimer ??= setTimeout(() => this.#acknowledge(), ACK_DELAY_MS);
    if (event.type === "closing") this.#handleClosing(event);
    else if (event.type === "token_expires") this.#handleTokenExpires(event.in_ms);
    else this.emit("event", event);
  }

  /** @param {{code: string, message: string, in_ms: number}} closing */
  #handleClosing({ code, message, in_ms: inMs }) {
    if (code === "shutting_down") this.emit("stopping", { message, inMs });
    if (!PASSING_CODES.has(code)) this.#handleEnd(new ConfabError(code, message));
  }

  #acknowledge() {
    this.#ackTimer = undefined;
    if (!this.#welcomed || this.#ackedSeq === this.#lastSeq) return;
    this.#ackedSeq = this.#lastSeq;
    this.#send(JSON.stringify({ type: "ack", seq: this.#lastSeq }));
  }

  #handleLoss() {
    const wasOpen = this.#welcomed;
    this.#dropSocket();
    if (this.#closed) return;
    const ceiling = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempts);
    this.#attempts += 1;
    // Half of the wait is random, so that a restarted server is not met by everybody at once.
    this.#retryTimer = setTimeout(() => this.#connect(), (ceiling * (1 + Math.random())) / 2);
    if (wasOpen) this.emit("lost", undefined);
  }

  #reconnectNow() {
    if (this.#socket || this.#closed) return;
    clearTimeout(this.#retryTimer);
    if (this.refusal) this.#renew();
    else this.#connect();
  }

  /** @param {number} [code] Why; without one, for another socket to go on with the session. */
  #dropSocket(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#welcomed = false;
    this.#endCheck();
    clearTimeout(this.#connectTimer);
    this.#stopAwaitingReply();
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    clearInterval(this.#pingTimer);
    for (const [id, { type }] of this.#waiting) {
      if (BOUND_TO_SOCKET.has(type)) this.#waiting.delete(id);
    }
    socket?.close(code);
  }

  /** @param {ConfabError} error */
  #rejectWaiting(error) {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) waiting.reject(error);
  }
}

/**
 * @param {number} firstMs
 * @param {number} times
 */
function growing(firstMs, times) {
  return Math.min(MAX_PATIENCE_MS, firstMs * PATIENCE_GROWTH ** times);
}
