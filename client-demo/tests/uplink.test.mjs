/** What is sent of a simulcast by what the own network carries. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { cameraEncodings } from "../sdk/encodings.js";
import { UplinkFit } from "../sdk/uplink.js";

const CAMERA = { width: 1280, height: 720 };

/** Which encodings go, as lines of the picture; 0 for those that do not. */
function lines(fit, wanted, kbps, { isPair = true, now = 0 } = {}) {
  const encodings = cameraEncodings(CAMERA).map((encoding, index) => ({ ...encoding, active: wanted[index] }));
  fit.handleWanted(wanted, now);
  const available = kbps === undefined ? undefined : kbps * 1_000;
  return fit.fit(encodings, { available, isPair }, now)
    .map(({ active, scaleResolutionDownBy }) => (active ? CAMERA.height / scaleResolutionDownBy : 0));
}

const ALL = [true, true, true];

test("an ample network is left to the browser and the server", () => {
  assert.deepEqual(lines(new UplinkFit(), ALL, 4_000), [180, 360, 720]);
  assert.deepEqual(lines(new UplinkFit(), [false, false, true], 4_000), [0, 0, 720]);
});

test("a browser that does not tell what fits is left alone", () => {
  assert.deepEqual(lines(new UplinkFit(), ALL, undefined), [180, 360, 720]);
});

test("in a call of two, one picture gets a narrow network to itself, as large as that carries", () => {
  for (const [kbps, wanted] of [[1_400, 720], [1_000, 720], [700, 360], [400, 360], [200, 180], [60, 180]]) {
    assert.deepEqual(lines(new UplinkFit(), ALL, kbps), [0, 0, wanted], `${kbps} kbit/s`);
  }
});

test("among many, everybody gets something: the smaller ones come first", () => {
  assert.deepEqual(lines(new UplinkFit(), ALL, 400, { isPair: false }), [180, 360, 720]);
  // But what goes alone fits, whoever sees it.
  assert.deepEqual(lines(new UplinkFit(), [false, false, true], 400, { isPair: false }), [0, 0, 360]);
});

test("a network that gets narrower, and wide again: no flapping in between", () => {
  const fit = new UplinkFit();
  const top = [false, false, true];
  // Seconds, kbit/s, lines.
  const story = [[0, 4_000, 720], [1, 750, 360], [12, 900, 360], [13, 1_100, 720], [14, 850, 720], [15, 150, 180], [16, 4_000, 180], [23, 4_000, 720]];
  for (const [seconds, kbps, wanted] of story) {
    assert.deepEqual(lines(fit, top, kbps, { now: 1_000 * seconds }), [0, 0, wanted], `${kbps} kbit/s after ${seconds} s`);
  }
});

test("all go again when all fit with something to spare", () => {
  const fit = new UplinkFit();
  assert.deepEqual(lines(fit, ALL, 1_000), [0, 0, 720]);
  assert.deepEqual(lines(fit, ALL, 1_700, { now: 9_000 }), [0, 0, 720]);
  assert.deepEqual(lines(fit, ALL, 2_200, { now: 9_000 }), [180, 360, 720]);
});

test("a smaller one that the receiver's network needs goes beside the large one", () => {
  const fit = new UplinkFit();
  assert.deepEqual(lines(fit, [false, false, true], 1_000), [0, 0, 720]);
  assert.deepEqual(lines(fit, [true, false, true], 800, { now: 1_000 }), [180, 0, 720]);
  assert.deepEqual(lines(fit, [true, false, true], 800, { now: 30_000 }), [180, 0, 720]);
  assert.deepEqual(lines(fit, [true, false, false], 800, { now: 32_000 }), [180, 0, 0]);
  assert.deepEqual(lines(fit, [true, false, true], 700, { now: 40_000 }), [0, 0, 360]);
});

test("nothing that nobody wants is sent", () => {
  assert.deepEqual(lines(new UplinkFit(), [false, false, false], 400), [0, 0, 0]);
});
