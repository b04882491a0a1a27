/** A call where no UDP gets through: Chromium connects to the server over TCP (RFC 6544). */

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { address, connected, join, moving, newRoom, readStats, seesAndHears } from "./participant.mjs";
import { Server } from "./server.mjs";

/** So long the estimate has before a call is judged, milliseconds. */
const SETTLE_MS = 5_000;

withBrowser();
withServer();

/** In the page: of an answer, only what can be reached over TCP is believed. */
function withoutUdp() {
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    const sdp = description.sdp.replace(/^a=candidate:\S+ \d+ udp .*\r\n/gim, "");
    return setRemoteDescription.call(this, { type: description.type, sdp });
  };
}

async function joinOverTcp(options, url = server.url) {
  const context = await browser.newContext({ viewport: { width: 960, height: 640 } });
  const page = await context.newPage();
  await page.addInitScript(withoutUdp);
  page.on("pageerror", (error) => console.error(`${options.name}: ${error.stack}`));
  await page.goto(address(url, options));
  await connected(page);
  return page;
}

async function protocol(page) {
  return (await reached(page)).protocol;
}

/** Where media goes. */
async function reached(page) {
  return page.evaluate(async () => {
    const report = await window.confab.call.peerConnection.getStats();
    const all = [...report.values()];
    const transport = all.find(({ type }) => type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    const { protocol, port } = report.get(pair.remoteCandidateId);
    return { protocol, port };
  });
}

test("with UDP blocked two tabs see and hear each other over TCP", async (context) => {
  const room = newRoom();
  const ada = await joinOverTcp({ name: "Ada", room });
  const grace = await joinOverTcp({ name: "Grace", room });
  await moving(grace, "Ada");
  await moving(ada, "Grace");
  assert.equal(await protocol(ada), "tcp");
  await ada.waitForTimeout(SETTLE_MS);
  await seesAndHears(ada, 1, "Ada");
  await seesAndHears(grace, 1, "Grace");
  const { video } = await readStats(grace);
  const [{ frameHeight, nackCount }] = video.filter(({ framesDecoded }) => framesDecoded > 0);
  context.diagnostic(`Grace sees ${frameHeight} lines, has asked ${nackCount} times for packets`);
  assert.equal(nackCount, 0, "nothing is lost over TCP");
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const connections = [...metrics.matchAll(/^confab_tcp_connections\{.*\} (\d+)$/gm)].map(([, count]) => Number(count));
  assert.ok(connections.reduce((sum, count) => sum + count, 0) >= 2);
});

test("a tab over TCP and one over UDP are in one call", async () => {
  const room = newRoom();
  const ada = await joinOverTcp({ name: "Ada", room });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
  await moving(grace, "Ada");
  assert.equal(await protocol(grace), "udp", "UDP is preferred where there is both");
  await ada.waitForTimeout(SETTLE_MS);
  await seesAndHears(ada, 1, "Ada");
  await seesAndHears(grace, 1, "Grace");
});

test("one TCP port for everything: media goes to that of HTTPS, whichever worker it is for", async () => {
  const shared = await Server.start("127.0.0.1", { onePort: true });
  try {
    const room = newRoom();
    const ada = await joinOverTcp({ name: "Ada", room }, shared.url);
    const grace = await joinOverTcp({ name: "Grace", room }, shared.url);
    await moving(grace, "Ada");
    await moving(ada, "Grace");
    for (const page of [ada, grace]) assert.deepEqual(await reached(page), { protocol: "tcp", port: shared.onePort });
    await ada.waitForTimeout(SETTLE_MS);
    await seesAndHears(ada, 1, "Ada");
    await seesAndHears(grace, 1, "Grace");
  } finally {
    await shared.kill();
  }
});
