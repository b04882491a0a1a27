/** In which sizes a picture is sent: by its own size, and by what it shows. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { cameraEncodings, sizeOf, suitsSimulcast } from "../sdk/encodings.js";

const CAMERAS = [
  // width, height, lines and kbit/s of each encoding.
  [1280, 720, [[180, 150], [360, 510], [720, 1700]]],
  // A phone held upright.
  [720, 1280, [[180, 150], [360, 510], [720, 1700]]],
  [1920, 1080, [[270, 310], [540, 1030], [1080, 2660]]],
  [640, 480, [[240, 200], [480, 930]]],
  [640, 360, [[180, 150], [360, 790]]],
  [960, 540, [[270, 310], [540, 1240]]],
  // Half of it would be no use.
  [320, 240, [[240]]],
  [160, 90, [[90]]],
];

for (const [width, height, wanted] of CAMERAS) {
  test(`a camera of ${width}×${height} is sent in ${wanted.length} sizes`, () => {
    const lines = Math.min(width, height);
    const encodings = cameraEncodings({ width, height });
    const got = encodings.map(({ scaleResolutionDownBy = 1, maxBitrate }) =>
      maxBitrate === undefined ? [lines / scaleResolutionDownBy] : [lines / scaleResolutionDownBy, maxBitrate / 1_000]);
    assert.deepEqual(got, wanted);
    assert.ok(encodings.every(({ active = true }) => active));
    // A single one is not simulcast, and has no name; the largest always has the same.
    assert.deepEqual(encodings.map(({ rid }) => rid), wanted.length === 1 ? [undefined] : ["q", "h", "f"].slice(-wanted.length));
  });
}

test("a smaller camera in the place of a large one: what is too small is not sent", () => {
  const encodings = cameraEncodings({ width: 640, height: 360 }, 3);
  assert.deepEqual(encodings.map(({ rid, active }) => [rid, active]), [["q", false], ["h", true], ["f", true]]);
  assert.equal(cameraEncodings({ width: 1280, height: 720 }, 1).length, 1);
});

test("a camera gains by several sizes, what is to be read does not", () => {
  const track = (kind, contentHint = "") => ({ kind, contentHint });
  assert.ok(suitsSimulcast(track("video"), "camera"));
  assert.ok(!suitsSimulcast(track("video"), "screen"));
  assert.ok(!suitsSimulcast(track("video"), "other"));
  assert.ok(!suitsSimulcast(track("video", "detail"), "camera"));
  assert.ok(!suitsSimulcast(track("audio"), "microphone"));
});

test("a track that does not say its size is taken for a usual camera", () => {
  assert.deepEqual(sizeOf(null), { width: 1280, height: 720 });
  assert.deepEqual(sizeOf({ getSettings: () => ({}) }), { width: 1280, height: 720 });
  assert.deepEqual(sizeOf({ getSettings: () => ({ width: 320, height: 240 }) }), { width: 320, height: 240 });
});
