/** Calls between Chromium tabs through the real page and the real server. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { screenshot } from "./chromium.mjs";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { cameraEncodings, connected, join, moving, newRoom, seesAndHears, tile, watch } from "./participant.mjs";

const FIRST_FRAME_RUNS = 10;
/** The server is told gone after ten seconds; the rest is slack for a busy machine. */
const GONE_TIMEOUT_MS = 16_000;
const RECOVERY_TIMEOUT_MS = 30_000;

withBrowser();
withServer();

test("three tabs see and hear each other, under AES-GCM", async () => {
  const room = newRoom();
  const names = ["Ada", "Grace", "Linus"];
  const pages = [];
  for (const name of names) pages.push(await join(browser, server.url, { name, room }));
  for (const [index, page] of pages.entries()) {
    for (const other of names.filter((_, which) => which !== index)) await moving(page, other);
  }
  await screenshot(pages[0], "call-3");
  for (const [index, page] of pages.entries()) {
    await seesAndHears(page, 2, names[index]);
    const { cipher } = await watch(page, 100);
    assert.match(cipher, /GCM/, `${names[index]} has ${cipher}`);
  }
  await pages[1].click("#toggle-stats");
  await pages[1].waitForTimeout(2_500);
  await screenshot(pages[1], "call-statistics");
  assert.match(await pages[1].textContent("#stats"), /GCM/);
});

test("the first frame comes soon after join is pressed", async (context) => {
  const room = newRoom();
  await join(browser, server.url, { name: "Ada", room });
  const page = await join(browser, server.url, { name: "Grace", room });
  const times = [];
  for (let run = 0; run < FIRST_FRAME_RUNS; run += 1) {
    await page.click("#leave");
    await page.click("#to-lobby");
    await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
    await page.click("#join");
    await connected(page);
    let ms = null;
    while (ms === null) ms = await page.evaluate(async () => (await window.confab.call.stats()).firstFrameMs);
    times.push(ms);
  }
  times.sort((a, b) => a - b);
  const median = (times[FIRST_FRAME_RUNS / 2 - 1] + times[FIRST_FRAME_RUNS / 2]) / 2;
  context.diagnostic(`first frame after join: median ${median.toFixed(0)} ms (${times.map((ms) => ms.toFixed(0)).join(", ")})`);
  assert.ok(times.every((ms) => ms > 0));
});

test("a shared screen appears, takes the stage and goes", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  for (let round = 0; round < 2; round += 1) {
    await ada.click("#toggle-screen");
    await moving(grace, "Ada's screen");
    const { pictures } = await watch(grace, 2_000);
    assert.equal(pictures.length, 2, "camera and screen both move");
    if (round === 0) await screenshot(grace, "screen-share");
    const sizes = await Promise.all([tile(grace, "Ada's screen").boundingBox(), tile(grace, "Ada").boundingBox()]);
    assert.ok(sizes[0].width > 2 * sizes[1].width, "the screen is the largest tile");
    await ada.click("#toggle-screen");
    await tile(grace, "Ada's screen").waitFor({ state: "detached" });
  }
});

test("mute silences, camera off blanks and frees the camera, and both come back", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  await seesAndHears(grace, 1, "Grace");

  await ada.click("#toggle-mic");
  await grace.waitForSelector('.tile[aria-label="Ada, muted"]');
  await grace.waitForTimeout(1_000);
  assert.equal((await watch(grace, 2_000)).voices.length, 0, "a muted voice is heard");

  const camera = await ada.evaluateHandle(() => window.confab.call.publications.find(({ source }) => source === "camera").track);
  await ada.click("#toggle-camera");
  await grace.waitForSelector('.tile.blank[aria-label="Ada, muted"]');
  assert.equal(await camera.evaluate((track) => track.readyState), "ended", "the camera's light stays on");
  await grace.waitForTimeout(500);
  await screenshot(grace, "muted");
  assert.equal((await watch(grace, 2_000)).pictures.length, 0, "a picture moves though the camera is off");

  await ada.click("#toggle-mic");
  await ada.click("#toggle-camera");
  await grace.waitForSelector('.tile:not(.blank)[aria-label="Ada"]');
  await grace.waitForTimeout(1_500);
  await seesAndHears(grace, 1, "Grace");
});

