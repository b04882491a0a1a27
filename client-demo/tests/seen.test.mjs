/** What is seen decides what is sent: sizes on one screen, encodings at the other end. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { screenshot } from "./chromium.mjs";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { cameraEncodings, join, moving, newRoom, readStats, tile } from "./participant.mjs";

/**
 * Until what nobody sees is no longer sent: the server holds all encodings for 5 s after a picture is first shown, since it may
 * rise quickly, then for 5 s more, lest a look aside costs a key frame; and on a slow machine the larger ones begin late.
 */
const STOP_TIMEOUT_MS = 30_000;
/** Until a picture that is seen again moves. */
const BACK_TIMEOUT_MS = 2_000;
/** Until the server has found out that a larger picture fits. */
const RISE_TIMEOUT_MS = 20_000;

withBrowser();
withServer();

/** Which encodings of the camera are sent. */
async function sent(page) {
  return (await cameraEncodings(page)).map(({ active }) => active);
}

/** Waits until what is sent is as it should be. */
async function sends(page, isRight, timeout) {
  const deadline = performance.now() + timeout;
  for (;;) {
    const now = await sent(page);
    if (isRight(now)) return now;
    assert.ok(performance.now() < deadline, `after ${timeout} ms the encodings sent are ${now}`);
    await page.waitForTimeout(50);
  }
}

/** Bytes of video sent in a second. */
async function videoBytes(page) {
  const sum = async () => (await readStats(page)).outbound.reduce((all, { kind, bytesSent }) => all + (kind === "video" ? bytesSent : 0), 0);
  const before = await sum();
  await page.waitForTimeout(1_000);
  return (await sum()) - before;
}

const decoded = async (page) => (await readStats(page)).video.reduce((sum, { framesDecoded }) => sum + (framesDecoded ?? 0), 0);

/** Ways not to see somebody. */
const WAYS = {
  "whose tile is taken away": (page, hidden) =>
    tile(page, "Ada").evaluate((element, hidden) => element.style.setProperty("display", hidden ? "none" : ""), hidden),
  "in a hidden tab": (page, hidden) =>
    page.evaluate((hidden) => {
      // Tabs without a head are always looked at.
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden),
};

/** Each way with another kind of picture: the ways and the kinds do not depend on each other. */
const CASES = [
  ["in three sizes", "whose tile is taken away", { video: "1280x720" }, 3],
  ["in one size", "in a hidden tab", { simulcast: "0" }, 1],
];

for (const [kind, way, options, encodings] of CASES) {
  test(`a picture ${kind} ${way} is not sent, and is soon back`, async (context) => {
    const setHidden = WAYS[way];
    const room = newRoom();
    const ada = await join(browser, server.url, { name: "Ada", room, ...options });
    const grace = await join(browser, server.url, { name: "Grace", room }, { viewport: { width: 1280, height: 800 } });
    await moving(grace, "Ada");
    await setHidden(grace, true);
    const stopped = await sends(ada, (active) => !active.includes(true), STOP_TIMEOUT_MS);
    assert.equal(stopped.length, encodings);
    // What is left in the pacer may still go.
    await ada.waitForTimeout(500);
    const bytes = await videoBytes(ada);
    assert.ok(bytes < 2_000, `${bytes} bytes of a picture that nobody sees are sent in a second`);

    const frames = await decoded(grace);
    const begin = performance.now();
    await setHidden(grace, false);
    while ((await decoded(grace)) < frames + 3) {
      const waited = performance.now() - begin;
      assert.ok(waited < BACK_TIMEOUT_MS, `the picture does not move after ${waited.toFixed(0)} ms`);
      await grace.waitForTimeout(20);
    }
    context.diagnostic(`back after ${(performance.now() - begin).toFixed(0)} ms`);
  });
}

test("a small tile is sent a small picture, a large one the largest", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room, video: "1280x720" });
  const grace = await join(browser, server.url, { name: "Grace", room }, { viewport: { width: 320, height: 240 } });
  await moving(grace, "Ada");
  await sends(ada, ([low, , high]) => low && !high, STOP_TIMEOUT_MS);
  const isFull = () => document.querySelector('.tile[aria-label^="Ada"] video').videoHeight === 720;
  await grace.waitForFunction(`!(${isFull})()`, null, { timeout: STOP_TIMEOUT_MS });
  await grace.setViewportSize({ width: 1280, height: 800 });
  await tile(grace, "Ada").locator(".pin").click();
  await grace.waitForFunction(isFull, null, { timeout: RISE_TIMEOUT_MS });
  assert.ok((await sent(ada))[2]);
});

test("the panel says what comes and why, and who speaks is marked", async () => {
  const room = newRoom();
  await join(browser, server.url, { name: "Ada", room });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  await grace.click("#toggle-mic");
  await grace.waitForSelector('.tile.dominant[aria-label="Ada"]', { timeout: 10_000 });
  assert.ok(await grace.isHidden("#quality"));
  await grace.click("#toggle-stats");
  await grace.waitForSelector("#quality:visible");
  await grace.waitForTimeout(2_500);
  await screenshot(grace, "call-quality");
  assert.match(await grace.textContent("#quality-summary"), /^Your connection carries about \d/);
  const picture = await grace.locator("#quality-pictures > li").innerText();
  assert.match(picture, /^Ada: camera\s+640×360 @ \d+ fps, \d+ kbit\/s\n+.+\n+.+ on your screen/);
});
