/** The signaling session against a scripted socket: what is sent, what is heard, what is repeated. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { deflate, inflate } from "../sdk/deflate.js";
import { Signal } from "../sdk/signal.js";
import { browserWindow } from "./fake-peer.mjs";

for (const name of ["addEventListener", "removeEventListener"]) globalThis[name] = browserWindow[name].bind(browserWindow);

/** Stands in for WebSocket; the test plays the server. */
class FakeSocket {
  static all = [];
  sent = [];
  constructor(url) {
    this.url = url;
    FakeSocket.all.push(this);
  }
  static get last() {
    return FakeSocket.all.at(-1);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
  }
  accept() {
    this.onopen();
    return this;
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  welcome(more = {}) {
    const { id } = this.sent.find(({ type }) => type === "hello");
    this.say({ re: id, type: "welcome", session: "s_1", resumed: false, grace_ms: 30_000, ping_interval_ms: 10_000, max_message_bytes: 65_536, ...more });
    return this;
  }
  lose() {
    this.onclose();
  }
  sentOf(type) {
    return this.sent.filter((message) => message.type === type);
  }
}

let signal;
let heard;
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  FakeSocket.all = [];
  signal = new Signal({ url: "ws://test/v1/ws", token: "secret", socketClass: FakeSocket });
  heard = [];
  for (const type of ["event", "open", "lost", "closed"]) signal.on(type, (detail) => heard.push([type, detail]));
  signal.start();
});
afterEach(() => {
  signal.close();
  mock.timers.reset();
});

/** Lets promises settle and, if asked, time pass. */
async function pass(ms = 0) {
  if (ms) mock.timers.tick(ms);
  await Promise.resolve();
  await Promise.resolve();
}

const of = (type) => heard.filter(([name]) => name === type).map(([, detail]) => detail);

test("hello comes first, requests made before wait for the welcome", async () => {
  const reply = signal.request("join", { room: "kitchen", name: "Ada" });
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.sent.map(({ type }) => type), ["hello"]);
  assert.equal(FakeSocket.last.sent[0].token, "secret");
  FakeSocket.last.welcome();
  const [join] = FakeSocket.last.sentOf("join");
  assert.equal(join.room, "kitchen");
  FakeSocket.last.say({ re: join.id, type: "joined", participant: "p_1" });
  assert.equal((await reply).participant, "p_1");
});

test("an error reply rejects with its code and sentence", async () => {
  FakeSocket.last.accept().welcome();
  const reply = signal.request("join", { room: "kitchen", name: "Ada" });
  FakeSocket.last.say({ re: FakeSocket.last.sentOf("join")[0].id, type: "error", code: "room_full", message: "The room is full." });
  await assert.rejects(reply, { code: "room_full", message: "The room is full." });
});

test("each event is heard once, and acknowledged together with its neighbours", async () => {
  const socket = FakeSocket.last.accept().welcome();
  for (const seq of [1, 2, 2, 1, 3]) socket.say({ seq, type: "slot", mid: String(seq), track: null });
  assert.deepEqual(of("event").map(({ seq }) => seq), [1, 2, 3]);
  await pass(60);
  assert.deepEqual(socket.sentOf("ack"), [{ type: "ack", seq: 3 }]);
});

test("a lost socket is resumed where it broke, and only the unanswered is sent again", async () => {
  const first = FakeSocket.last.accept().welcome();
  first.say({ seq: 1, type: "slot", mid: "0", track: null });
  const answered = signal.request("mute", { track: "t_1", muted: true });
  first.say({ re: first.sentOf("mute")[0].id, type: "muted", track: "t_1", muted: true });
  await answered;
  const open = signal.request("publish", { mid: "3", source: "screen" });
  const { id } = first.sentOf("publish")[0];
  first.lose();
  assert.equal(of("lost").length, 1);
  const whileDown = signal.request("unpublish", { track: "t_2" });
  await pass(300);

  const second = FakeSocket.last.accept();
  assert.notEqual(second, first);
  assert.deepEqual(second.sent[0].resume, { session: "s_1", seq: 1 });
  second.welcome({ resumed: true });
  assert.deepEqual(second.sentOf("publish").map((message) => message.id), [id]);
  assert.equal(second.sentOf("mute").length, 0);
  second.say({ seq: 1, type: "slot", mid: "0", track: null });
  second.say({ seq: 2, type: "slot", mid: "1", track: null });
  assert.deepEqual(of("event").map(({ seq }) => seq), [1, 2]);
  second.say({ re: id, type: "published", track: "t_3", mid: "3", kind: "video" });
  second.say({ re: id, type: "published", track: "t_9", mid: "3", kind: "video" });
  assert.equal((await open).track, "t_3");
  second.say({ re: second.sentOf("unpublish")[0].id, type: "unpublished", track: "t_2" });
  await whileDown;
  assert.deepEqual(of("open").map(({ resumed }) => resumed), [false, true]);
});

