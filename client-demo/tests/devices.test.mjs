/** Devices during a call: chosen, unplugged and plugged in; what a phone has; a screen that stays awake. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { screenshot } from "./chromium.mjs";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { connected, join, moving, newRoom, readStats, seesAndHears, tile } from "./participant.mjs";

/** While a device is changed nobody sees a picture stand still for longer, milliseconds. */
const LONGEST_GAP_MS = 500;

withBrowser();
withServer();

/**
 * Runs before the page's own script: cameras and microphones that the test plugs in and out. Those of the
 * test browser are all alike, and stay where they are.
 */
function installDevices({ cameras, oneAtATime }) {
  const media = navigator.mediaDevices;
  const real = media.getUserMedia.bind(media);
  const world = { cameras: [...cameras], asked: [], open: new Set() };
  window.world = world;
  const describe = (kind, deviceId, label) => ({ kind, deviceId, label, groupId: "" });
  media.enumerateDevices = async () => [
    ...world.cameras.map(({ id, label }) => describe("videoinput", id, label)),
    describe("audioinput", "mic-1", "Built-in microphone"),
    describe("audioinput", "mic-2", "Headset"),
    describe("audiooutput", "default", "Default"),
    describe("audiooutput", "speaker-2", "Headset"),
  ];
  const openCamera = ({ deviceId, facingMode }) => {
    const found = world.cameras.find(({ id, facing }) =>
      facingMode?.exact ? facing === facingMode.exact : id === deviceId?.ideal) ?? (facingMode?.exact ? undefined : world.cameras[0]);
    if (!found) throw new DOMException("there is none", "NotFoundError");
    if (oneAtATime && world.open.size > 0) throw new DOMException("one at a time", "NotReadableError");
    const track = window.portrait(world.cameras.indexOf(found), 640, 30);
    const settings = track.getSettings.bind(track);
    const stop = track.stop.bind(track);
    track.getSettings = () => ({ ...settings(), deviceId: found.id, facingMode: found.facing });
    track.stop = () => {
      world.open.delete(track);
      stop();
    };
    Object.defineProperty(track, "label", { value: found.label });
    world.open.add(track);
    return track;
  };
  media.getUserMedia = async ({ audio, video }) => {
    world.asked.push({ audio, video });
    const stream = audio ? await real({ audio: true }) : new MediaStream();
    for (const track of stream.getAudioTracks()) {
      const settings = track.getSettings.bind(track);
      const id = audio.deviceId?.ideal ?? "mic-1";
      track.getSettings = () => ({ ...settings(), deviceId: id });
    }
    if (video) stream.addTrack(openCamera(video));
    return stream;
  };
  /** Pulls out what is in use. */
  world.unplug = (id) => {
    world.cameras = world.cameras.filter((camera) => camera.id !== id);
    for (const track of [...world.open]) {
      if (track.getSettings().deviceId !== id) continue;
      track.stop();
      track.dispatchEvent(new Event("ended"));
    }
    media.dispatchEvent(new Event("devicechange"));
  };
  world.plug = (camera) => {
    world.cameras.push(camera);
    media.dispatchEvent(new Event("devicechange"));
  };
}

const TWO = [
  { id: "cam-1", label: "Front camera", facing: "user" },
  { id: "cam-2", label: "Back camera", facing: "environment" },
];

async function withDevices(name, room, devices, viewport) {
  return join(browser, server.url, { name, room }, { viewport, portrait: { index: 0, width: 640, fps: 30 }, script: [installDevices, devices] });
}

/** The longest time between two pictures of somebody, measured while `act` runs and a little longer. */
async function longestGap(page, name, act) {
  await tile(page, name).locator("video").evaluate((video) => {
    let last = performance.now();
    window.longestGap = 0;
    const next = () =>
      video.requestVideoFrameCallback((now) => {
        window.longestGap = Math.max(window.longestGap, now - last);
        last = now;
        next();
      });
    next();
  });
  await act();
  await page.waitForTimeout(1_500);
  return page.evaluate(() => window.longestGap);
}

