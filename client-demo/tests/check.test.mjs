/** The page that checks the connection: what it says where all ways work, some, or none. */

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { NO_SERVER, openFromDisk, screenshot } from "./chromium.mjs";
import { browser, withBrowser } from "./fixture.mjs";
import { Server, ownAddress } from "./server.mjs";
import { deviceFinding, signalingFinding, verdict, wayFinding } from "../web/check-words.js";

/** The page says itself that it ends within half a minute; a busy machine is given as much again. */
const DONE_MS = 60_000;

/** Nothing is lost on loopback, but by a machine that is busy. */
const MOST_LOST = 0.1;

/** @type {Server[]} */
const servers = [];

withBrowser();
after(() => Promise.all(servers.map((server) => server.kill())));

async function start(...args) {
  const server = await Server.start(...args);
  servers.push(server);
  return server;
}

/** In the page: as behind a firewall that drops what goes to the media ports over UDP, over TCP, or to the relay. */
function blocked({ udp = false, tcp = false, relay = false }) {
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  const nowhere = "192.0.2.1 9"; // Nobody answers there (RFC 5737).
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
    const lost = sdp.replace(/^(a=candidate:\S+ \d+ (\w+) \d+ )\S+ \d+/gim, (line, before, protocol) =>
      (protocol.toLowerCase() === "udp" ? udp : tcp) ? `${before}${nowhere}` : line);
    return setRemoteDescription.call(this, { type, sdp: lost });
  };
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      const away = (url) => (relay ? url.replace(/:[^?]+/, ":192.0.2.1:9") : url);
      super({ ...configuration, iceServers: configuration.iceServers?.map((server) => ({ ...server, urls: server.urls.map(away) })) });
    }
  };
}

/** What the page says once it is done: of each line its grade and words, and all in all. */
async function checked(url, { script, name } = {}) {
  const page = await (await browser.newContext({ viewport: { width: 900, height: 800 } })).newPage();
  page.on("pageerror", (error) => console.error(error.stack));
  if (script) await page.addInitScript(...script);
  await page.goto(url);
  await page.waitForFunction(() => !document.getElementById("again").disabled, null, { timeout: DONE_MS });
  if (name) await screenshot(page, name);
  return page.evaluate(() => {
    const lines = [...document.querySelectorAll("#checks li")];
    const said = lines.map(({ id, dataset, lastChild }) => [id, { grade: dataset.grade, words: lastChild.textContent }]);
    const { outcomes } = window.confabCheck;
    return { ...Object.fromEntries(said), verdict: document.getElementById("verdict").textContent, outcomes };
  });
}

const WORKS = { state: "works", roundTrip: 20, loss: 0 };
const BLOCKED = { state: "blocked" };
const ABSENT = { state: "absent" };