test("leaving removes the tile, rejoining brings it back", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
  await grace.click("#leave");
  await grace.waitForSelector("#left-title:visible");
  await tile(ada, "Grace").waitFor({ state: "detached", timeout: 3_000 });
  await grace.click("#rejoin");
  await connected(grace);
  await moving(ada, "Grace");
  await moving(grace, "Ada");
  await seesAndHears(ada, 1, "Ada");
  await seesAndHears(grace, 1, "Grace");

  await grace.close();
  await tile(ada, "Grace").waitFor({ state: "detached", timeout: 3_000 });
});

test("one may join without camera and microphone, and turn them on later", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const context = await browser.newContext();
  const guest = await context.newPage();
  await guest.goto(`${server.url}/?${new URLSearchParams({ name: "Guest", room, video: "640x360" })}`);
  await guest.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
  await guest.click("#lobby-mic");
  await guest.click("#lobby-camera");
  await guest.click("#join");
  await connected(guest);
  await moving(guest, "Ada");
  await ada.waitForSelector('.tile.blank[aria-label="Guest, muted"]');
  await guest.click("#toggle-camera");
  await guest.click("#toggle-mic");
  await moving(ada, "Guest");
  await ada.waitForTimeout(1_000);
  await seesAndHears(ada, 1, "Ada");
});

test("a camera is sent in three sizes unless it is told otherwise", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room, video: "1280x720" });
  const grace = await join(browser, server.url, { name: "Grace", room, video: "1280x720", simulcast: "0" });
  await moving(grace, "Ada");
  const accepted = await cameraEncodings(ada);
  assert.deepEqual(accepted.map(({ rid, scaleResolutionDownBy }) => [rid, scaleResolutionDownBy]), [["q", 4], ["h", 2], ["f", 1]]);
  assert.equal((await cameraEncodings(grace)).length, 1);
  await sendsSizes(ada, 2);
  await grace.waitForTimeout(1_000);
  await seesAndHears(grace, 1, "Grace");
  await seesAndHears(ada, 1, "Ada");
});

/** Waits until a camera has been sent in so many sizes. */
async function sendsSizes(page, least) {
  await page.waitForFunction(
    async (least) => {
      const report = await window.confab.call.peerConnection.getStats();
      const alive = [...report.values()].filter(({ type, kind, framesEncoded }) => type === "outbound-rtp" && kind === "video" && framesEncoded > 0);
      return alive.length >= least;
    },
    least,
    { timeout: 20_000 },
  );
}

/** Runs before the page's own script: what is published is coded so, if the server can. */
function preferCodec(codec) {
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (track, options) {
    const transceiver = add.call(this, track, options);
    if (options?.direction === "sendonly" && transceiver.receiver.track.kind === "video") {
      const { codecs } = RTCRtpReceiver.getCapabilities("video");
      const rank = ({ mimeType }) => Number(mimeType !== `video/${codec}`);
      transceiver.setCodecPreferences(codecs.sort((a, b) => rank(a) - rank(b)));
    }
    return transceiver;
  };
}

for (const codec of ["VP9", "AV1", "H264"]) {
  test(`a camera is sent in several sizes in ${codec}, too, and the large one is seen`, async () => {
    const room = newRoom();
    const ada = await join(browser, server.url, { name: "Ada", room }, { script: [preferCodec, codec] });
    const grace = await join(browser, server.url, { name: "Grace", room }, { viewport: { width: 1280, height: 800 } });
    await moving(grace, "Ada");
    await sendsSizes(ada, 2);
    await grace.waitForFunction(() => document.querySelector('.tile[aria-label^="Ada"] video').videoHeight === 360, null, { timeout: 20_000 });
    await seesAndHears(grace, 1, "Grace");
    const { received } = await grace.evaluate(async () => ({ received: [...(await window.confab.call.stats()).received.values()] }));
    assert.ok(received.some((stats) => stats.codec === codec), `Grace is sent ${received.map((stats) => stats.codec)}`);
  });
}

