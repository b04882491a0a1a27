/** How a call mends itself, against a server and a browser that do as the test says. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { FakePeerConnection, FakeTrack, installFakes } from "./fake-peer.mjs";
import { ScriptedServer } from "./scripted-server.mjs";

installFakes();
// Messages go as they are, so that time does not have to pass for them.
delete globalThis.CompressionStream;
const { Call } = await import("../sdk/confab.js");

const RELAY = {
  ice_servers: [{ urls: ["turn:192.0.2.1:3478?transport=udp", "turn:192.0.2.1:3478?transport=tcp"], username: "u", credential: "c" }],
  expires_in: 60,
};

let server;
let call;
let unhandled;
let now;
const onUnhandled = (error) => unhandled.push(error);

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  now = 0;
  mock.method(performance, "now", () => now);
  for (const name of ["info", "warn"]) mock.method(console, name, () => {});
  FakePeerConnection.all = [];
  FakePeerConnection.pause = () => Promise.resolve();
  server = new ScriptedServer();
  globalThis.WebSocket = server.socketClass;
  unhandled = [];
  process.on("unhandledRejection", onUnhandled);
});

afterEach(async () => {
  server.release();
  await Promise.all([call?.leave(), pass(2_000)]);
  mock.timers.reset();
  mock.restoreAll();
  // Such are told of after all microtasks.
  await new Promise(setImmediate);
  process.off("unhandledRejection", onUnhandled);
  assert.deepEqual(unhandled, []);
});

/** Lets what is under way go on, and time pass. */
async function pass(ms = 0) {
  for (let left = ms; left >= 0; left -= 50) {
    for (let turn = 0; turn < 60; turn += 1) await Promise.resolve();
    const step = Math.min(50, left);
    now += step;
    if (step > 0) mock.timers.tick(step);
  }
}

function makeCall(options = {}) {
  call = new Call({ url: "ws://test/v1/ws", room: "kitchen", name: "Ada", simulcast: false, ...options });
  return call;
}

/** A call that is there. */
async function joined(options) {
  const started = makeCall(options).start();
  await pass();
  await started;
  assert.equal(call.state, "connected");
  return call;
}

const connection = () => FakePeerConnection.all.at(-1);

test("a session that is lost again while it is rejoined is rejoined", async () => {
  await joined();
  server.forget();
  server.held.add("join");
  server.lose();
  await pass(500);
  assert.equal(server.requestsOf("join").length, 2);
  server.forget();
  server.lose();
  await pass(500);
  server.release();
  await pass(10_000);
  assert.equal(call.state, "connected");
  assert.equal(server.requestsOf("join").length, 3);
  assert.equal(server.requestsOf("offer").length, 0, "one connection for each session");
});

test("a session that is lost while it is joined first does not end the call", async () => {
  server.held.add("join");
  const started = makeCall().start();
  await pass();
  server.forget();
  server.lose();
  await pass(500);
  server.release();
  await pass();
  await started;
  assert.equal(call.state, "connected");
});

test("who has other ids after a restart has their own names", async () => {
  const person = (id, name) => ({ id, name, tracks: [{ id: "t_a", kind: "audio", source: "microphone", muted: false }] });
  server.participants = [person("p_1", "Grace"), person("p_2", "Alan")];
  await joined();
  server.forget();
  server.participants = [person("p_2", "Grace"), person("p_3", "Alan")];
  const left = [];
  call.on("participantleft", ({ participant }) => left.push(participant.name));
  server.lose();
  await pass(1_000);
  assert.deepEqual([...call.participants.values()].map(({ id, name }) => `${id} ${name}`), ["p_2 Grace", "p_3 Alan"]);
  assert.deepEqual(left, ["Grace", "Alan"]);
});

test("who cannot be reached is told of, until heard of again", async () => {
  server.participants = [{ id: "p_1", name: "Grace", tracks: [], unreachable: true }, { id: "p_2", name: "Alan", tracks: [] }];
  await joined();
  const told = [];
  call.on("unreachable", ({ participant: { name, unreachable } }) => told.push([name, unreachable]));
  const [grace, alan] = call.participants.values();
  assert.deepEqual([grace.unreachable, alan.unreachable], [true, false]);
  for (const [participant, unreachable] of [["p_1", false], ["p_2", true], ["p_2", true], ["p_9", true]]) {
    server.say({ type: "unreachable", participant, unreachable });
  }
  assert.deepEqual(told, [["Grace", false], ["Alan", true]]);
});

