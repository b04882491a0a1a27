/**
 * Signaling cut a thousand times, at any point of either direction, while people come, go, publish,
 * mute and pin: whenever it is quiet, every client knows what the server knows. The real server, the
 * real SDK, and no media.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { WebSocket as RealSocket } from "ws";
import { browserWindow, FakeTrack, installFakes } from "./fake-peer.mjs";
import { Server } from "./server.mjs";

installFakes();
const { Confab } = await import("../sdk/confab.js");
const { Signal } = await import("../sdk/signal.js");

const CUTS = 1_000;
const SEED = Number(process.env.CONFAB_SEED ?? 23);
const PEOPLE = 6;
/** So many cuts between two quiet points. */
const ROUND = 25;
/** A socket is cut after so many frames at most, those of both directions together. */
const MOST_FRAMES = 12;
/** Until the next socket is opened, milliseconds at most: what happens meanwhile is missed. */
const MOST_AWAY_MS = 25;
/** Between two things that somebody does, milliseconds at most. */
const MOST_PAUSE_MS = 6;
/** Most own tracks; the server's limit is higher. */
const MOST_TRACKS = 4;
/** The server's own threads need a moment to be quiet, milliseconds. */
const SETTLE_MS = 5_000;
/** What may be answered to somebody who has not heard yet that a track is gone. */
const LATE = new Set(["unknown_track", "no_slot"]);

/** Mulberry32. */
function randomness(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (count) => Math.floor(next() * count), chance: (share) => next() < share };
}

const random = randomness(SEED);
const pick = (list) => list[random.below(list.length)];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let cuts = 0;
let isCutting = false;

/** A WebSocket whose network goes away after some frames. */
class FrailSocket {
  #socket;
  #left = random.below(MOST_FRAMES);
  #isCut = false;

  constructor(url) {
    this.#socket = new RealSocket(url, { perMessageDeflate: false });
    this.#socket.binaryType = "arraybuffer";
    this.#socket.on("error", () => {});
    this.#socket.on("open", () => this.#isCut || this.onopen?.());
    this.#socket.on("close", () => this.#isCut || this.onclose?.());
    this.#socket.on("message", (data, isBinary) => {
      if (this.#isCut) return;
      if (this.#mayPass()) this.onmessage?.({ data: isBinary ? data : Buffer.from(data).toString() });
      else this.#cut(() => this.#socket.terminate());
    });
  }

  send(data) {
    if (this.#isCut) return;
    if (this.#mayPass()) this.#socket.send(data);
    // The server hears of it, and what it says is lost; or it does not.
    else if (random.chance(0.5)) this.#cut(() => this.#socket.send(data, () => this.#socket.terminate()));
    else this.#cut(() => this.#socket.terminate());
  }

  close(code) {
    this.#isCut = true;
    this.#socket.close(code);
  }

  #mayPass() {
    if (!isCutting) return true;
    this.#left -= 1;
    return this.#left >= 0;
  }

  #cut(end) {
    this.#isCut = true;
    cuts += 1;
    // The server may notice much later than the client.
    if (random.chance(0.2)) setTimeout(end, 50);
    else end();
    setImmediate(() => this.onclose?.());
    setTimeout(() => browserWindow.dispatchEvent(new Event("online")), random.below(MOST_AWAY_MS));
  }
}
globalThis.WebSocket = FrailSocket;

/** The signaling session that was begun last. */
let begun;
Signal.prototype.start = new Proxy(Signal.prototype.start, {
  apply: (start, signal) => {
    begun = signal;
    start.call(signal);
  },
});

/** Somebody who is in the room now and then. */
class Person {
  /** @type {import("../sdk/confab.js").Call | null} */
  call = null;
  /** @type {Signal | null} */
  signal = null;
  #last = Promise.resolve();
  problems = [];

  constructor(name, url) {
    this.name = name;
    this.url = url;
  }

  /** Does something, after what it does already. */
  act() {
    this.#last = this.#last.then(() => this.#step()).catch((error) => LATE.has(error.code) || this.problems.push(error));
  }

  get done() {
    return this.#last;
  }

