/** What the server is told of how pictures are shown. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ConfabError } from "../sdk/events.js";
import { ViewReports } from "../sdk/view-reports.js";
import { drawnSize } from "../sdk/view-watcher.js";

/** Stands in for the observers; the test says what is seen. */
class FakeWatcher {
  static last;
  watched = new Set();
  constructor(onView) {
    this.see = (element, width, height) => onView(element, { visible: width > 0, width, height });
    FakeWatcher.last = this;
  }
  add(element) {
    this.watched.add(element);
  }
  remove(element) {
    this.watched.delete(element);
  }
  close() {
    this.watched.clear();
  }
}

/** Elements need no more than to be themselves. */
const [ONE, TWO] = [{}, {}];

let slots;
let sent;
let refusal;
let hold;
let reports;
beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  slots = new Map([["3", "t_1"], ["4", "t_2"]]);
  sent = [];
  refusal = null;
  hold = null;
  reports = new ViewReports({
    slots: () => slots,
    send: async (views) => {
      sent.push(views);
      await hold;
      if (refusal) throw new ConfabError(refusal, "");
    },
    watcherClass: FakeWatcher,
  });
});
afterEach(() => {
  reports.close();
  mock.timers.reset();
});

/** Lets promises settle after some time. */
async function pass(ms = 0) {
  mock.timers.tick(ms);
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  return sent.splice(0);
}

const view = (mid, width, height) => ({ mid, visible: width > 0, width, height });
const see = (...seen) => FakeWatcher.last.see(...seen);

/** Both tracks are shown, and the server knows. */
async function bothShown() {
  reports.show("t_1", ONE);
  reports.show("t_2", TWO);
  see(ONE, 640, 360);
  see(TWO, 320, 180);
  return pass(200);
}

test("nothing is told of a track of which nothing was said", async () => {
  reports.update();
  assert.deepEqual(await pass(1_000), []);
});

test("changes are told together, and only what has changed", async () => {
  assert.deepEqual(await bothShown(), [[view("3", 640, 360), view("4", 320, 180)]]);
  see(TWO, 160, 90);
  see(TWO, 200, 112);
  assert.deepEqual(await pass(100), []);
  assert.deepEqual(await pass(100), [[view("4", 200, 112)]]);
  see(TWO, 201, 113);
  assert.deepEqual(await pass(1_000), [], "a pixel more is no change");
});

test("what appears is told at once, what disappears in its time", async () => {
  await bothShown();
  see(ONE, 0, 0);
  see(TWO, 0, 0);
  assert.deepEqual(await pass(), []);
  assert.deepEqual(await pass(200), [[view("3", 0, 0), view("4", 0, 0)]]);
  see(ONE, 640, 360);
  see(TWO, 320, 180);
  assert.deepEqual(await pass(), [[view("3", 640, 360), view("4", 320, 180)]]);
  assert.deepEqual(await pass(1_000), []);
});

test("a picture that only flickers is not told", async () => {
  await bothShown();
  see(ONE, 0, 0);
  see(ONE, 640, 360);
  assert.deepEqual(await pass(1_000), []);
});

test("a track that is shown nowhere is hidden", async () => {
  await bothShown();
  reports.show("t_1", null);
  assert.deepEqual(await pass(200), [[view("3", 0, 0)]]);
  assert.ok(!FakeWatcher.last.watched.has(ONE));
});

test("a slot that shows another track is told anew", async () => {
  await bothShown();
  slots = new Map([["3", "t_2"], ["4", "t_1"]]);
  reports.update();
  assert.deepEqual(await pass(200), [[view("3", 320, 180), view("4", 640, 360)]]);
});

test("a slot does not stay hidden when it shows a track of which nothing was said", async () => {
  await bothShown();
  see(ONE, 0, 0);
  await pass(200);
  slots.set("3", "t_9");
  reports.update();
  const [[{ mid, visible, height }]] = await pass();
  assert.deepEqual([mid, visible], ["3", true]);
  assert.ok(height > 4_000);
});

test("a new connection is told everything", async () => {
  await bothShown();
  reports.reset();
  reports.update();
  assert.deepEqual(await pass(200), [[view("3", 640, 360), view("4", 320, 180)]]);
});

test("while a request has no reply, changes wait, and the last of them counts", async () => {
  await bothShown();
  let answer;
  hold = new Promise((done) => (answer = done));
  see(ONE, 0, 0);
  assert.deepEqual(await pass(200), [[view("3", 0, 0)]]);
  see(ONE, 320, 180);
  see(TWO, 0, 0);
  await pass(200);
  see(ONE, 480, 270);
  assert.deepEqual(await pass(200), []);
  answer();
  assert.deepEqual(await pass(), [[view("3", 480, 270), view("4", 0, 0)]]);
});

test("a server that does not know of views is not asked again", async () => {
  refusal = "unknown_type";
  assert.equal((await bothShown()).length, 1);
  see(ONE, 0, 0);
  reports.reset();
  reports.show("t_2", ONE);
  reports.update();
  assert.deepEqual(await pass(60_000), []);
});

test("what was refused for now is told again", async () => {
  refusal = "too_many_requests";
  await bothShown();
  refusal = null;
  assert.deepEqual(await pass(1_000), [[view("3", 640, 360), view("4", 320, 180)]]);
  assert.deepEqual(await pass(60_000), []);
});

test("what was refused for good waits for the next change", async () => {
  refusal = "unknown_mid";
  await bothShown();
  refusal = null;
  assert.deepEqual(await pass(60_000), []);
  see(ONE, 320, 180);
  assert.deepEqual(await pass(200), [[view("3", 320, 180), view("4", 320, 180)]]);
});

test("a track that is gone is not watched any more", async () => {
  await bothShown();
  reports.forget("t_1");
  slots.delete("3");
  assert.ok(!FakeWatcher.last.watched.has(ONE));
  assert.deepEqual(await pass(1_000), []);
});

test("pixels of the screen, as the picture is drawn", () => {
  const wide = { width: 1280, height: 720 };
  const square = { width: 300, height: 300 };
  assert.deepEqual(drawnSize(square, wide, "contain", 1), square);
  assert.deepEqual(drawnSize(square, wide, "contain", 2), { width: 600, height: 600 });
  assert.deepEqual(drawnSize(square, wide, "cover", 1), { width: 533, height: 300 });
  assert.deepEqual(drawnSize(square, { width: 720, height: 1280 }, "cover", 1.5), { width: 450, height: 800 });
  assert.deepEqual(drawnSize(square, { width: 0, height: 0 }, "cover", 1), square, "no picture yet");
});