test("a reply is applied in its place among the events, and what has none is named to the server", async () => {
  const first = FakeSocket.last.accept().welcome();
  const order = [];
  signal.on("event", ({ seq }) => order.push(seq));
  const request = (mid) => signal.request("publish", { mid, source: "screen" }, ({ track }) => order.push(track)).catch(() => {});
  for (const mid of ["1", "2"]) void request(mid);
  assert.equal(first.sent[0].unanswered, undefined);
  const [one, two] = first.sentOf("publish").map(({ id }) => id);
  first.say({ re: one, seq: 0, type: "published", track: "t_1" });
  first.say({ seq: 1, type: "slot", mid: "0", track: null });
  assert.deepEqual(order, ["t_1", 1]);
  first.lose();
  await pass(300);
  const second = FakeSocket.last.accept();
  assert.deepEqual(second.sent[0].unanswered, [two]);
  second.welcome({ resumed: true });
  second.say({ re: two, seq: 1, type: "published", track: "t_2" });
  second.say({ seq: 2, type: "slot", mid: "0", track: null });
  // It was asked for a second time before the first answer was heard.
  second.say({ re: two, seq: 1, type: "published", track: "t_2" });
  assert.deepEqual(order, ["t_1", 1, "t_2", 2]);
});

test("a server that has forgotten the session gets no old requests", async () => {
  const first = FakeSocket.last.accept().welcome();
  first.say({ seq: 7, type: "slot", mid: "0", track: null });
  const open = signal.request("publish", { mid: "3", source: "screen" });
  first.lose();
  await pass(300);
  const second = FakeSocket.last.accept().welcome({ session: "s_2", resumed: false });
  await assert.rejects(open, { code: "session_lost" });
  assert.equal(second.sentOf("publish").length, 0);
  second.say({ seq: 1, type: "slot", mid: "5", track: null });
  assert.equal(of("event").at(-1).mid, "5");
});

test("a server that takes no resuming hello is told nothing of the session, and ends it if that is no better", async () => {
  const first = FakeSocket.last.accept().welcome();
  const open = signal.request("publish", { mid: "3", source: "screen" });
  first.lose();
  await pass(300);
  assert.deepEqual(FakeSocket.last.accept().sent[0].unanswered, [1 + first.sent[0].id]);
  await refuseHello("bad_request");
  await pass(500);
  const [hello] = FakeSocket.last.accept().sent;
  assert.deepEqual([hello.resume, hello.unanswered], [undefined, undefined]);
  FakeSocket.last.welcome({ session: "s_2" });
  await assert.rejects(open, { code: "session_lost" });
  FakeSocket.last.lose();
  await pass(300);
  assert.deepEqual(FakeSocket.last.accept().sent[0].resume, { session: "s_2", seq: 0 });
  await refuseHello("bad_request");
  await pass(500);
  FakeSocket.last.accept();
  await refuseHello("bad_request");
  assert.equal(of("closed")[0].code, "bad_request");
});

test("attempts come less and less often, and without end", async () => {
  const waits = [];
  for (let attempt = 0; attempt < 12; attempt += 1) {
    const before = FakeSocket.all.length;
    FakeSocket.last.lose();
    let waited = 0;
    while (FakeSocket.all.length === before && waited < 60_000) {
      await pass(50);
      waited += 50;
    }
    waits.push(waited);
  }
  assert.ok(waits[0] <= 300, `first wait ${waits[0]} ms`);
  assert.ok(waits.every((wait) => wait <= 5_050), `waits ${waits}`);
  assert.ok(waits.at(-1) >= 2_500, `last wait ${waits.at(-1)} ms`);
});

test("a socket without a welcome is soon tried again, with more patience each time", async () => {
  FakeSocket.last.accept();
  await pass(3_000);
  assert.ok(FakeSocket.all[0].closed);
  await pass(300);
  assert.equal(FakeSocket.all.length, 2);
  await pass(4_000);
  assert.ok(!FakeSocket.last.closed);
  FakeSocket.last.accept().welcome();
  await pass(9_000);
  assert.equal(FakeSocket.all.length, 2);
});

