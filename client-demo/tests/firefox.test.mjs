/**
 * Chromium and Firefox in one room: they number codecs and extensions differently. Firefox makes no
 * media connection to 127.0.0.1, so this server listens on the machine's own address, with tokens.
 */

import assert from "node:assert/strict";
import { join as joinPath } from "node:path";
import { after, before, test } from "node:test";
import { launchChromium, RESULTS, screenshot } from "./chromium.mjs";
import { Firefox } from "./firefox.mjs";
import { address, join, moving, newRoom, seesAndHears } from "./participant.mjs";
import { ownAddress, Server } from "./server.mjs";

const LEAST_FPS = 10;
const MOST_CONCEALED = 5;
/** Firefox is slow to start a call on a busy machine, milliseconds. */
const PATIENCE_MS = 30_000;

let chromium;
let firefox;
let server;
before(async () => {
  server = await Server.start(ownAddress());
  [chromium, firefox] = await Promise.all([launchChromium(), Firefox.launch()]);
});
after(async () => {
  await chromium?.close();
  await firefox?.close();
  await server?.kill();
});

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 200));
  }
}

const INBOUND = `window.confab.call.peerConnection.getStats().then((report) =>
  [...report.values()].filter(({ type }) => type === "inbound-rtp").map((entry) => ({ ...entry, at: performance.now() })))`;

test("Chromium and Firefox see and hear each other", async () => {
  const room = newRoom();
  const ada = await join(chromium, server.url, { name: "Ada", room }, { token: server.token(room, "ada") });
  const fox = await firefox.open(address(server.url, { name: "Fox", room }, server.token(room, "fox")));
  await until("Firefox connects", () => fox.evaluate("window.confab?.call?.state === 'connected'"));
  await moving(ada, "Fox", PATIENCE_MS);
  await until("Firefox shows Ada", () => fox.evaluate("[...document.querySelectorAll('.tile[aria-label=Ada] video')].some((video) => video.videoWidth > 0 && video.currentTime > 1)"));
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
