/** From TCP back to UDP: looked for every few seconds, believed at the second look, and not for ever. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { UdpReturn } from "../sdk/udp-return.js";

let isDetour;
let works;
let went;
let udpReturn;
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  [isDetour, works, went] = [true, true, 0];
  udpReturn = new UdpReturn({
    isDetour: async () => isDetour,
    works: async () => works,
    returnToUdp: () => (went += 1),
  });
});
afterEach(() => {
  udpReturn.close();
  mock.timers.reset();
});

async function pass(seconds) {
  for (let second = 0; second < seconds; second += 1) {
    mock.timers.tick(1_000);
    for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
  }
}

test("a call goes back to UDP when it has been good at two looks in a row", async () => {
  works = false;
  await pass(60);
  assert.equal(went, 0);
  works = true;
  await pass(5);
  assert.equal(went, 0);
  await pass(4);
  assert.equal(went, 1);
});

test("a call that is on UDP looks for nothing", async () => {
  isDetour = false;
  await pass(60);
  assert.equal(went, 0);
});

test("going back in vain is tried less and less often", async () => {
  await pass(600);
  assert.ok(went >= 5 && went <= 10, `${went} times`);
});

test("nothing happens after the end", async () => {
  udpReturn.close();
  await pass(60);
  assert.equal(went, 0);
});