test("a socket that began in an outage is soon given up for one from the address of now", async () => {
  FakeSocket.last.accept().welcome();
  signal.check();
  const begunInOutage = FakeSocket.last;
  await pass(400);
  assert.equal(of("lost").length, 1);
  await pass(1_000);
  assert.ok(begunInOutage.closed);
  await pass(500);
  assert.equal(FakeSocket.all.length, 3);
  FakeSocket.last.accept();
  await pass(2_900);
  assert.ok(!FakeSocket.last.closed, "an open socket has the time of before");
});

test("on a long way a socket has the time that opening takes", async () => {
  FakeSocket.last.accept();
  await pass(800);
  FakeSocket.last.welcome();
  FakeSocket.last.lose();
  await pass(300);
  const second = FakeSocket.last;
  await pass(3_100);
  assert.ok(!second.closed);
});

test("a request without a reply goes out on another socket, where it is answered once", async () => {
  const first = FakeSocket.last.accept().welcome();
  const reply = signal.request("publish", { mid: "0", source: "camera" });
  await pass(5_000);
  assert.ok(first.closed);
  await pass(300);
  const second = FakeSocket.last.accept().welcome({ resumed: true });
  const [again] = second.sentOf("publish");
  second.say({ re: again.id, type: "published", track: "t_1" });
  assert.equal((await reply).track, "t_1");
  await pass(9_000);
  assert.equal(FakeSocket.all.length, 2);
});

test("long messages go compressed, and nothing overtakes them", async () => {
  const socket = FakeSocket.last.accept().welcome();
  assert.equal(socket.sent[0].deflate, true);
  const frames = [];
  socket.send = (frame) => frames.push(frame);
  const offer = "a=rtcp-fb:96 transport-cc\r\n".repeat(500);
  signal.request("join", { room: "kitchen", name: "Ada", offer }).catch(() => {});
  signal.request("ping", {}).catch(() => {});
  while (frames.length < 2) await new Promise(setImmediate);
  assert.ok(frames[0].byteLength < 500, `${frames[0].byteLength} bytes`);
  assert.equal(JSON.parse(await inflate(frames[0])).offer, offer);
  assert.equal(JSON.parse(frames[1]).type, "ping");
});

test("compressed events are heard in their order", async () => {
  const socket = FakeSocket.last.accept().welcome();
  const event = (seq) => JSON.stringify({ seq, type: "slot", mid: String(seq), track: null });
  socket.onmessage({ data: await deflate(event(1)) });
  socket.onmessage({ data: event(2) });
  while (of("event").length < 2) await new Promise(setImmediate);
  socket.onmessage({ data: event(3) });
  assert.deepEqual(of("event").map(({ seq }) => seq), [1, 2, 3]);
});

test("a frame that cannot be read is left out, and is no unhandled rejection", async (t) => {
  t.mock.method(console, "error", () => {});
  const unhandled = [];
  const onUnhandled = (error) => unhandled.push(error);
  process.on("unhandledRejection", onUnhandled);
  const socket = FakeSocket.last.accept().welcome();
  const event = (seq) => JSON.stringify({ seq, type: "slot", mid: String(seq), track: null });
  // The second is found to be none while the first, which is long, is still being read.
  socket.onmessage({ data: await deflate(event(1).padEnd(4_000_000)) });
  socket.onmessage({ data: new Uint8Array([255, 255]).buffer });
  socket.onmessage({ data: event(2) });
  while (of("event").length < 2) await new Promise(setImmediate);
  await new Promise(setImmediate);
  process.off("unhandledRejection", onUnhandled);
  assert.deepEqual(unhandled, []);
});

test("silence for two ping intervals counts as a lost socket", async () => {
  const first = FakeSocket.last.accept().welcome();
  for (let beat = 0; beat < 5; beat += 1) {
    await pass(10_000);
    first.say({ re: first.sentOf("ping").at(-1).id, type: "pong" });
  }
  assert.equal(of("lost").length, 0);
  for (let beat = 0; beat < 3; beat += 1) await pass(10_000);
  assert.equal(of("lost").length, 1);
  assert.ok(first.closed);
});