/** How often it has been negotiated. */
async function countOffers(page) {
  await page.evaluate(() => {
    window.offers = 0;
    const pc = window.confab.call.peerConnection;
    const real = pc.createOffer.bind(pc);
    pc.createOffer = (...options) => {
      window.offers += 1;
      return real(...options);
    };
  });
}

test("another camera, microphone and speaker during a call: no gap, no negotiation", async (context) => {
  const room = newRoom();
  const ada = await withDevices("Ada", room, { cameras: TWO });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  await moving(ada, "Grace");
  await grace.waitForTimeout(1_500);
  await countOffers(ada);
  await ada.click("#open-devices");
  assert.equal(await ada.inputValue("#call-camera"), "cam-1");
  const gap = await longestGap(grace, "Ada", async () => {
    await ada.selectOption("#call-camera", "cam-2");
    await ada.selectOption("#call-microphone", "mic-2");
    await ada.waitForFunction(() => window.confab.call.publications.every(({ track }) => /-2$/.test(track.getSettings().deviceId)));
  });
  context.diagnostic(`the longest time between two pictures was ${gap.toFixed(0)} ms`);
  assert.ok(gap < LONGEST_GAP_MS, `the picture stood still for ${gap.toFixed(0)} ms`);
  await ada.selectOption("#call-speaker", "speaker-2").catch(() => {});
  await screenshot(ada, "devices");
  assert.equal(await ada.evaluate(() => window.offers), 0);
  assert.equal(await ada.evaluate(() => window.world.open.size), 1, "the camera of before is still open");
  await ada.keyboard.press("Escape");
  await seesAndHears(grace, 1, "Grace");
  // Turned off and on again it is still the one that was chosen.
  await ada.click("#toggle-camera");
  await ada.click("#toggle-camera");
  await ada.waitForFunction(() => window.world.open.size === 1);
  assert.equal(await ada.evaluate(() => window.world.asked.at(-1).video.deviceId.ideal), "cam-2");
});

test("everybody is heard from the speaker that was chosen, also who comes later", async () => {
  const room = newRoom();
  const script = [() => {
    window.sinks = [];
    HTMLMediaElement.prototype.setSinkId = async function (id) {
      if (id === "broken") throw new DOMException("it is gone", "NotFoundError");
      window.sinks.push(id);
    };
    const devices = [["audiooutput", "default", "Default"], ["audiooutput", "speaker-2", "Headset"], ["audiooutput", "broken", "Broken"]];
    navigator.mediaDevices.enumerateDevices = async () => devices.map(([kind, deviceId, label]) => ({ kind, deviceId, label }));
    window.unplugSpeaker = () => {
      devices.splice(1, 1);
      navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
    };
  }, {}];
  const ada = await join(browser, server.url, { name: "Ada", room }, { script });
  await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
  await ada.click("#open-devices");
  await ada.selectOption("#call-speaker", "speaker-2");
  await ada.waitForFunction(() => window.sinks.includes("speaker-2"));
  await ada.waitForSelector("#call-speaker:enabled");
  const before = await ada.evaluate(() => window.sinks.length);
  await join(browser, server.url, { name: "Linus", room });
  await ada.waitForFunction((before) => window.sinks.length > before && window.sinks.at(-1) === "speaker-2", before);
  await ada.selectOption("#call-speaker", "broken");
  await ada.waitForFunction(() => document.getElementById("devices-problem").textContent === "The sound cannot be heard there.");
  assert.equal(await ada.inputValue("#call-speaker"), "speaker-2");
  await ada.evaluate(() => window.unplugSpeaker());
  await ada.waitForFunction(() => window.sinks.at(-1) === "");
});

test("a camera that is unplugged gives way to another, and the last one to a name", async () => {
  const room = newRoom();
  const ada = await withDevices("Ada", room, { cameras: TWO });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  await ada.evaluate(() => window.world.unplug("cam-1"));
  await ada.waitForFunction(() => window.confab.call.publications.find(({ source }) => source === "camera").track?.getSettings().deviceId === "cam-2");
  assert.match(await ada.textContent("#toasts"), /Your camera was disconnected; Back camera is used now/);
  await ada.evaluate(() => window.world.unplug("cam-2"));
  await grace.waitForSelector('.tile.blank[aria-label="Ada"]');
  await ada.waitForSelector('#toggle-camera[data-on="false"]');
  await ada.evaluate(() => window.world.plug({ id: "cam-3", label: "New camera" }));
  await ada.waitForFunction(() => /New camera can be used now/.test(document.getElementById("toasts").textContent));
  await ada.click("#toggle-camera");
  await grace.waitForSelector('.tile:not(.blank)[aria-label="Ada"]');
});

