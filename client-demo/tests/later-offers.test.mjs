/**
 * What Chromium can publish by a later offer. It copies the header extensions of answers into later
 * offers, so what an answer leaves out, for a slot or a camera that is off, is missing afterwards. Told
 * by the plain protocol, as other clients speak it, and by the SDK.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { connected, join, moving, newRoom } from "./participant.mjs";

/** Three sizes, the smallest first. */
const SIZES = ["q", "h", "f"];
const SEND_TIMEOUT_MS = 15_000;

withBrowser();
withServer();

/**
 * In the page: a client of the plain protocol, as `window.plain`.
 * @param {{url: string, room: string, sizes: string[]}} options
 */
function installPlainClient({ url, room, sizes }) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/ws`);
  const waiting = new Map();
  let last = 0;
  let joined = false;
  const lines = new Map();
  const pc = new RTCPeerConnection();
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    waiting.get(message.re)?.(message);
  };
  const ask = (message) => new Promise((resolve) => {
    last += 1;
    waiting.set(last, resolve);
    socket.send(JSON.stringify({ id: last, ...message }));
  });
  const open = new Promise((resolve) => (socket.onopen = resolve)).then(() => ask({ type: "hello", version: 1 }));
  const sendEncodings = sizes.map((rid, index) => ({ rid, scaleResolutionDownBy: 2 ** (sizes.length - 1 - index) }));
  const publish = async (name, kind, init) => {
    const media = await navigator.mediaDevices.getUserMedia({ [kind]: kind === "video" ? { width: 1280, height: 720 } : true });
    lines.set(name, pc.addTransceiver(media.getTracks()[0], { direction: "sendonly", ...init }));
  };
  const acts = {
    "slots": () => ["audio", "video"].map((kind) => pc.addTransceiver(kind, { direction: "recvonly" })),
    "a slot for pictures": () => pc.addTransceiver("video", { direction: "recvonly" }),
    "microphone": () => publish("microphone", "audio"),
    "camera": () => publish("camera", "video", { sendEncodings }),
    "screen": () => publish("screen", "video"),
    // Beside a screen in one, so by another name.
    "screen in sizes": () => publish("other", "video", { sendEncodings }),
    "camera off": () => (lines.get("camera").direction = "inactive"),
    "camera on": () => (lines.get("camera").direction = "sendonly"),
    "camera stopped": () => {
      lines.get("camera").stop();
      lines.delete("camera");
    },
  };
  window.plain = {
    /** One offer: what it says that is of interest, or what went wrong. */
    async step(act) {
      await open;
      await acts[act]();
      await pc.setLocalDescription();
      const { sdp } = pc.localDescription;
      const tracks = [...lines].map(([source, { mid }]) => ({ mid, source }));
      const reply = await ask(joined ? { type: "offer", sdp, tracks } : { type: "join", room, name: "Ada", offer: sdp, tracks });
      const answer = reply.answer ?? reply.sdp;
      if (!answer) throw new Error(JSON.stringify(reply));
      joined = true;
      await pc.setRemoteDescription({ type: "answer", sdp: answer });
      const live = [...lines].filter(([, { direction }]) => direction === "sendonly");
      return {
        rejected: (answer.match(/^m=\S+ 0 /gm) ?? []).length - (sdp.match(/^m=\S+ 0 /gm) ?? []).length,
        published: reply.tracks.map(({ mid }) => mid).sort(),
        wanted: live.map(([, { mid }]) => mid).sort(),
        sizes: Object.fromEntries(live.map(([name, { sender }]) => [name, sender.getParameters().encodings.length])),
      };
    },
    /** The names of the encodings that are sent. */
    async sent() {
      const report = [...(await pc.getStats()).values()];
      return report.filter(({ type, packetsSent }) => type === "outbound-rtp" && packetsSent > 0).map(({ rid }) => rid);
    },
  };
}

/** Whoever plays these steps, one offer each, is served with each of them. */
const ORDERS = [
  ["slots", "camera", "microphone", "screen", "screen in sizes"],
  ["slots", "microphone", "screen in sizes", "camera"],
  ["a slot for pictures", "microphone", "camera", "slots"],
  ["camera", "microphone", "slots", "screen in sizes"],
  ["slots", "camera", "camera off", "camera on", "screen in sizes"],
  ["microphone", "slots", "camera", "camera off", "screen in sizes", "camera on"],
  ["screen", "slots", "camera", "camera stopped", "camera"],
];

for (const order of ORDERS) {
  test(`by the plain protocol: ${order.join(", ")}`, async () => {
    const room = newRoom();
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(server.url);
    await page.evaluate(installPlainClient, { url: server.url, room, sizes: SIZES });
    for (const act of order) {
      const { rejected, published, wanted, sizes } = await page.evaluate((act) => window.plain.step(act), act);
      assert.equal(rejected, 0, `m-lines are rejected after "${act}"`);
      assert.deepEqual(published, wanted, `published after "${act}"`);
      if (sizes.camera) assert.equal(sizes.camera, SIZES.length, `sizes of the camera after "${act}"`);
      if (sizes.other) assert.equal(sizes.other, SIZES.length, `sizes of the screen after "${act}"`);
    }
    // And the picture arrives, of which at least the smallest is always sent.
    const grace = await join(browser, server.url, { name: "Grace", room });
    await moving(grace, "Ada");
    await page.waitForFunction(
      async (smallest) => (await window.plain.sent()).includes(smallest),
      SIZES[0],
      { timeout: SEND_TIMEOUT_MS },
    );
  });
}

test("by the SDK: join bare, camera in three sizes, screen, camera off and on", async () => {
  const room = newRoom();
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(server.url);
  const sizes = await page.evaluate(async (room) => {
    const { Confab } = await import("/sdk/confab.js");
    const capture = async () => (await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 } })).getTracks()[0];
    const call = await Confab.join({ room, name: "Ada" });
    const sizes = [];
    const note = ({ transceiver }) => sizes.push(transceiver.sender.getParameters().encodings.length);
    const camera = await call.publish(await capture(), { source: "camera", simulcast: true });
    note(camera);
    note(await call.publish(await capture(), { source: "screen" }));
    await call.unpublish(camera);
    note(await call.publish(await capture(), { source: "camera", simulcast: true }));
    note(await call.publish(await capture(), { source: "other", simulcast: true }));
    window.confab = { call };
    return sizes;
  }, room);
  assert.deepEqual(sizes, [3, 1, 3, 3]);
  await connected(page);
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  await moving(grace, "Ada's screen");
});

/** In the page, before its own scripts: what is offered of audio is a codec that nobody has, and toasts are kept. */
function offerStrangeSound() {
  window.toasts = [];
  addEventListener("DOMContentLoaded", () => {
    const note = (changes) => window.toasts.push(...changes.flatMap(({ addedNodes }) => [...addedNodes].map(({ textContent }) => textContent)));
    new MutationObserver(note).observe(document.getElementById("toasts"), { childList: true });
  });
  // Messages are not compressed then.
  window.CompressionStream = undefined;
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    const message = JSON.parse(data);
    if (message.type === "join") {
      const strange = (section) => section.replace(/^a=rtpmap:(\d+) .*$/gm, "a=rtpmap:$1 strange/48000/2");
      const sections = message.offer.split(/^(?=m=)/m);
      const isMicrophone = (section) => section.startsWith("m=audio") && section.includes("a=sendonly");
      message.offer = sections.map((section) => (isMicrophone(section) ? strange(section) : section)).join("");
    }
    return send.call(this, JSON.stringify(message));
  };
}

test("a microphone that the server cannot take does not cost the camera, and is told", async () => {
  const room = newRoom();
  const grace = await join(browser, server.url, { name: "Grace", room });
  const ada = await join(browser, server.url, { name: "Ada", room }, { script: [offerStrangeSound] });
  await moving(grace, "Ada");
  const toasts = await ada.evaluate(() => window.toasts.join("\n"));
  assert.match(toasts, /do not get your microphone: .*strange/);
  const call = await ada.evaluate(() => {
    const { publications, refused } = window.confab.call;
    return {
      published: publications.map(({ source }) => source),
      refused: refused.map(({ publication, error }) => [publication.source, error.code]),
    };
  });
  assert.deepEqual(call, { published: ["camera"], refused: [["microphone", "unsupported_sdp"]] });
});