test("where the server may not be heard any more, another socket takes over as soon as it opens", async () => {
  const old = FakeSocket.last.accept().welcome();
  signal.check();
  const rival = FakeSocket.last;
  assert.notEqual(rival, old);
  assert.equal(old.sentOf("ping").length, 1);
  rival.accept();
  assert.ok(old.closed);
  assert.deepEqual(rival.sentOf("hello").map(({ resume }) => resume), [{ session: "s_1", seq: 0 }]);
  rival.welcome({ resumed: true });
  assert.deepEqual(of("open").map(({ resumed }) => resumed), [false, true]);
  await pass(1_000);
  assert.equal(FakeSocket.last, rival);
});

test("another socket that was opened in doubt is dropped when the server is heard", async () => {
  const old = FakeSocket.last.accept().welcome();
  signal.check();
  const rival = FakeSocket.last;
  old.say({ re: old.sentOf("ping")[0].id, type: "pong" });
  assert.ok(rival.closed);
  rival.accept();
  await pass(1_000);
  assert.equal(rival.sent.length, 0);
  assert.ok(!old.closed);
  assert.equal(of("lost").length, 0);
});

test("a socket that says nothing is given up for another that is not open yet, or for a third", async () => {
  const old = FakeSocket.last.accept().welcome();
  signal.check();
  const rival = FakeSocket.last;
  await pass(400);
  assert.ok(old.closed);
  assert.equal(FakeSocket.last, rival);
  rival.accept().welcome({ resumed: true });
  signal.check();
  FakeSocket.last.lose();
  await pass(400);
  assert.ok(rival.closed);
  assert.equal(FakeSocket.all.length, 4);
  FakeSocket.last.accept().welcome({ resumed: true });
  assert.equal(of("open").length, 3);
});

test("a good socket is not given up because its answers take long", async () => {
  const slow = FakeSocket.last.accept();
  await pass(900);
  slow.welcome();
  signal.check();
  await pass(900);
  assert.ok(!slow.closed);
  slow.say({ re: slow.sentOf("ping")[0].id, type: "pong" });
  for (let times = 0; times < 20; times += 1) {
    signal.check();
    await pass(900);
    slow.say({ re: slow.sentOf("ping").at(-1).id, type: "pong" });
  }
  assert.ok(!slow.closed);
  assert.equal(of("lost").length, 0);
  signal.check();
  await pass(3_000);
  assert.ok(slow.closed, "one that says nothing is");
});

test("whoever ends the call when the socket is lost is left with no other", async () => {
  FakeSocket.last.accept().welcome();
  signal.on("lost", () => signal.close());
  signal.check();
  const rival = FakeSocket.last.accept();
  assert.ok(rival.closed);
  assert.equal(rival.sent.length, 0);
  await pass(10_000);
  assert.equal(FakeSocket.last, rival);
});

test("a wrong token ends the session, an overloaded server is asked again", async () => {
  const first = FakeSocket.last.accept();
  first.say({ re: first.sent[0].id, type: "error", code: "overloaded", message: "Later." });
  assert.equal(of("closed").length, 0);
  await pass(300);
  const second = FakeSocket.last.accept();
  assert.notEqual(second, first);
  const waiting = signal.request("join", { room: "kitchen", name: "Ada" });
  second.say({ re: second.sent[0].id, type: "error", code: "unauthorized", message: "The token has expired." });
  await assert.rejects(waiting, { code: "unauthorized" });
  assert.equal(of("closed")[0].message, "The token has expired.");
  await pass(60_000);
  assert.equal(FakeSocket.all.length, 2);
});

test("frames that are no protocol are ignored", () => {
  const socket = FakeSocket.last.accept().welcome();
  for (const data of ["", "{", "null", "[]", "7", '{"re":99,"type":"pong"}', '{"type":"error","code":"bad_message"}']) {
    socket.onmessage({ data });
  }
  assert.equal(of("event").length, 0);
  assert.equal(of("lost").length, 0);
});

/** Ends the session of before each test, and begins one whose tokens the application renews. */
function renewing(tokens) {
  signal.close();
  heard.length = 0;
  const asked = mock.fn(() => {
    const token = tokens.shift();
    return token instanceof Error ? Promise.reject(token) : token;
  });
  signal = new Signal({ url: "ws://test/v1/ws", token: "first", getToken: asked, socketClass: FakeSocket });
  for (const type of ["event", "open", "lost", "closed"]) signal.on(type, (detail) => heard.push([type, detail]));
  signal.start();
  return asked;
}

