/** How long audio is held back, second by second. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { AudioDelay, AudioDelays } from "../sdk/audio-delay.js";

function run(...seconds) {
  const delay = new AudioDelay();
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

test("what is missed while the link is away is no reason to wait longer, nor to wait less", () => {
  const delay = new AudioDelay();
  for (let second = 0; second < 10; second += 1) delay.handleSecond(0.9, true);
  assert.equal(delay.target, 0);
  delay.handleSecond(0.05);
  for (let second = 0; second < 60; second += 1) delay.handleSecond(0, true);
  assert.equal(delay.target, 100);
});

test("receivers are not held back for a gap in everything that is received", async () => {
  mock.timers.enable({ apis: ["setInterval"] });
  let [samples, concealed, isOut] = [0, 0, false];
  const receiver = {
    track: { kind: "audio" },
    jitterBufferTarget: null,
    getStats: async () => new Map([["in", { type: "inbound-rtp", totalSamplesReceived: samples, concealedSamples: concealed, silentConcealedSamples: 0 }]]),
  };
  const delays = new AudioDelays({ receivers: () => [receiver], wasOut: () => isOut });
  const second = async (missing) => {
    [samples, concealed] = [samples + 48_000, concealed + 48_000 * missing];
    mock.timers.tick(1_000);
    for (let turn = 0; turn < 4; turn += 1) await Promise.resolve();
    return receiver.jitterBufferTarget;
  };
  assert.equal(await second(0), null);
  isOut = true;
  assert.equal(await second(0.9), null);
  assert.equal(await second(0.9), null);
  isOut = false;
  assert.equal(await second(0), null);
  assert.equal(await second(0.2), 200);
  delays.close();
  mock.timers.reset();
});