for (const [what, oneAtATime] of [["both at a time", false], ["one at a time", true]]) {
  test(`a phone turns from its front to its back camera (it opens ${what})`, async () => {
    const room = newRoom();
    const context = await browser.newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme: "dark" });
    const page = await context.newPage();
    const { installPortraits } = await import("./portrait.mjs");
    await page.addInitScript(installPortraits);
    await page.addInitScript(installDevices, { cameras: TWO, oneAtATime });
    await page.addInitScript(() => delete MediaDevices.prototype.getDisplayMedia);
    await page.goto(`${server.url}/?${new URLSearchParams({ name: "Ada", room, autojoin: "1" })}`);
    await connected(page);
    const flip = page.locator("#flip-camera");
    await flip.waitFor();
    assert.ok(await page.isHidden("#toggle-screen"), "a screen is offered that cannot be shared");
    const own = page.locator(".tile.self");
    assert.ok(await own.evaluate((tile) => tile.classList.contains("mirrored")));
    const side = () => page.evaluate(() => window.confab.call.publications.find(({ source }) => source === "camera").track.getSettings().facingMode);
    await flip.click();
    await page.waitForFunction(() => !document.querySelector(".tile.self").classList.contains("mirrored"));
    assert.equal(await side(), "environment");
    await screenshot(page, `phone-back-camera-${oneAtATime ? "one" : "both"}`);
    await flip.click();
    await page.waitForFunction(() => document.querySelector(".tile.self").classList.contains("mirrored"));
    assert.equal(await side(), "user");
    assert.equal(await page.evaluate(() => window.world.open.size), 1);
  });
}

test("nothing to turn, nothing to share on a desk that cannot", async () => {
  const page = await join(browser, server.url, { name: "Ada", room: newRoom() });
  assert.ok(await page.isHidden("#flip-camera"));
  assert.ok(await page.isVisible("#toggle-screen"));
});

test("the screen stays awake in a call, also after the page was not looked at, and no longer", async () => {
  const script = [() => {
    window.locks = [];
    const request = async () => {
      const lock = { released: false, release: async () => void (lock.released = true) };
      window.locks.push(lock);
      return lock;
    };
    Object.defineProperty(navigator, "wakeLock", { value: { request } });
    window.look = (hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      // As browsers do.
      if (hidden) for (const lock of window.locks) lock.released = true;
      document.dispatchEvent(new Event("visibilitychange"));
    };
  }, {}];
  const page = await join(browser, server.url, { name: "Ada", room: newRoom() }, { script });
  const held = () => page.evaluate(() => window.locks.filter(({ released }) => !released).length);
  assert.equal(await held(), 1);
  await page.evaluate(() => window.look(true));
  assert.equal(await held(), 0);
  await page.evaluate(() => window.look(false));
  assert.equal(await held(), 1);
  await page.click("#leave");
  await page.waitForSelector("#left-title:visible");
  assert.equal(await held(), 0);
});

test("the first picture is timed from when there was something to see", async (context) => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  await ada.waitForTimeout(3_000);
  await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
  await ada.waitForFunction(async () => (await window.confab.call.stats()).firstFrameMs !== null);
  const { ms, sinceJoin } = await ada.evaluate(async () => ({ ms: (await window.confab.call.stats()).firstFrameMs, sinceJoin: performance.now() }));
  context.diagnostic(`first frame ${ms.toFixed(0)} ms after Grace came, ${sinceJoin.toFixed(0)} ms after the page was opened`);
  assert.ok(sinceJoin - ms > 3_000, `${ms.toFixed(0)} ms of ${sinceJoin.toFixed(0)} ms`);
  const stats = await readStats(ada);
  assert.equal(stats.video.filter(({ framesDecoded }) => framesDecoded > 0).length, 1);
});