test("a server that does not answer at first is tried on, one that is not there is given up", async () => {
  server.network = "silent";
  const started = makeCall().start();
  const problems = [];
  call.on("error", ({ error, fatal }) => problems.push(`${error.code}${fatal ? ", over" : ""}`));
  await pass(25_000);
  assert.deepEqual(problems, ["server_gone", "server_gone"]);
  server.network = "open";
  await pass(15_000);
  await started;
  assert.equal(call.state, "connected");
  await call.leave();

  for (const [network, seconds] of [["refused", 10], ["silent", 60]]) {
    server.network = network;
    const refused = assert.rejects(makeCall().start(), { code: "server_gone" });
    await pass((seconds - 1) * 1_000);
    assert.equal(call.state, "connecting", network);
    await pass(2_000);
    await refused;
    assert.equal(call.state, "closed");
  }
});

test("a connection that is being replaced is not replaced once more when the server misses it", async () => {
  await joined();
  server.held.add("offer");
  connection().turn("failed");
  await pass();
  connection().turn("failed");
  await pass();
  server.release();
  server.held.add("offer");
  await pass();
  assert.equal(server.requestsOf("offer").at(-1).new_connection, true);
  assert.equal(FakePeerConnection.all.length, 2);
  server.say({ type: "reconnect", reason: "consent_lost", message: "Of the one before." });
  server.release();
  await pass(10_000);
  assert.equal(call.state, "connected");
  assert.equal(FakePeerConnection.all.length, 2);
  server.say({ type: "reconnect", reason: "consent_lost", message: "Of this one." });
  await pass(1_000);
  assert.equal(FakePeerConnection.all.length, 3);
});

test("what is unpublished while it is offered leaves nothing behind", async () => {
  await joined();
  server.held.add("offer");
  const publishing = call.publish(new FakeTrack("video"), { source: "other" });
  await pass();
  const unpublishing = call.unpublish(call.publications[0]);
  await pass();
  server.release();
  await pass();
  await Promise.all([publishing, unpublishing]);
  assert.deepEqual([...server.tracks], []);

  // Its m-line is there again for the next one, and may be taken back as well.
  server.held.add("publish");
  const again = call.publish(new FakeTrack("video"), { source: "other" });
  await pass();
  const offers = server.requestsOf("offer").length;
  const takingBack = call.unpublish(call.publications[0]);
  await pass();
  server.release();
  await pass();
  await Promise.all([again, takingBack]);
  assert.deepEqual([...server.tracks], []);
  assert.equal(server.requestsOf("offer").length, offers);
  const third = call.publish(new FakeTrack("video"), { source: "other" });
  await pass();
  await third;
  assert.equal(server.requestsOf("offer").length, offers);
  assert.deepEqual([...server.tracks.keys()], call.publications.map(({ id }) => id));
});

test("what is unpublished before it is offered is not offered", async () => {
  await joined();
  server.held.add("offer");
  const first = call.publish(new FakeTrack("audio"), { source: "other" });
  await pass();
  const second = call.publish(new FakeTrack("video"), { source: "other" });
  const unpublishing = call.unpublish(call.publications[1]);
  server.release();
  await pass();
  await Promise.all([first, second, unpublishing]);
  assert.equal(server.tracks.size, 1);
});

test("a network that comes while a search is under way is searched as well", async () => {
  await joined();
  const offers = () => server.requestsOf("offer").length;
  server.held.add("offer");
  server.say({ type: "media", state: "silent" });
  server.say({ type: "media", state: "silent" });
  await pass();
  assert.equal(offers(), 1, "the same network");
  server.say({ type: "media", state: "silent" });
  server.release();
  await pass();
  assert.equal(offers(), 2, "another one");
  // Also while nothing gets through at all.
  connection().turn("disconnected");
  server.say({ type: "media", state: "silent" });
  await pass();
  assert.equal(offers(), 3);
  connection().turn("connected");
});

test("silence is no reason to look for another way, unless the server cannot be heard either", async () => {
  await joined();
  const [slot] = connection().getTransceivers();
  let timestamp = 0;
  slot.receiver.getSynchronizationSources = () => (timestamp > 0 ? [{ timestamp }] : []);
  const hear = async (ms) => {
    for (let left = ms; left > 0; left -= 50) {
      timestamp = now;
      await pass(50);
    }
  };
  await hear(2_000);
  await pass(12_000);
  server.lose();
  await pass(1_000);
  assert.equal(call.state, "connected");
  assert.equal(server.requestsOf("offer").length, 0, "all are silent");

  await hear(2_000);
  server.held.add("ping");
  server.network = "silent";
  await pass(2_000);
  // Browsers forget of packets.
  await pass(8_000);
  timestamp = 0;
  await pass(1_000);
  server.network = "open";
  await pass(12_000);
  assert.equal(call.state, "connected");
  assert.equal(server.requestsOf("offer").length, 1, "the network was away");
});