  async #step() {
    if (!this.call) {
      const tracks = random.chance(0.5) ? [new FakeTrack("audio"), new FakeTrack("video")] : [];
      const joining = Confab.join({ url: this.url, room: "cuts", name: this.name, tracks, simulcast: false });
      this.signal = begun;
      this.call = await joining;
      return;
    }
    const { call } = this;
    const own = pick(call.publications);
    const others = [...call.participants.values()].flatMap(({ tracks }) => [...tracks.keys()]);
    const other = pick(others);
    switch (random.below(9)) {
      case 0:
        this.call = null;
        return call.leave();
      case 1:
      case 2:
      case 3:
        if (call.publications.length >= MOST_TRACKS) return;
        await call.publish(new FakeTrack(random.chance(0.5) ? "audio" : "video"), { source: "other" });
        return;
      case 4:
      case 5:
        return own && call.unpublish(own);
      case 6:
        return own && call.setMuted(own, !own.muted);
      case 7:
        return other && call.pin(other);
      default:
        return other && call.unpin(other);
    }
  }

  /** What it knows of the room: who is there, with which tracks. */
  room() {
    const { id, publications, participants } = this.call;
    const own = publications.map((track) => ({ id: track.id, muted: track.muted }));
    const self = { id, name: this.name, tracks: new Map(own.map((track) => [track.id, track])) };
    return [...participants.values(), self].map(factOf);
  }

  /** Which slot it takes to show which track. */
  slots() {
    const mids = new Map(this.call.peerConnection.getTransceivers().map(({ mid, receiver }) => [receiver.track, mid]));
    const tracks = [...this.call.participants.values()].flatMap(({ tracks }) => [...tracks.values()]);
    return tracks.filter(({ mediaStreamTrack }) => mediaStreamTrack)
      .map(({ id, mediaStreamTrack }) => `slot ${mids.get(mediaStreamTrack)} with ${id}`);
  }

  /** The same as the server answers when the last offer is repeated. */
  async slotsAtServer() {
    const { slots } = await this.signal.request("offer", { sdp: this.call.peerConnection.localDescription.sdp });
    return slots.filter(({ track }) => track).map(({ mid, track }) => `slot ${mid} with ${track}`);
  }
}

/** A participant in a line. */
function factOf({ id, name, tracks }) {
  const all = [...tracks.values()].map(({ id, muted }) => `${id}${muted ? " muted" : ""}`);
  return `${id} ${name} with ${all.sort().join(", ") || "nothing"}`;
}

/** The room as the server has it: what it tells somebody who comes in now. */
async function roomOf(server) {
  const socket = new RealSocket(`${server.url.replace("http", "ws")}/v1/ws`);
  await once(socket, "open");
  const ask = async (message) => {
    socket.send(JSON.stringify(message));
    for (;;) {
      const [data] = await once(socket, "message");
      const reply = JSON.parse(data);
      if (reply.re === message.id) return reply;
    }
  };
  await ask({ id: 1, type: "hello", version: 1 });
  const { participants } = await ask({ id: 2, type: "join", room: "cuts" });
  socket.close(1000);
  return participants.map(factOf);
}

let server;
const people = [];
before(async () => {
  server = await Server.start();
  for (let n = 1; n <= PEOPLE; n += 1) people.push(new Person(`Person ${n}`, server.url));
});
after(async () => {
  isCutting = false;
  for (const { call } of people) await call?.leave();
  await server?.kill();
});

/** What of the server's state somebody does not know. */
async function differences() {
  const found = [];
  for (const person of people) {
    if (!person.call) continue;
    const room = difference(person.room(), await roomOf(server));
    const slots = difference(person.slots(), await person.slotsAtServer());
    found.push(...[...room, ...slots].map((what) => `${person.name}: ${what}`));
  }
  return found;
}

/** Facts of the one that are not among those of the other, in words. */
function difference(known, actual) {
  const believed = known.filter((fact) => !actual.includes(fact)).map((fact) => `${fact} is believed`);
  const missed = actual.filter((fact) => !known.includes(fact)).map((fact) => `${fact} is not known`);
  return [...believed, ...missed];
}

test(`signaling cut ${CUTS} times at random leaves every client with the server's state (seed ${SEED})`, async (t) => {
  let points = 0;
  while (cuts < CUTS) {
    isCutting = true;
    const enough = cuts + ROUND;
    while (cuts < enough) {
      pick(people).act();
      await pause(random.below(MOST_PAUSE_MS));
    }
    isCutting = false;
    await Promise.all(people.map(({ done }) => done));
    for (const { name, problems } of people) assert.deepEqual(problems, [], name);
    const deadline = performance.now() + SETTLE_MS;
    let wrong = await differences();
    while (wrong.length > 0 && performance.now() < deadline) {
      await pause(20);
      wrong = await differences();
    }
    assert.deepEqual(wrong, [], `after ${cuts} cuts`);
    points += 1;
  }
  t.diagnostic(`${cuts} cuts, ${points} quiet points`);
});
