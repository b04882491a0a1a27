/** A call whose UDP loses too much, by what the server says, in Chromium: it goes over TCP until UDP is good. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, withBrowser } from "./fixture.mjs";
import { join, moving, newRoom } from "./participant.mjs";
import { Server } from "./server.mjs";

/** libwebrtc needs five checks without an answer to leave UDP, and the SDK two looks at UDP to go back, milliseconds. */
const PATIENCE_MS = 40_000;

/** @type {Server} */
let server;

withBrowser();
before(async () => {
  // Looking at UDP takes a relay.
  server = await Server.start("127.0.0.1", { relay: "own" });
});
after(() => server?.kill());

/** In the page: `serverSays` has the SDK read an event that the server has not sent. */
function eventsToOrder() {
  let socket;
  let seq = 0;
  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      socket = this;
      this.addEventListener("message", ({ data }) => {
        if (typeof data === "string") seq = JSON.parse(data).seq ?? seq;
      });
    }
  };
  window.serverSays = (event) => socket.onmessage({ data: JSON.stringify({ seq: seq + 1, ...event }) });
}

async function goesOver(page, wanted) {
  const deadline = Date.now() + PATIENCE_MS;
  while ((await protocol(page)) !== wanted) {
    assert.ok(Date.now() < deadline, `media does not go over ${wanted}`);
    await page.waitForTimeout(250);
  }
}

function protocol(page) {
  return page.evaluate(async () => {
    const report = await window.confab.call.peerConnection.getStats();
    const transport = [...report.values()].find(({ type }) => type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    return report.get(pair?.localCandidateId)?.protocol;
  });
}

test("UDP that is lossy is left for TCP, and returned to, and the pictures go on", async () => {
  const room = newRoom();
  const grace = await join(browser, server.url, { name: "Grace", room });
  const ada = await join(browser, server.url, { name: "Ada", room }, { script: [eventsToOrder, {}] });
  await goesOver(ada, "udp");
  await ada.evaluate(() => window.serverSays({ type: "media", state: "lossy" }));
  await goesOver(ada, "tcp");
  await moving(ada, "Grace");
  await moving(grace, "Ada");
  await goesOver(ada, "udp");
  await moving(ada, "Grace");
  await moving(grace, "Ada");
  assert.equal(await ada.evaluate(() => window.confab.call.state), "connected");
});
