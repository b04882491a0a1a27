/** How long sound is held back, second by second. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SoundDelay } from "../sdk/sound-delay.js";

function run(...seconds) {
  const delay = new SoundDelay();
  return seconds.map((missing) => {
    delay.handleSecond(missing);
    return delay.target;
  });
}

test("sound is held back as long as it is missed, within bounds", () => {
  assert.deepEqual(run(0, 0.01, 0.05, 0.2, 0.3, 0.3), [0, 0, 100, 300, 400, 400]);
});

test("a link that has healed gets its short delay back, slowly", () => {
  const delays = run(0.2, ...Array(40).fill(0));
  assert.equal(delays[15], 200);
  assert.equal(delays[16], 180);
  assert.equal(delays[25], 0);
  assert.ok(delays.every((delay) => delay >= 0));
});
