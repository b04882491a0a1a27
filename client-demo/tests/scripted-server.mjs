/**
 * A server as the SDK sees it, in the same process: it answers at once what it is not told to hold, and
 * says what it is told to say. Its sockets stand in for WebSocket.
 */

/** Requests with nothing but their own fields in the reply. */
const REPLIES = {
  unpublish: ({ track }) => ({ type: "unpublished", track }),
  subscribe: ({ mid, track = null }) => ({ type: "subscribed", mid, track }),
  mute: ({ track, muted }) => ({ type: "muted", track, muted }),
  view: () => ({ type: "viewed" }),
  leave: () => ({ type: "left" }),
  ping: () => ({ type: "pong" }),
  renew: () => ({ type: "renewed", expires_in: 3_600 }),
};

export class ScriptedServer {
  /** Whether sockets open: at once, never, or are refused. @type {"open" | "silent" | "refused"} */
  network = "open";
  /** Everybody else in the room, as `joined` tells. */
  participants = [];
  /** What a welcome tells of a relay. */
  relay = undefined;
  /** Access tokens that it does not take. */
  refusedTokens = new Set();
  /** Whether it is one of before `unanswered`: it refuses what it does not know. */
  isOlder = false;
  /** Types of requests that get no reply until they are released. */
  held = new Set();
  /** Every request but hello, as it came. */
  requests = [];
  /** The own tracks that it knows of, by id. @type {Map<string, string>} */
  tracks = new Map();
  sockets = [];
  #sessions = 0;
  #session = null;
  #seq = 0;
  #lastTrack = 0;
  #waiting = [];

  /** To take the place of `WebSocket`. */
  get socketClass() {
    const server = this;
    return class {
      constructor() {
        server.#open(this);
      }

      send(text) {
        if (!this.isClosed) server.#handle(this, JSON.parse(text));
      }

      close(code) {
        this.isClosed = true;
        this.code = code;
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  requestsOf(type) {
    return this.requests.filter((message) => message.type === type);
  }

  /** The socket is lost; what was held has never been heard. */
  lose() {
    const { socket } = this;
    this.#waiting = [];
    socket.isClosed = true;
    socket.onclose?.();
  }

  /** It starts anew and knows of nothing. */
  forget() {
    this.#session = null;
    this.tracks.clear();
  }

  /** Answers what was held. */
  release() {
    this.held.clear();
    for (const [socket, message] of this.#waiting.splice(0)) this.#answer(socket, message);
  }

  /** An event. */
  say(event) {
    this.#seq += 1;
    this.#tell(this.socket, { seq: this.#seq, ...event });
  }

  /** The session is over, and why. */
  end(code) {
    const { socket } = this;
    this.forget();
    this.#tell(socket, { type: "closing", code, message: "It is over.", in_ms: 0 });
    if (!socket.isClosed) this.lose();
  }

  #open(socket) {
    this.sockets.push(socket);
    if (this.network === "open") queueMicrotask(() => socket.isClosed || socket.onopen?.());
    if (this.network === "refused") queueMicrotask(() => socket.isClosed || socket.onclose?.());
  }

  #handle(socket, message) {
    if (message.type === "ack") return;
    if (message.type !== "hello") this.requests.push(message);
    if (this.held.has(message.type)) this.#waiting.push([socket, message]);
    else queueMicrotask(() => this.#answer(socket, message));
  }

  #answer(socket, message) {
    this.#tell(socket, { re: message.id, ...this.#reply(message) });
  }

  #reply(message) {
    switch (message.type) {
      case "hello":
        if (this.refusedTokens.has(message.token)) return { type: "error", code: "unauthorized", message: "It has expired.", reason: "expired" };
        if (this.isOlder && message.unanswered) return { type: "error", code: "bad_request", message: "unknown field `unanswered`" };
        return this.#welcome(message);
      case "join":
        return { type: "joined", participant: "p_me", participants: this.participants, ...this.#negotiated(message.offer, message.tracks), answer: answerTo(message.offer) };
      case "offer":
        if (message.new_connection) this.tracks.clear();
        return { type: "answer", ...this.#negotiated(message.sdp, message.tracks), sdp: answerTo(message.sdp) };
      case "publish":
        return { type: "published", mid: message.mid, track: this.#publish(message.mid) };
      default:
        if (message.type === "unpublish") this.tracks.delete(message.track);
        if (message.type === "ice_servers") return { type: "ice_servers", ...this.relay };
        return REPLIES[message.type](message);
    }
  }

  #welcome({ resume }) {
    const resumed = resume !== undefined && resume.session === this.#session;
    if (!resumed) {
      this.#sessions += 1;
      this.#session = `s_${this.#sessions}`;
      this.#seq = 0;
    }
    return { type: "welcome", session: this.#session, resumed, grace_ms: 30_000, ping_interval_ms: 15_000, max_message_bytes: 262_144, relay: resumed ? undefined : this.relay };
  }

  #negotiated(sdp, lines = []) {
    const mids = [...this.tracks.values()];
    for (const { mid } of lines) if (!mids.includes(mid)) this.#publish(mid);
    const sections = sdp.split(/^(?=m=)/m).slice(1);
    const slots = sections.filter((section) => section.includes("a=recvonly"))
      .map((section) => ({ mid: /a=mid:(.*)\r/.exec(section)[1], kind: section.startsWith("m=audio") ? "audio" : "video", track: null }));
    return { tracks: [...this.tracks].map(([id, mid]) => ({ id, mid, kind: "video" })), slots };
  }

  #publish(mid) {
    this.#lastTrack += 1;
    const id = `t_${this.#lastTrack}`;
    this.tracks.set(id, mid);
    return id;
  }

  #tell(socket, message) {
    if (!socket.isClosed) socket.onmessage?.({ data: JSON.stringify(message) });
  }
}

/** The same lines in the other direction. */
function answerTo(offer) {
  const turned = { sendonly: "recvonly", recvonly: "sendonly" };
  return offer.replace(/^a=(sendonly|recvonly)(?=\r$)/gm, (_, direction) => `a=${turned[direction]}`);
}
