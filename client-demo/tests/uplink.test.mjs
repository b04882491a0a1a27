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
/** After so long what does not fit is taken for what it is, milliseconds. */
const SURE = 6_000;

/** What goes when that has been so for a while. */
function settled(wanted, kbps, options) {
  const fit = new UplinkFit();
  lines(fit, wanted, kbps, options);
  return lines(fit, wanted, kbps, { ...options, now: SURE });
}

test("an ample network is left to the browser and the server", () => {
  assert.deepEqual(settled(ALL, 4_000), [180, 360, 720]);
  assert.deepEqual(settled([false, false, true], 4_000), [0, 0, 720]);
});

test("a browser that does not tell what fits is left alone", () => {
  assert.deepEqual(settled(ALL, undefined), [180, 360, 720]);
});

test("in a call of two, one picture gets a narrow network to itself, as large as that carries", () => {
  for (const [kbps, wanted] of [[1_400, 720], [1_000, 720], [700, 360], [400, 360], [170, 180], [60, 180]]) {
    assert.deepEqual(settled(ALL, kbps), [0, 0, wanted], `${kbps} kbit/s`);
  }
});

test("an estimate that begins low is given time to rise", () => {
  const fit = new UplinkFit();
  for (const [seconds, kbps] of [[0, 300], [3, 700], [5, 1_300], [6, 2_000], [20, 2_000]]) {
    assert.deepEqual(lines(fit, ALL, kbps, { now: 1_000 * seconds }), [180, 360, 720], `${kbps} kbit/s after ${seconds} s`);
  }
});

test("among many, everybody gets something: the smaller ones come first", () => {
  assert.deepEqual(settled(ALL, 400, { isPair: false }), [180, 360, 720]);
  // But what goes alone fits, whoever sees it.
  assert.deepEqual(settled([false, false, true], 400, { isPair: false }), [0, 0, 360]);
});

test("a network that gets narrower, and wide again: no flapping in between", () => {
  const fit = new UplinkFit();
  const top = [false, false, true];
  // Seconds, kbit/s, lines.
  const story = [[0, 4_000, 720], [1, 650, 360], [12, 800, 360], [13, 1_000, 720], [14, 750, 720], [15, 150, 180], [16, 4_000, 180], [23, 4_000, 720]];
  for (const [seconds, kbps, wanted] of story) {
    assert.deepEqual(lines(fit, top, kbps, { now: 1_000 * seconds }), [0, 0, wanted], `${kbps} kbit/s after ${seconds} s`);
  }
});

test("all go again when all fit with something to spare", () => {
  const fit = new UplinkFit();
  // Seconds, kbit/s, which go.
  const story = [[0, 1_000, [180, 360, 720]], [6, 1_000, [0, 0, 720]], [15, 1_600, [0, 0, 720]], [16, 2_000, [180, 360, 720]]];
  for (const [seconds, kbps, wanted] of story) {
    assert.deepEqual(lines(fit, ALL, kbps, { now: 1_000 * seconds }), wanted, `${kbps} kbit/s after ${seconds} s`);
  }
});

test("a smaller one that the receiver's network needs goes beside the large one", () => {
  const fit = new UplinkFit();
  // Seconds, which are wanted, which go: all at 650 kbit/s.
  const story = [
    [0, [false, false, true], [0, 0, 360]],
    [1, [true, false, true], [180, 0, 720]],
    [30, [true, false, true], [180, 0, 720]],
    [32, [true, false, false], [180, 0, 0]],
    [40, [true, false, true], [180, 0, 720]],
    [46, [true, false, true], [0, 0, 360]],
  ];
  for (const [seconds, wanted, go] of story) {
    assert.deepEqual(lines(fit, wanted, 650, { now: 1_000 * seconds }), go, `${wanted} after ${seconds} s`);
  }
});

test("nothing that nobody wants is sent", () => {
  assert.deepEqual(settled([false, false, false], 400), [0, 0, 0]);
});
