/** Chromium and Firefox in one room: they number codecs and extensions differently. */

import assert from "node:assert/strict";
import { join as joinPath } from "node:path";
import { test } from "node:test";
import { RESULTS, screenshot } from "./chromium.mjs";
import { browser, firefox, server, withBothBrowsers } from "./fixture.mjs";
import { address, join, moving, newRoom, seesAndHears } from "./participant.mjs";
import { ownAddress, Server } from "./server.mjs";

const LEAST_FPS = 10;
const MOST_CONCEALED = 5;
/** Firefox is slow to start a call on a busy machine, milliseconds. */
const PATIENCE_MS = 30_000;

withBothBrowsers();

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 200));
  }
}

const INBOUND = `window.confab.call.peerConnection.getStats().then((report) =>
  [...report.values()].filter(({ type }) => type === "inbound-rtp").map((entry) => ({ ...entry, at: performance.now() })))`;

/** How many sizes of its picture it has sent frames in. */
const SIZES_SENT = `window.confab.call.peerConnection.getStats().then((report) =>
  [...report.values()].filter(({ type, kind, framesEncoded }) => type === "outbound-rtp" && kind === "video" && framesEncoded > 0).length)`;

const SHOWS_ADA = `[...document.querySelectorAll(".tile[aria-label=Ada] video")]
  .some((video) => video.videoWidth > 0 && video.currentTime > 1)`;

test("Chromium and Firefox see and hear each other", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room }, { token: server.token(room, "ada") });
  const fox = await firefox.open(address(server.url, { name: "Fox", room }, server.token(room, "fox")));
  await until("Firefox connects", () => fox.evaluate("window.confab?.call?.state === 'connected'"));
  await moving(ada, "Fox", PATIENCE_MS);
  await until("Firefox shows Ada", () => fox.evaluate(SHOWS_ADA));
  await until("Firefox sends its camera in two sizes", async () => (await fox.evaluate(SIZES_SENT)) === 2);
  await ada.waitForTimeout(2_000);
  await seesAndHears(ada, 1, "Ada, of Firefox,");

  const before = await fox.evaluate(INBOUND);
  await ada.waitForTimeout(4_000);
  const after = await fox.evaluate(INBOUND);
  const pair = (kind, field) => {
    const now = after.find((entry) => entry.kind === kind && entry[field] > 0);
    assert.ok(now, `Firefox gets no ${kind}`);
    return { now, then: before.find(({ id }) => id === now.id) };
  };
  const video = pair("video", "framesDecoded");
  const fps = (1000 * (video.now.framesDecoded - video.then.framesDecoded)) / (video.now.at - video.then.at);
  assert.ok(fps >= LEAST_FPS, `Firefox sees ${fps.toFixed(1)} fps`);
  const audio = pair("audio", "totalSamplesReceived");
  const grown = (field) => (audio.now[field] ?? 0) - (audio.then[field] ?? 0);
  const concealed = (100 * (grown("concealedSamples") - grown("silentConcealedSamples"))) / grown("totalSamplesReceived");
  assert.ok(grown("totalAudioEnergy") > 1e-6, "Firefox hears nothing");
  assert.ok(concealed < MOST_CONCEALED, `Firefox hears ${concealed.toFixed(1)} % made-up sound`);

  await screenshot(ada, "firefox-in-chromium");
  await fox.screenshot(joinPath(RESULTS, "chromium-in-firefox.png"));
});

for (const [relay, where] of [["own", "a relay on a port of its own"], ["media", "a relay on the port of media"]]) {
  test(`Firefox through ${where}, and through nothing else`, async () => {
    const relaying = await Server.start(ownAddress(), { relay });
    try {
      const room = newRoom();
      const ada = await join(browser, relaying.url, { name: "Ada", room }, { token: relaying.token(room, "ada") });
      const fox = await firefox.open(address(relaying.url, { name: "Fox", room, relay: "1" }, relaying.token(room, "fox")));
      await moving(ada, "Fox", PATIENCE_MS);
      await until("Firefox shows Ada", () => fox.evaluate(SHOWS_ADA));
      assert.match(relaying.log, /media takes this path.*path=our relay/);
      await ada.close();
    } finally {
      await relaying.kill();
    }
  });
}

test("the page that checks the connection finds every way in Firefox, too", async () => {
  const relaying = await Server.start(ownAddress(), { relay: "own" });
  try {
    const room = newRoom();
    const page = await firefox.open(`${relaying.url}/check.html?room=${room}#token=${relaying.token(room, "fox")}`);
    await until("the check is done", () => page.evaluate("window.confabCheck && !document.getElementById('again').disabled"));
    const grades = await page.evaluate("[...document.querySelectorAll('#checks li')].map(({ id, dataset }) => [id, dataset.grade])");
    const good = ["signaling", "udp", "turn-udp", "tcp", "turn-tcp"];
    assert.deepEqual(grades.filter(([id]) => good.includes(id)), good.map((id) => [id, "good"]));
  } finally {
    await relaying.kill();
  }
});
