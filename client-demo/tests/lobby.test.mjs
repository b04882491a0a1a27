/** The lobby: preview, pickers, and clear words when something is not there. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_SERVER, openFromDisk, screenshot } from "./chromium.mjs";
import { browser, withBrowser } from "./fixture.mjs";

withBrowser();

/** Opens the lobby; `refuse` maps what getUserMedia is asked for to the error it throws. */
async function openLobby({ viewport = { width: 1280, height: 800 }, colorScheme = "light", refuse = null, query = "", script } = {}) {
  const page = await openFromDisk(browser, { viewport, colorScheme });
  await page.addInitScript((refuse) => {
    if (!refuse) return;
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      const error = (wanted.video && refuse.video) || (wanted.audio && refuse.audio);
      if (error) throw new DOMException("refused by the test", error);
      return real(wanted);
    };
  }, refuse);
  if (script) await page.addInitScript(script);
  await page.goto(`${NO_SERVER}/?name=Ada&video=640x360&${query}`);
  return page;
}

async function problem(page, timeout = 5_000) {
  await page.waitForSelector("#lobby-problem:not([hidden])", { timeout });
  return page.textContent("#lobby-problem-words");
}

for (const [name, viewport, colorScheme] of [
  ["desktop-light", { width: 1280, height: 800 }, "light"],
  ["desktop-dark", { width: 1280, height: 800 }, "dark"],
  ["phone", { width: 320, height: 700 }, "light"],
]) {
  test(`camera and microphone are previewed (${name})`, async () => {
    const page = await openLobby({ viewport, colorScheme });
    await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
    await page.mouse.click(2, 2);
    await page.waitForFunction(() => document.getElementById("level").value > 0.05);
    await screenshot(page, `lobby-${name}`);
    assert.match(await page.inputValue("#room"), /^[a-z]+-[a-z]+-\d+$/);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page scrolls sideways");
  });
}

for (const [what, refuse, words] of [
  ["permission is denied", { video: "NotAllowedError", audio: "NotAllowedError" }, /camera and microphone: permission was denied.*try again, or join without/],
  ["there is no camera", { video: "NotFoundError" }, /^No camera was found.*join without/],
  ["the microphone is busy", { audio: "NotReadableError" }, /^Your microphone is busy: another program/],
]) {
  test(`clear words when ${what}, and one may join without`, async () => {
    const page = await openLobby({ refuse });
    assert.match(await problem(page), words);
    await screenshot(page, `lobby-${what.replaceAll(" ", "-")}`);
    assert.ok(await page.isEnabled("#join"));
    assert.ok(await page.isVisible("#retry-devices"));
    const preview = await page.evaluate(() => document.getElementById("preview").srcObject !== null);
    assert.equal(preview, !refuse.video, "what is there is shown all the same");
  });
}

test("a room that the address names is filled in, a name that no room can have is refused", async () => {
  const page = await openLobby({ query: "room=kitchen" });
  assert.equal(await page.inputValue("#room"), "kitchen");
  await page.fill("#room", "no spaces, please");
  await page.click("#join");
  assert.ok(await page.evaluate(() => document.querySelector("#room:invalid") !== null));
});

/** In the page: devices take their time, and what is seen of them when the call begins is noted. */
function openSlowly() {
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const answered = new Promise((resolve) => (window.answer = resolve));
  navigator.mediaDevices.getUserMedia = (wanted) => answered.then(() => real(wanted));
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      window.previewed ??= document.getElementById("preview").srcObject !== null;
    }
  };
}

test("who joins before the devices are there is waited for, and told so", async () => {
  const page = await openLobby({ script: openSlowly });
  await page.click("#join");
  assert.match(await problem(page), /^Waiting for your camera and microphone\. If your browser asks/);
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.previewed), undefined);
  await page.evaluate(() => window.answer());
  await page.waitForFunction(() => window.previewed);
});

test("clear words when the server is not there", async () => {
  const page = await openLobby();
  await page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
  await page.click("#join");
  assert.equal(await page.textContent("#join"), "Joining…");
  assert.match(await problem(page, 15_000), /^The server does not answer. Check your network and try again/);
  assert.equal(await page.textContent("#join"), "Join");
});