for (const [outcomes, grade, words] of [
  [{ udp: WORKS, tcp: WORKS }, "good", /^UDP works: calls go the best way\.$/],
  [{ udp: { ...WORKS, loss: 0.1 }, tcp: WORKS }, "fair", /^UDP works, but the network is poor/],
  [{ udp: { ...WORKS, roundTrip: 900 } }, "fair", /take long/],
  [{ udp: BLOCKED, "turn-udp": WORKS, tcp: WORKS }, "good", /^UDP works through the server's relay/],
  [{ udp: BLOCKED, "turn-udp": BLOCKED, tcp: WORKS }, "fair", /over TCP, which is slower.*UDP to call\.example\.org out/],
  [{ udp: BLOCKED, tcp: BLOCKED, "turn-tls": WORKS }, "fair", /over TCP/],
  [{ udp: BLOCKED, tcp: BLOCKED, "turn-tls": BLOCKED }, "bad", /^Nothing works.*confab doctor` says of its ports and public address\.$/],
  [{ udp: BLOCKED, tcp: BLOCKED, "turn-tls": ABSENT }, "bad", /the server offers none\.$/],
  [{ udp: ABSENT, tcp: ABSENT, "turn-tls": ABSENT }, "bad", /^Nothing works.*Ask the administrator of the server what `confab doctor` says\.$/],
]) {
  const ways = Object.entries(outcomes).map(([way, { state, loss, roundTrip }]) => `${way} ${state}${loss ? ` ${loss}` : ""}${roundTrip > 20 ? ` ${roundTrip}` : ""}`);
  test(`the verdict on ${ways.join(", ")}`, () => {
    const said = verdict(outcomes, "call.example.org");
    assert.equal(said.grade, grade, said.words);
    assert.match(said.words, words);
  });
}

test("each line says what is so, and what to do about it", () => {
  const device = { secure: true, permission: "granted", count: 1 };
  for (const [{ grade, words }, wanted, like] of [
    [deviceFinding("camera", device), "good", /may use it/],
    [deviceFinding("camera", { ...device, permission: "prompt" }), "good", /will ask/],
    [deviceFinding("camera", { ...device, permission: "denied" }), "bad", /may not use your camera\. Allow it/],
    [deviceFinding("microphone", { ...device, count: 0 }), "fair", /^No microphone was found\. Plug one in to be heard/],
    [deviceFinding("microphone", { ...device, secure: false }), "bad", /https:/],
    [signalingFinding({ roundTrip: 12.4 }), "good", /in 12 ms/],
    [signalingFinding({ error: { code: "server_full", message: "The server is full." } }), "bad", /: The server is full\./],
    [signalingFinding({ error: { code: "unauthorized", message: "No.", reason: "expired" } }), "bad", /link has ended; ask for a new one/],
    [wayFinding({ ...WORKS, loss: 0.034 }), "fair", /^Works: round trip 20 ms, about 3\.4 % of sent packets lost\.$/],
    [wayFinding(BLOCKED), "bad", /^Blocked/],
    [wayFinding(ABSENT), "none", /does not offer/],
  ]) {
    assert.equal(grade, wanted, words);
    assert.match(words, like);
  }
});

test("all ways that the server offers work, and each is measured", async (context) => {
  const server = await start("127.0.0.1", { relay: "own" });
  const said = await checked(`${server.url}/check.html`, { name: "check" });
  assert.match(said.verdict, /^UDP works/);
  for (const way of ["udp", "turn-udp", "tcp", "turn-tcp"]) {
    assert.match(said[way].words, /^Works: round trip (under 1|\d+) ms, about [\d.]+ % of sent packets lost\.$/, way);
    const { loss, roundTrip } = said.outcomes[way];
    assert.ok(loss < MOST_LOST, `${way}: ${loss}`);
    context.diagnostic(`${way}: ${roundTrip} ms, ${loss}`);
  }
  assert.deepEqual(said["turn-tls"], { grade: "none", words: "The server does not offer it." });
  assert.match(said.signaling.words, /^The server answers in /);
  assert.deepEqual([said.camera.grade, said.microphone.grade], ["good", "good"]);
});

test("without UDP and without a relay calls go over TCP, and the page says so", async () => {
  const server = await start();
  const said = await checked(`${server.url}/check.html`, { script: [blocked, { udp: true }], name: "check-tcp" });
  assert.match(said.verdict, /^UDP is blocked here: calls go over TCP, which is slower/);
  assert.deepEqual(said.udp, { grade: "bad", words: "Blocked: nothing comes through." });
  assert.equal(said.tcp.grade, "good", said.tcp.words);
  for (const way of ["turn-udp", "turn-tcp", "turn-tls"]) assert.equal(said[way].words, "The server does not offer it.");
});

test("where nothing gets through the page says whom to ask for what", async () => {
  const server = await start("127.0.0.1", { relay: "media" });
  const said = await checked(`${server.url}/check.html`, { script: [blocked, { udp: true, tcp: true, relay: true }], name: "check-nothing" });
  for (const way of ["udp", "turn-udp", "tcp"]) assert.equal(said[way].grade, "bad", `${way}: ${said[way].words}`);
  assert.match(said.verdict, /^Nothing works: .*let UDP, or at least TCP, to 127\.0\.0\.1 out.*`confab doctor`.*turn\.tls_listen/);
});

test("where rooms need a token the page wants that of the call", async (context) => {
  const address = ownAddress();
  if (!address) return context.skip("this machine has loopback only");
  const server = await start(address);
  const without = await checked(`${server.url}/check.html?room=kitchen`);
  assert.match(without.verdict, /^No call can begin: The server answers, but asks for a token/);
  const token = server.token("kitchen", "ada");
  const said = await checked(`${server.url}/check.html?room=kitchen#token=${token}`);
  assert.match(said.verdict, /^UDP works/);
});

test("the lobby leads to the check with the room and the token, and back", async () => {
  const page = await openFromDisk(browser, { viewport: { width: 900, height: 800 } });
  await page.goto(`${NO_SERVER}/?room=kitchen&name=Ada#token=abc`);
  await page.click("#check-link");
  await page.waitForURL(`${NO_SERVER}/check.html?room=kitchen&name=Ada#token=abc`);
  await page.waitForFunction(() => document.getElementById("verdict").textContent.startsWith("No call can begin: The server does not answer."));
  assert.equal(await page.textContent("#udp p"), "Not checked.");
  await page.click("#back");
  await page.waitForFunction(() => document.getElementById("room")?.value === "kitchen");
});