test("moving to TCP ends with the connection that it was for", async () => {
  server.relay = RELAY;
  await joined();
  server.say({ type: "media", state: "lossy" });
  await pass(4_000);
  assert.equal(server.requestsOf("offer").at(-1).avoid_udp, true);
  connection().turn("failed");
  await pass();
  assert.equal(server.requestsOf("offer").at(-1).avoid_udp, undefined);
  assert.equal(connection().configuration.iceServers[0].urls.length, 2);
  connection().turn("connected");
});

test("UDP is not left for what was lost on the network before", async () => {
  server.relay = RELAY;
  await joined();
  const moves = () => server.requestsOf("offer").filter(({ avoid_udp: avoids }) => avoids).length;
  server.say({ type: "media", state: "lossy" });
  await pass(1_000);
  server.say({ type: "media", state: "silent" });
  await pass(10_000);
  assert.equal(moves(), 0);
  server.say({ type: "media", state: "lossy" });
  await pass(4_000);
  assert.equal(moves(), 1, "this one is no better");
});

test("moving to TCP in vain is not tried again whenever UDP loses much", async () => {
  server.relay = RELAY;
  await joined();
  const moves = () => server.requestsOf("offer").filter(({ avoid_udp: avoids }) => avoids).length;
  for (let times = 0; times < 4; times += 1) {
    server.say({ type: "media", state: "lossy" });
    await pass(25_000);
  }
  assert.equal(moves(), 1);
  assert.equal(server.requestsOf("offer").length, 2, "there and back");
  await pass(60_000);
  server.say({ type: "media", state: "lossy" });
  await pass(25_000);
  assert.equal(moves(), 2);
});

test("a new connection begins with what the one before has carried", async () => {
  await joined({ tracks: [new FakeTrack("video")] });
  const startOf = (pc) => /a=fmtp:96 x-google-start-bitrate=(\d+)\r/.exec(pc.remoteDescription.sdp)?.[1];
  assert.equal(startOf(connection()), undefined);
  connection().stats.set("transport", { type: "transport", selectedCandidatePairId: "pair" });
  connection().stats.set("pair", { type: "candidate-pair", availableOutgoingBitrate: 2_345_000 });
  await pass(2_000);
  server.say({ type: "reconnect", reason: "worker_failed", message: "Its worker has failed." });
  await pass();
  assert.equal(startOf(connection()), "2345");
  await pass(90_000);
  server.say({ type: "reconnect", reason: "worker_failed", message: "Its worker has failed." });
  await pass();
  assert.equal(startOf(connection()), undefined, "the network may be another");
});

test("leaving within a listener ends all", async () => {
  const ends = [
    ["while nothing is there", () => (server.network = "silent"), (leave) => call.on("state", leave)],
    ["before it is joined", () => {}, (leave) => call.on("state", leave)],
    ["when somebody is met", () => (server.participants = [{ id: "p_1", name: "Grace", tracks: [] }]), (leave) => call.on("participant", leave)],
    ["when the server is lost", () => {}, (leave) => call.on("state", ({ state }) => state === "reconnecting" && leave())],
    ["when the server is gone", () => (server.network = "refused"), (leave) => call.on("error", leave)],
  ];
  for (const [when, prepare, listen] of ends) {
    server = new ScriptedServer();
    globalThis.WebSocket = server.socketClass;
    makeCall({ tracks: [new FakeTrack("video")] });
    prepare();
    let left;
    listen(() => (left = call.leave()));
    const started = call.start().catch(({ code }) => code);
    await pass(1_000);
    if (!left && call.state === "connected") server.lose();
    await pass(12_000);
    await left;
    await started;
    assert.equal(call.state, "closed", when);
    assert.equal(connection()?.signalingState ?? "closed", "closed", when);
    assert.ok(server.sockets.every(({ isClosed }) => isClosed), when);
    const [requests, sockets] = [server.requests.length, server.sockets.length];
    server.forget();
    server.network = "open";
    server.release();
    await pass(60_000);
    assert.deepEqual([server.requests.length, server.sockets.length], [requests, sockets], when);
  }
});

test("leaving when the server has forgotten the session is not joining once more", async () => {
  await joined();
  server.forget();
  let left;
  call.on("state", () => {
    if (server.sockets.length === 2) left ??= call.leave();
  });
  server.lose();
  await pass(2_000);
  await left;
  assert.equal(call.state, "closed");
  assert.equal(server.requestsOf("join").length, 1);
});

test("the server need not wait for who has left, and waits for who has lost a socket", async () => {
  await joined();
  const first = server.socket;
  server.held.add("ping");
  await pass(60_000);
  assert.ok(first.isClosed);
  assert.equal(first.code, undefined);
  server.release();
  await pass(1_000);
  await Promise.all([call.leave(), pass()]);
  assert.equal(server.socket.code, 1_000);
});