test("a room with more tracks than the first offer had slots for", async () => {
  const room = newRoom();
  const portrait = { index: 0, width: 320, fps: 15 };
  const ada = await join(browser, server.url, { name: "Ada", room }, { portrait });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  await ada.evaluate(async () => {
    for (let index = 1; index <= 5; index += 1) {
      await window.confab.call.publish(window.portrait(index, 160, 15), { source: "other", name: `view ${index}` });
    }
  });
  for (let index = 1; index <= 5; index += 1) await moving(grace, `Ada: view ${index}`);
  const { pictures } = await watch(grace, 2_000);
  assert.equal(pictures.length, 6);

  await ada.evaluate(async () => {
    const { call } = window.confab;
    for (const publication of call.publications) if (publication.source === "other") await call.unpublish(publication);
  });
  for (let index = 1; index <= 5; index += 1) await tile(grace, `Ada: view ${index}`).waitFor({ state: "detached" });
  await moving(grace, "Ada");
});

test("a call as it looks", async () => {
  const room = "quiet-otter-42";
  const pages = [];
  for (const [index, name] of ["Ada", "Grace", "Linus", "Margaret"].entries()) {
    const viewport = index === 0 ? { width: 1280, height: 800 } : { width: 320, height: 240 };
    pages.push(await join(browser, server.url, { name, room }, { viewport, portrait: { index, width: 640, fps: 5 } }));
  }
  for (const other of ["Grace", "Linus", "Margaret"]) await moving(pages[0], other);
  await pages[2].click("#toggle-mic");
  await pages[0].waitForSelector('.tile[aria-label="Linus, muted"]');
  // The toasts of those who came are gone by then.
  await pages[0].waitForTimeout(4_500);
  await screenshot(pages[0], "call");
});

test("a server that goes is told in clear words, and its return brings the call back", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
  await server.kill();
  await ada.waitForFunction(() => document.getElementById("call-state").textContent === "Reconnecting…", null, { timeout: 3_000 });
  await ada.waitForSelector("#call-problem:visible", { timeout: GONE_TIMEOUT_MS });
  assert.match(await ada.textContent("#call-problem"), /The server does not answer/);
  assert.match(await filterOf(ada, "Grace"), /brightness/, "what is shown is old");
  assert.equal(await filterOf(ada, "Ada"), "none");
  await screenshot(ada, "server-gone");
  await server.restart();
  for (const page of [ada, grace]) await connected(page, RECOVERY_TIMEOUT_MS);
  await ada.waitForFunction(() => document.body.dataset.pictures === "live");
  await moving(ada, "Grace");
  await moving(grace, "Ada");
  assert.ok(await ada.isHidden("#call-problem"));
  await seesAndHears(ada, 1, "Ada");
  await seesAndHears(grace, 1, "Grace");
});

/** What a picture is dimmed by. */
async function filterOf(page, name) {
  return tile(page, name).locator("video").evaluate((video) => getComputedStyle(video).filter);
}

/** In the page, before its own scripts: what comes over its WebSockets can be added to. */
function keepSockets() {
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      window.socket = this;
    }
  };
}

test("who cannot be reached is marked, until heard of again", async () => {
  const room = newRoom();
  const grace = await join(browser, server.url, { name: "Grace", room });
  const ada = await join(browser, server.url, { name: "Ada", room }, { script: [keepSockets] });
  await moving(ada, "Grace");
  const say = (unreachable) => ada.evaluate((unreachable) => {
    window.said = (window.said ?? 1_000) + 1;
    const [participant] = window.confab.call.participants.keys();
    window.socket.onmessage({ data: JSON.stringify({ seq: window.said, type: "unreachable", participant, unreachable }) });
  }, unreachable);
  await say(true);
  const marked = ada.locator('.tile.unreachable[aria-label="Grace, connection lost"]');
  await marked.locator(".mark").waitFor({ timeout: 3_000 });
  await screenshot(ada, "unreachable");
  assert.match(await marked.locator("video").evaluate((video) => getComputedStyle(video).filter), /brightness/);
  await say(false);
  await marked.waitFor({ state: "detached" });
  assert.equal(await tile(ada, "Grace").locator(".mark").isVisible(), false);
  await grace.close();
});
