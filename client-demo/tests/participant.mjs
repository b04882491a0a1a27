/**
 * People in a call, played through the real page, and what they see and hear by `getStats`.
 */

import assert from "node:assert/strict";
import { installPortraits, portraitForCamera } from "./portrait.mjs";

/** Cores are few where tests run. */
const CAMERA = "640x360";
/** A joined call has connected by then, milliseconds. */
const CONNECT_TIMEOUT_MS = 15_000;
/** So long is watched before judging, milliseconds. */
const WATCH_MS = 4_000;
/** So often. */
const WATCHES = 4;
/** Below this a picture is not a moving one; the fake camera makes 30. */
const LEAST_FPS = 10;
/** More made-up audio than this is heard, percent. */
const MOST_CONCEALED = 5;

let rooms = 0;
/** A room nobody else is in. */
export function newRoom() {
  rooms += 1;
  return `test-${process.pid}-${rooms}`;
}

/**
 * Opens the page, joins through it and waits until connected.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 * @param {{name: string, room: string, [option: string]: string}} options Go into the page's address.
 * @param {{viewport?: {width: number, height: number}, portrait?: {index: number, width: number, fps: number}, token?: string, script?: [Function, object]}} [more] The script runs before the page's own.
 */
export async function join(browser, url, options, { viewport = { width: 960, height: 640 }, portrait, token, script } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: "dark" });
  const page = await context.newPage();
  if (portrait) {
    await page.addInitScript(installPortraits);
    await page.addInitScript(portraitForCamera, portrait);
  }
  if (script) await page.addInitScript(...script);
  page.on("pageerror", (error) => console.error(`${options.name}: ${error.stack}`));
  await page.goto(address(url, options, token));
  await connected(page);
  return page;
}

/** The page's address that leads into a call at once. */
export function address(url, options, token) {
  const query = new URLSearchParams({ video: CAMERA, autojoin: "1", ...options });
  return `${url}/?${query}${token ? `#token=${token}` : ""}`;
}

export async function connected(page, timeout = CONNECT_TIMEOUT_MS) {
  await page.waitForFunction(() => window.confab?.call?.state === "connected", null, { timeout });
}

/** The tile of somebody, as the page labels it. */
export function tile(page, name) {
  return page.locator(`.tile[aria-label="${name}"], .tile[aria-label="${name}, muted"]`);
}

/** Inbound streams by what they carry, and the transport, straight from the browser. */
export async function readStats(page) {
  return page.evaluate(async () => {
    const report = [...(await window.confab.call.peerConnection.getStats()).values()];
    const inbound = report.filter(({ type }) => type === "inbound-rtp");
    return {
      at: performance.now(),
      video: inbound.filter(({ kind }) => kind === "video"),
      audio: inbound.filter(({ kind }) => kind === "audio"),
      outbound: report.filter(({ type }) => type === "outbound-rtp"),
      transport: report.find(({ type }) => type === "transport"),
    };
  });
}

/** The camera's encodings as they are sent, the smallest first. */
export async function cameraEncodings(page) {
  return page.evaluate(() => {
    const { transceiver } = window.confab.call.publications.find(({ source }) => source === "camera");
    return transceiver.sender.getParameters().encodings;
  });
}

/** What came in during a while: frames per second of each moving picture, each audible voice. */
export async function watch(page, ms = WATCH_MS) {
  const before = await readStats(page);
  await page.waitForTimeout(ms);
  const after = await readStats(page);
  const seconds = (after.at - before.at) / 1000;
  const pairs = (kind) =>
    after[kind].map((now) => ({ now, then: before[kind].find(({ id }) => id === now.id) ?? {} }));
  const growth = ({ now, then }, field) => (now[field] ?? 0) - (then[field] ?? 0);
  const pictures = pairs("video").map((pair) => growth(pair, "framesDecoded") / seconds);
  const voices = pairs("audio").map((pair) => ({
    energy: growth(pair, "totalAudioEnergy"),
    concealed: (100 * (growth(pair, "concealedSamples") - growth(pair, "silentConcealedSamples"))) / Math.max(1, growth(pair, "totalSamplesReceived")),
  }));
  return {
    pictures: pictures.filter((fps) => fps > 0),
    voices: voices.filter(({ energy }) => energy > 1e-6),
    cipher: after.transport?.srtpCipher,
  };
}

/**
 * Watches until nothing is wrong. A fault lasts; what a busy machine has swallowed does not come again.
 * @param {(watched: Awaited<ReturnType<typeof watch>>) => string | undefined} wrong What is wrong, in words.
 */
export async function watchUntil(page, wrong) {
  let fault;
  for (let tries = 0; tries < WATCHES; tries += 1) {
    fault = wrong(await watch(page));
    if (fault === undefined) return;
  }
  assert.fail(fault);
}

/** What is wrong with these voices, if they are not so many, each of them clear. */
export function voicesFault({ voices }, others, who) {
  if (voices.length !== others) return `${who} hears ${voices.length} voices, not ${others}`;
  const unclear = voices.find(({ concealed }) => concealed >= MOST_CONCEALED);
  return unclear && `${who} hears ${unclear.concealed.toFixed(1)} % made-up sound`;
}

/** Asserts that exactly so many others are seen moving and heard clearly. */
export async function seesAndHears(page, others, who) {
  await watchUntil(page, (watched) => {
    const { pictures } = watched;
    const seen = pictures.map((fps) => fps.toFixed(1)).join(", ");
    if (pictures.length !== others) return `${who} sees ${pictures.length} moving pictures (${seen} fps), not ${others}`;
    if (pictures.some((fps) => fps < LEAST_FPS)) return `${who} sees ${seen} fps`;
    return voicesFault(watched, others, who);
  });
}

/** Waits until the picture of this tile moves. */
export async function moving(page, name, timeout = CONNECT_TIMEOUT_MS) {
  await tile(page, name).waitFor({ timeout });
  await page.waitForFunction(
    (name) => {
      const found = [...document.querySelectorAll(".tile")].find(({ ariaLabel }) => ariaLabel === name || ariaLabel === `${name}, muted`);
      const video = found?.querySelector("video");
      return video && !found.classList.contains("blank") && video.videoWidth > 0 && video.currentTime > 0.3;
    },
    name,
    { timeout },
  );
}
