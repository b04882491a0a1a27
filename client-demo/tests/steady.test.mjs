/** What passes for a way that loses nothing. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { isSteady } from "../sdk/steady.js";

let now = 0;
beforeEach(() => mock.method(performance, "now", () => now));
afterEach(() => mock.restoreAll());

/** Answers that take so long each, milliseconds; null is none. */
function answers(times) {
  const left = [...times];
  const ask = async () => {
    const took = left.shift();
    now += took ?? 3_000;
    if (took === null) throw new Error("no answer");
    return true;
  };
  return { ask, left };
}

test("answers in the usual time, however long that is", async () => {
  for (const usual of [1, 60, 900]) {
    const { ask, left } = answers([usual, usual + 150, usual + 20, usual]);
    assert.equal(await isSteady(4, ask), true);
    assert.deepEqual(left, []);
  }
});

test("an answer that had to be sent again, and one that never comes, end it", async () => {
  for (const times of [[50, 260, 50], [260, 50, 50], [50, null, 50]]) {
    const { ask, left } = answers(times);
    assert.equal(await isSteady(3, ask), false);
    assert.deepEqual(left, [50]);
  }
});
