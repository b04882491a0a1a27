/** Silence where something was received all the time: noticed within a second, once, and only then. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Hearing } from "../sdk/hearing.js";

let now;
let newest;
let silences;
let hearing;
beforeEach(() => {
  mock.timers.enable({ apis: ["setInterval"] });
  [now, newest, silences] = [0, 0, 0];
  hearing = new Hearing({ newest: () => newest, onSilence: () => (silences += 1), now: () => now });
});
afterEach(() => {
  hearing.close();
  mock.timers.reset();
});

function pass(ms, isReceiving) {
  for (let at = 0; at < ms; at += 50) {
    now += 50;
    if (isReceiving) newest = now;
    mock.timers.tick(50);
  }
}

test("who hears nothing from the start has lost nothing", () => {
  pass(10_000, false);
  assert.equal(silences, 0);
});

test("what ends is missed within a second, and once", () => {
  pass(3_000, true);
  pass(450, false);
  assert.equal(silences, 0);
  pass(200, false);
  assert.equal(silences, 1);
  assert.ok(hearing.isSilent);
  pass(10_000, false);
  assert.equal(silences, 1);
  pass(3_000, true);
  assert.ok(!hearing.isSilent);
  pass(1_000, false);
  assert.equal(silences, 2);
});

test("a single packet is no stream", () => {
  pass(5_000, false);
  newest = now;
  pass(5_000, false);
  assert.equal(silences, 0);
});

test("a packet that the browser has forgotten of is no new one", () => {
  pass(3_000, true);
  const last = newest;
  pass(10_000, false);
  assert.ok(hearing.isSilent);
  // Synchronization sources go after ten seconds.
  newest = 0;
  pass(300, false);
  assert.ok(hearing.isSilent, "it is as silent as before");
  newest = last + 10_400;
  pass(5_000, false);
  assert.equal(silences, 1, "and what comes then is a single packet");
});

test("an outage is remembered for as long as asked", () => {
  pass(3_000, true);
  assert.ok(!hearing.wasOut(60_000));
  pass(1_000, false);
  assert.ok(hearing.wasOut(0));
  pass(1_000, true);
  assert.ok(hearing.wasOut(2_000));
  pass(2_000, true);
  assert.ok(!hearing.wasOut(2_000));
});

test("where the server is heard nobody sends anything, and the network is as it was", () => {
  pass(3_000, true);
  pass(600, false);
  assert.ok(hearing.isSilent);
  hearing.handleAnswer();
  pass(20_000, false);
  newest = 0;
  pass(20_000, false);
  assert.ok(!hearing.isSilent);
  assert.equal(silences, 1);
  pass(1_000, true);
  pass(600, false);
  assert.ok(hearing.isSilent);
});
