/** Servers that take media past firewalls: taken over as they are told, and asked for anew in time. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { IceServers } from "../sdk/ice-servers.js";

const HOUR_MS = 3_600_000;

let asked;
let taken;
let refuse;
let iceServers;
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  asked = 0;
  taken = [];
  refuse = false;
  iceServers = new IceServers({
    ask: async () => {
      asked += 1;
      if (refuse) throw new Error("Not now.");
      return told(asked);
    },
    take: (servers) => taken.push(servers.map(({ username }) => username).join()),
  });
});
afterEach(() => {
  iceServers.close();
  mock.timers.reset();
});

function told(number) {
  return { ice_servers: [{ urls: ["turn:192.0.2.1"], username: `user ${number}`, credential: "x" }], expires_in: 7_200 };
}

async function pass(ms) {
  mock.timers.tick(ms);
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

test("they are asked for anew halfway to their end, again and again", async () => {
  iceServers.handle(told(0));
  await pass(HOUR_MS - 1);
  assert.equal(asked, 0);
  await pass(1);
  await pass(HOUR_MS);
  assert.deepEqual(taken, ["user 0", "user 1", "user 2"]);
});

test("a refusal is not the end", async () => {
  iceServers.handle(told(0));
  refuse = true;
  await pass(HOUR_MS);
  refuse = false;
  await pass(30_000);
  assert.deepEqual(taken, ["user 0", "user 2"]);
});

test("a new session's take the place of the old one's", async () => {
  iceServers.handle(told(0));
  await pass(HOUR_MS / 2);
  iceServers.handle(told(7));
  await pass(HOUR_MS / 2);
  assert.equal(asked, 0);
  assert.deepEqual(taken, ["user 0", "user 7"]);
});

test("a server without a relay is not asked", async () => {
  iceServers.handle(undefined);
  await pass(24 * HOUR_MS);
  assert.equal(asked, 0);
  assert.deepEqual(taken, [""]);
});

test("after the call nothing is asked", async () => {
  iceServers.handle(told(0));
  iceServers.close();
  await pass(24 * HOUR_MS);
  assert.equal(asked, 0);
});