test("who leaves does not come back when the server forgets the session meanwhile", async () => {
  await joined();
  server.held.add("leave");
  const leaving = call.leave();
  await pass();
  server.forget();
  server.lose();
  await pass(2_000);
  await leaving;
  assert.equal(call.state, "closed");
  assert.equal(server.requestsOf("join").length, 1);
});

test("a browser that cannot be asked is no failure", async () => {
  server.relay = RELAY;
  await joined({ tracks: [new FakeTrack("video")], simulcast: undefined });
  connection().getStats = () => Promise.reject(new DOMException("It is closed.", "InvalidStateError"));
  connection().setConfiguration = () => {
    throw new DOMException("It is closed.", "InvalidStateError");
  };
  server.say({ type: "media", state: "lossy" });
  server.say({ type: "media", state: "silent" });
  await pass(20_000);
  // Half of the time of the relay's credentials: there are others.
  await pass(RELAY.expires_in * 500);
  assert.equal(call.state, "connected");
});

test("a call without a token waits for one, and does not begin without", async () => {
  server.refusedTokens.add("old");
  const getToken = mock.fn(() => Promise.reject(new Error("offline")));
  const refused = assert.rejects(makeCall({ token: "old", getToken }).start(), { code: "unauthorized", reason: "expired" });
  await pass(12_000);
  await refused;
  assert.equal(call.state, "closed");
  const asked = getToken.mock.callCount();
  assert.ok(asked > 1, `asked ${asked} times`);
  await pass(60_000);
  assert.equal(getToken.mock.callCount(), asked);

  await joined({ token: "good", getToken });
  const problems = [];
  call.on("error", ({ error, fatal }) => problems.push([error.code, fatal]));
  server.refusedTokens.add("good");
  server.end("token_expired");
  await pass(90_000);
  assert.deepEqual(problems, [["token_expired", false]]);
  assert.equal(call.state, "reconnecting");
  getToken.mock.mockImplementation(async () => "better");
  await pass(6_000);
  assert.equal(call.state, "connected");
});

test("the end of the token is told of before, with and without somebody to renew it", async () => {
  const told = [];
  for (const getToken of [undefined, async () => "better"]) {
    server = new ScriptedServer();
    globalThis.WebSocket = server.socketClass;
    await joined({ token: "good", getToken });
    call.on("tokenexpires", ({ inMs }) => told.push(inMs));
    server.say({ type: "token_expires", in_ms: 60_000 });
    await pass();
    assert.deepEqual(server.requestsOf("renew").map(({ token }) => token), getToken ? ["better"] : []);
    await Promise.all([call.leave(), pass(1_000)]);
  }
  assert.deepEqual(told, [60_000, 60_000]);
});

test("who leaves is told of no failure, whenever that is", async () => {
  const moments = [
    ["before there is a socket", () => (server.network = "silent"), 9_500],
    ["before the server has answered", () => server.held.add("hello"), 9_500],
    ["before it is joined", () => server.held.add("join"), 0],
    ["in the call", () => {}, 0],
  ];
  for (const [when, prepare, ms] of moments) {
    server = new ScriptedServer();
    globalThis.WebSocket = server.socketClass;
    prepare();
    const errors = [];
    makeCall().on("error", ({ error: { code }, fatal }) => errors.push([code, fatal]));
    const started = call.start().then(() => true, () => false);
    await pass(ms);
    // While it is left the server says no.
    server.held.add("leave");
    const left = call.leave();
    await pass(600);
    server.end("room_closed");
    await pass(1_000);
    await left;
    assert.equal(await started, when === "in the call", when);
    assert.equal(call.state, "closed", when);
    assert.deepEqual(errors, [], when);
  }
});

test("a call goes on when the server is replaced by an older one", async () => {
  server.participants = [{ id: "p_1", name: "Grace", tracks: [] }];
  await joined();
  const publishing = () => call.publish(new FakeTrack("video"), { source: "other" });
  server.held.add("offer");
  const first = publishing();
  await pass();
  server.isOlder = true;
  server.forget();
  server.lose();
  server.held.clear();
  await pass(2_000);
  await first.catch(({ code }) => assert.equal(code, "session_lost"));
  assert.equal(call.state, "connected");
  assert.equal(server.requestsOf("join").length, 2);
  // It goes on with its sessions where nothing is open, as it always did.
  server.lose();
  await pass(2_000);
  assert.equal(call.state, "connected");
  assert.equal(server.requestsOf("join").length, 2);
  server.isOlder = false;
  const second = publishing();
  await pass();
  await second;
});
