/** Calls through the server's TURN relay, with nothing set up for it, as behind a firewall. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, withBrowser } from "./fixture.mjs";
import { join, moving, newRoom, seesAndHears } from "./participant.mjs";
import { Server } from "./server.mjs";

/** Nobody answers there (RFC 5737). */
const NOWHERE = "192.0.2.1:3478";
/** A search for ways that was waited for would take longer, milliseconds. */
const SOON_MS = 5_000;

/** @type {Server} */
let server;

withBrowser();
before(async () => {
  server = await Server.start("127.0.0.1", { relay: "own" });
});
after(() => server?.kill());

/**
 * Has the browser know only some of the servers that it is given, as if the way to the others were blocked.
 * @param {{only?: string, at?: string}} way What their addresses contain, or where they are said to be instead.
 */
function someServers({ only = "", at }) {
  const fewer = (configuration) => ({
    ...configuration,
    iceServers: configuration.iceServers?.map((server) => ({
      ...server,
      urls: server.urls.filter((url) => url.includes(only)).map((url) => (at ? url.replace(/:[^?]+/, `:${at}`) : url)),
    })),
  });
  const { setConfiguration } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setConfiguration = function (configuration) {
    setConfiguration.call(this, fewer(configuration));
  };
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super(fewer(configuration));
    }
  };
}

/** The way that media takes. */
async function way(page) {
  return page.evaluate(async () => {
    const report = await window.confab.call.peerConnection.getStats();
    const transport = [...report.values()].find(({ type }) => type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    const { candidateType, relayProtocol } = report.get(pair.localCandidateId);
    return { candidateType, relayProtocol };
  });
}

/** Fails unless a worker has said that it got packets from the relay in its own process without the kernel. */
function inMemory({ log }) {
  assert.match(log, /media takes this path.*path=our relay/);
}

for (const protocol of ["udp", "tcp"]) {
  test(`a call through the relay alone, over ${protocol.toUpperCase()}`, async (context) => {
    const room = newRoom();
    const script = [someServers, { only: `transport=${protocol}` }];
    const grace = await join(browser, server.url, { name: "Grace", room });
    const ada = await join(browser, server.url, { name: "Ada", room, relay: "1" }, { script });
    await moving(ada, "Grace");
    await moving(grace, "Ada");
    await seesAndHears(ada, 1, "Ada");
    await seesAndHears(grace, 1, "Grace");
    assert.deepEqual(await way(ada), { candidateType: "relay", relayProtocol: protocol });
    assert.notEqual((await way(grace)).candidateType, "relay", "what goes directly is not relayed");
    inMemory(server);
    context.diagnostic(`first frame after join: ${await firstFrame(ada)} ms`);
  });
}

test("one UDP port for media and the relay: who can goes directly", async () => {
  const shared = await Server.start("127.0.0.1", { relay: "media" });
  try {
    const room = newRoom();
    const grace = await join(browser, shared.url, { name: "Grace", room });
    const ada = await join(browser, shared.url, { name: "Ada", room, relay: "1" });
    await moving(ada, "Grace");
    await moving(grace, "Ada");
    await seesAndHears(ada, 1, "Ada");
    assert.deepEqual(await way(ada), { candidateType: "relay", relayProtocol: "udp" });
    assert.notEqual((await way(grace)).candidateType, "relay");
    inMemory(shared);
  } finally {
    await shared.kill();
  }
});

test("credentials are good for a call only: renewed while it lasts, and refused after it", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room, relay: "1" });
  const grace = await join(browser, server.url, { name: "Grace", room });
  await moving(grace, "Ada");
  const servers = await ada.evaluate(() => window.confab.call.peerConnection.getConfiguration().iceServers);
  assert.match(servers[0].username, /^\d+:u_/);
  const relayed = (page) =>
    page.evaluate(async (iceServers) => {
      const pc = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
      pc.createDataChannel("");
      const found = new Promise((resolve) => {
        pc.onicecandidate = ({ candidate }) => resolve(candidate?.candidate ? "relayed" : "refused");
      });
      await pc.setLocalDescription();
      const answer = await found;
      pc.close();
      return answer;
    }, servers);
  assert.equal(await relayed(grace), "relayed");
  await ada.click("#leave");
  await ada.waitForSelector("#left-title:visible");
  assert.equal(await relayed(grace), "refused");
});

test("a relay that does not answer holds nobody up", async (context) => {
  const room = newRoom();
  const before = Date.now();
  const script = [someServers, { at: NOWHERE }];
  const ada = await join(browser, server.url, { name: "Ada", room }, { script });
  const ms = Date.now() - before;
  context.diagnostic(`connected ${ms} ms after the page was asked for`);
  assert.ok(ms < SOON_MS, `${ms} ms`);
  await join(browser, server.url, { name: "Grace", room });
  await moving(ada, "Grace");
});

test("who wants a relay where there is none is told", async () => {
  const without = await Server.start();
  try {
    const page = await (await browser.newContext()).newPage();
    await page.goto(`${without.url}/?${new URLSearchParams({ name: "Ada", room: newRoom(), relay: "1", autojoin: "1" })}`);
    await page.waitForFunction(() => document.getElementById("lobby-problem-words").textContent.includes("through a relay only"));
  } finally {
    await without.kill();
  }
});

async function firstFrame(page) {
  return page.evaluate(async () => (await window.confab.call.stats()).firstFrameMs?.toFixed(0));
}
