/** Codecs that only some clients have: they are passed through, and who cannot receive one is told so. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { screenshot } from "./chromium.mjs";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { join, moving, newRoom, readStats, tile, voicesFault, watchUntil } from "./participant.mjs";
import { publish } from "./whip.mjs";

/** Audio and video further apart than this are not in step (ITU-R BT.1359-1: detected from 125 ms on). */
const IN_STEP_MS = 125;
/** Until what a change of the clock has done to them is over: receivers go by several reports, a second apart. */
const SETTLE_MS = 6_000;
/** Where cores are few it takes longer. */
const IN_STEP_TIMEOUT_MS = 25_000;

withBrowser();
withServer();

/** Has the publisher go over to another codec of audio, on the SSRC that it has. */
async function changeCodec(page, audio) {
  await page.evaluate(async (audio) => {
    const sender = window.pc.getSenders().find(({ track }) => track.kind === "audio");
    const parameters = sender.getParameters();
    parameters.encodings[0].codec = parameters.codecs.find(({ mimeType }) => mimeType.toLowerCase() === `audio/${audio}`);
    await sender.setParameters(parameters);
  }, audio);
}

/** The codec of the audio that comes in. */
async function heardAs(page) {
  return page.evaluate(async () => {
    const report = await window.confab.call.peerConnection.getStats();
    const stats = [...report.values()];
    const sounds = stats.filter(({ type, kind, packetsReceived }) => type === "inbound-rtp" && kind === "audio" && packetsReceived > 0);
    return sounds.map(({ codecId }) => report.get(codecId)?.mimeType.toLowerCase());
  });
}

/** By how much the audio that is played is ahead of the picture, milliseconds. */
async function skew(page) {
  const { audio, video } = await readStats(page);
  const played = (streams) => streams.find(({ estimatedPlayoutTimestamp }) => estimatedPlayoutTimestamp > 0)?.estimatedPlayoutTimestamp;
  return played(audio) - played(video);
}

async function waitForSound(page, audio) {
  const deadline = performance.now() + 15_000;
  for (;;) {
    const codecs = await heardAs(page);
    if (codecs.includes(`audio/${audio}`)) return;
    assert.ok(performance.now() < deadline, `it hears ${codecs}, not ${audio}`);
    await page.waitForTimeout(100);
  }
}

async function hearsOne(page, what) {
  await watchUntil(page, (watched) => voicesFault(watched, 1, `who gets ${what}`));
}

for (const audio of ["pcmu", "pcma", "g722"]) {
  test(`who sends ${audio} alone is heard`, async () => {
    const room = newRoom();
    const ada = await join(browser, server.url, { name: "Ada", room });
    await publish(room, { audio, only: true });
    await waitForSound(ada, audio);
    await hearsOne(ada, audio);
  });
}

test("a sender that changes its codec, and with it the clock, stays clear and in step", async (context) => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const page = await publish(room);
  await waitForSound(ada, "opus");
  for (const audio of ["pcma", "opus"]) {
    await ada.waitForTimeout(SETTLE_MS);
    await changeCodec(page, audio);
    await waitForSound(ada, audio);
    await hearsOne(ada, audio);
    const deadline = performance.now() + IN_STEP_TIMEOUT_MS;
    let ms;
    do {
      assert.ok(performance.now() < deadline, `${audio}: the sound is ${ms} ms ahead of the picture`);
      await ada.waitForTimeout(SETTLE_MS);
      ms = await skew(ada);
    } while (Math.abs(ms) >= IN_STEP_MS);
    context.diagnostic(`${audio}: the sound is ${ms.toFixed(0)} ms ahead of the picture`);
  }
});

/** A browser without the codecs that others send, on what it receives. */
function withoutCodecs() {
  const { setCodecPreferences } = RTCRtpTransceiver.prototype;
  RTCRtpTransceiver.prototype.setCodecPreferences = function (codecs) {
    const isOther = ({ mimeType }) => !/VP8|opus|red/i.test(mimeType);
    setCodecPreferences.call(this, this.direction === "recvonly" ? codecs.filter(isOther) : codecs);
  };
}

test("who cannot receive what is sent is told so, and sees what comes instead", async () => {
  const room = newRoom();
  const grace = await join(browser, server.url, { name: "Grace", room }, { script: [withoutCodecs, {}] });
  const ada = await join(browser, server.url, { name: "Ada", room });
  await grace.locator(".tile.paused.unheard .pause").waitFor({ timeout: 15_000 });
  const words = await tile(grace, "Ada").locator(".pause").textContent();
  assert.match(words, /VP8.*cannot receive/);
  await screenshot(grace, "codec-not-received");
  const { slots } = await grace.evaluate(() => window.confab.call.quality());
  const told = slots.map(({ reason, layer, explanation }) => [reason, layer, /VP8|Opus/.exec(explanation)?.[0]]);
  assert.deepEqual(told.sort(), [["codec", null, "Opus"], ["codec", null, "VP8"]]);
  await ada.evaluate(async () => {
    for (const { transceiver } of window.confab.call.publications) {
      const { sender } = transceiver;
      const parameters = sender.getParameters();
      const other = { audio: "audio/PCMU", video: "video/VP9" }[sender.track.kind];
      for (const encoding of parameters.encodings) encoding.codec = parameters.codecs.find(({ mimeType }) => mimeType === other);
      await sender.setParameters(parameters);
    }
  });
  await moving(grace, "Ada");
  await grace.waitForFunction(() => !document.querySelector(".tile.paused, .tile.unheard"));
  await hearsOne(grace, "PCMU");
});