/** Says no to the hello on the last socket. */
async function refuseHello(code) {
  const [{ id }] = FakeSocket.last.sentOf("hello");
  FakeSocket.last.say({ re: id, type: "error", code, message: "No." });
  await settle();
}

/** Until the application's answer has been made use of. */
async function settle() {
  for (let turn = 0; turn < 8; turn += 1) await pass();
}

/** The token of the hello on a socket that has just opened. */
const shownToken = () => FakeSocket.last.accept().sentOf("hello")[0].token;

test("a token that ends soon is renewed, and again if the application has none at first", async () => {
  const asked = renewing([new Error("offline"), "second"]);
  const socket = FakeSocket.last.accept().welcome();
  socket.say({ seq: 1, type: "token_expires", in_ms: 60_000 });
  await settle();
  assert.equal(asked.mock.callCount(), 1);
  assert.deepEqual(socket.sentOf("renew"), []);
  await pass(10_000);
  await settle();
  assert.equal(socket.sentOf("renew")[0].token, "second");
  assert.deepEqual(of("event"), [], "it is no event of the call");
  socket.lose();
  await pass(300);
  assert.equal(FakeSocket.last.accept().sentOf("hello")[0].token, "second");
});

test("a refused or ended token is replaced once, and then the call ends", async () => {
  const asked = renewing(["second", "third"]);
  FakeSocket.last.accept();
  await refuseHello("unauthorized");
  assert.equal(FakeSocket.last.accept().sentOf("hello")[0].token, "second");
  FakeSocket.last.welcome();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  assert.equal(FakeSocket.last.accept().sentOf("hello")[0].token, "third");
  await refuseHello("unauthorized");
  assert.equal(asked.mock.callCount(), 2);
  assert.equal(of("closed")[0].code, "unauthorized");
});

test("without the application's word a call ends with its token", async () => {
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ seq: 1, type: "token_expires", in_ms: 60_000 });
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await pass();
  assert.equal(of("closed")[0].code, "token_expired");
});

test("a network that comes back while another token is asked for does not end the session", async () => {
  let give;
  const asked = renewing([new Promise((resolve) => (give = resolve))]);
  FakeSocket.last.accept();
  await refuseHello("unauthorized");
  browserWindow.dispatchEvent(new Event("online"));
  await pass(20_000);
  assert.equal(FakeSocket.all.length, 2, "nothing is tried with the token of before");
  give("second");
  await settle();
  assert.equal(FakeSocket.all.length, 3);
  assert.equal(shownToken(), "second");
  FakeSocket.last.welcome();
  assert.equal(asked.mock.callCount(), 1);
  assert.deepEqual(of("closed"), []);
});

test("an application that has no token at first is asked again, at once when the network comes", async () => {
  const offline = new Error("offline");
  const asked = renewing([offline, offline, offline, "second"]);
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  assert.equal(signal.refusal.code, "token_expired");
  await pass(4_900);
  await settle();
  assert.equal(asked.mock.callCount(), 1);
  await pass(100);
  await settle();
  assert.equal(asked.mock.callCount(), 2);
  for (let times = 0; times < 2; times += 1) {
    browserWindow.dispatchEvent(new Event("online"));
    await settle();
  }
  assert.equal(asked.mock.callCount(), 4);
  assert.equal(shownToken(), "second");
  FakeSocket.last.welcome();
  assert.equal(signal.refusal, null);
  await pass(9_000);
  assert.deepEqual([of("closed"), asked.mock.callCount(), FakeSocket.all.length], [[], 4, 3]);
});

test("a token that has ended before the server could take it is replaced too", async () => {
  const asked = renewing(["second", "third"]);
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  FakeSocket.last.lose();
  for (let second = 0; second < 120; second += 1) await pass(1_000);
  while (FakeSocket.last.closed) await pass(50);
  assert.equal(shownToken(), "second");
  await refuseHello("unauthorized");
  assert.equal(shownToken(), "third");
  FakeSocket.last.welcome();
  assert.equal(asked.mock.callCount(), 2);
  assert.deepEqual(of("closed"), []);
});

test("a token that came while the one before was refused is tried before another is asked for", async () => {
  const gives = [];
  const asked = renewing([new Promise((resolve) => gives.push(resolve)), new Promise((resolve) => gives.push(resolve))]);
  const warn = (seq) => FakeSocket.last.say({ seq, type: "token_expires", in_ms: 60_000 });
  FakeSocket.last.accept().welcome();
  warn(1);
  FakeSocket.last.lose();
  await pass(300);
  assert.equal(shownToken(), "first");
  gives[0]("second");
  await settle();
  await refuseHello("unauthorized");
  assert.equal(shownToken(), "second");
  FakeSocket.last.welcome({ resumed: true });
  // The session ends while it is being given the next one.
  warn(2);
  gives[1]("third");
  await settle();
  assert.equal(FakeSocket.last.sentOf("renew").at(-1).token, "third");
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  assert.equal(shownToken(), "third");
  assert.equal(asked.mock.callCount(), 2);
  assert.deepEqual(of("closed"), []);
});

test("who ends the call when it is lost for its token is not asked for another", async () => {
  const asked = renewing(["second"]);
  signal.on("lost", () => signal.close());
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  assert.equal(asked.mock.callCount(), 0);
});

test("an application that never answers is asked again", async () => {
  const never = new Promise(() => {});
  const asked = renewing([never, "second", never, "third"]);
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  await pass(29_900);
  await settle();
  assert.equal(asked.mock.callCount(), 1);
  await pass(100);
  await settle();
  await pass(5_000);
  await settle();
  assert.equal(shownToken(), "second");

  FakeSocket.last.welcome().say({ seq: 1, type: "token_expires", in_ms: 60_000 });
  await settle();
  for (let second = 0; second < 40; second += 1) {
    await pass(1_000);
    await settle();
    for (const { id } of FakeSocket.last.sentOf("ping")) FakeSocket.last.say({ re: id, type: "pong" });
  }
  assert.equal(FakeSocket.last.sentOf("renew")[0].token, "third");
});

test("what the application throws at once is as good as a promise that rejects", async () => {
  signal.close();
  const getToken = mock.fn(() => "second");
  getToken.mock.mockImplementationOnce(() => {
    throw new Error("offline");
  });
  signal = new Signal({ url: "ws://test/v1/ws", token: "first", getToken, socketClass: FakeSocket });
  signal.start();
  FakeSocket.last.accept();
  await refuseHello("unauthorized");
  await pass(5_000);
  await settle();
  assert.equal(shownToken(), "second");
  FakeSocket.last.welcome();
  // What it was given time for has no end of its own.
  await pass(30_000);
  await new Promise(setImmediate);
});

test("a session that was begun with the new token is not given another one", async () => {
  const asked = renewing(["second", "third"]);
  const first = FakeSocket.last.accept().welcome();
  first.say({ seq: 1, type: "token_expires", in_ms: 60_000 });
  await settle();
  assert.equal(first.sentOf("renew").length, 1);
  first.lose();
  await pass(300);
  assert.equal(shownToken(), "second");
  FakeSocket.last.welcome({ session: "s_2", resumed: false });
  await settle();
  for (let second = 0; second < 15; second += 1) {
    await pass(1_000);
    await settle();
  }
  assert.equal(asked.mock.callCount(), 1);
});

test("an application that had no token for the warning is not asked again once the server has one", async () => {
  const offline = new Error("offline");
  const asked = renewing([offline, offline, "third", "fourth"]);
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ seq: 1, type: "token_expires", in_ms: 60_000 });
  await settle();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  await pass(5_000);
  await settle();
  assert.equal(shownToken(), "third");
  FakeSocket.last.welcome({ session: "s_2" });
  for (let second = 0; second < 15; second += 1) {
    await pass(1_000);
    await settle();
  }
  assert.equal(asked.mock.callCount(), 3);
  assert.deepEqual(FakeSocket.last.sentOf("renew"), []);
});

test("a token that was taken late does not make the next one look unseen", async () => {
  const asked = renewing(["second", "third", "fourth"]);
  FakeSocket.last.accept().welcome();
  FakeSocket.last.say({ seq: 1, type: "token_expires", in_ms: 60_000 });
  await settle();
  FakeSocket.last.lose();
  // A night's sleep with the request unanswered.
  mock.timers.setTime(Date.now() + 8 * 3_600_000);
  await pass(300);
  assert.equal(shownToken(), "second");
  await refuseHello("unauthorized");
  assert.equal(shownToken(), "third");
  FakeSocket.last.welcome({ session: "s_2" });
  await settle();
  FakeSocket.last.say({ type: "closing", code: "token_expired", message: "It has ended.", in_ms: 0 });
  await settle();
  assert.equal(shownToken(), "fourth");
  assert.equal(asked.mock.callCount(), 3);
});
