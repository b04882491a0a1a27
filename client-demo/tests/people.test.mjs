/**
 * Who is there and who may do what: viewers, one person on two connections, tokens that allow less,
 * pages of other origins, and a server that stops.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { screenshot } from "./chromium.mjs";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { address, connected, join, moving, newRoom, tile } from "./participant.mjs";
import { Server } from "./server.mjs";

withBrowser();
withServer();

/** @type {Server} */
let guarded;
/** Another site, with a page that has nothing. */
let site;
before(async () => {
  guarded = await Server.start("127.0.0.1", { tokens: true });
  site = createServer((_, response) => response.setHeader("content-type", "text/html").end("<title>Elsewhere</title>"));
  await once(site.listen(0, "127.0.0.1"), "listening");
});
after(async () => {
  site?.close();
  await guarded?.kill();
});

/** A page at another origin than the server's. */
async function elsewhere() {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  return page;
}

/** Publishes or watches over HTTP from a page; gives what came of it, and keeps the connection there. */
async function overHttp(page, url, { sends = false, token } = {}) {
  return page.evaluate(
    async ({ url, sends, token }) => {
      const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
      (window.connections ??= []).push(pc);
      if (sends) {
        const capture = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 } });
        for (const track of capture.getTracks()) pc.addTransceiver(track, { direction: "sendonly" });
      } else {
        for (let slot = 0; slot < 2; slot += 1) pc.addTransceiver("video", { direction: "recvonly" });
      }
      await pc.setLocalDescription();
      const headers = { "content-type": "application/sdp", ...(token && { authorization: `Bearer ${token}` }) };
      const answer = await fetch(url, { method: "POST", headers, body: pc.localDescription.sdp });
      const text = await answer.text();
      if (answer.status !== 201) return { status: answer.status, problem: JSON.parse(text) };
      await pc.setRemoteDescription({ type: "answer", sdp: text });
      return { status: answer.status, location: answer.headers.get("location"), etag: answer.headers.get("etag") };
    },
    { url, sends, token },
  );
}

/** How many pictures a connection receives that move. */
async function pictures(page, index) {
  return page.evaluate(async (index) => {
    const frames = async () => {
      const report = [...(await window.connections[index].getStats()).values()];
      return report.filter(({ type }) => type === "inbound-rtp").map(({ framesDecoded = 0 }) => framesDecoded);
    };
    const before = await frames();
    await new Promise((done) => setTimeout(done, 2_000));
    return (await frames()).filter((now, slot) => now > (before[slot] ?? 0)).length;
  }, index);
}

async function headCount(page, words) {
  await page.waitForFunction((words) => document.getElementById("head-count").textContent === words, words, { timeout: 10_000 });
}

test("who watches over WHEP without a name is counted, and one with a name is seen", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  await headCount(ada, "only you");
  const page = await elsewhere();
  const first = await overHttp(page, `${server.url}/whep/${room}`);
  assert.equal(first.status, 201);
  await headCount(ada, "only you, 1 viewer");
  await overHttp(page, `${server.url}/whep/${room}`);
  await headCount(ada, "only you, 2 viewers");
  assert.equal(await ada.locator(".tile").count(), 1, "no tile for who cannot be seen");
  await screenshot(ada, "viewers");
  await overHttp(page, `${server.url}/whep/${room}?name=Grace`);
  await headCount(ada, "2 people, 2 viewers");
  await page.evaluate((address) => fetch(address, { method: "DELETE" }), server.url + first.location);
  await headCount(ada, "2 people, 1 viewer");
});

test("who publishes by WHIP and watches by WHEP is one person, who is not shown himself", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const page = await elsewhere();
  await overHttp(page, `${server.url}/whep/${room}?identity=bo`);
  await headCount(ada, "only you, 1 viewer");
  await overHttp(page, `${server.url}/whip/${room}?identity=bo&name=Bo`, { sends: true });
  await headCount(ada, "2 people");
  await moving(ada, "Bo");
  await page.waitForFunction(() => window.connections.every(({ connectionState }) => connectionState === "connected"));
  assert.equal(await pictures(page, 0), 1, "Ada, and not Bo");
  await overHttp(page, `${server.url}/whep/${room}?identity=cy`);
  await page.waitForFunction(() => window.connections.every(({ connectionState }) => connectionState === "connected"));
  assert.equal(await pictures(page, 2), 2, "somebody else sees both");
  const identity = await ada.evaluate(() => [...window.confab.call.participants.values()].map(({ identity }) => identity));
  assert.deepEqual(identity, ["bo"]);
});

test("a client of the SDK without a name is a viewer, until it publishes", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const page = await elsewhere();
  await page.evaluate(
    async ({ url, room }) => {
      const { Confab } = await import(`${url}/sdk/confab.js`);
      window.call = await Confab.join({ room });
    },
    { url: server.url, room },
  );
  await headCount(ada, "only you, 1 viewer");
  assert.equal(await page.evaluate(() => window.call.viewers), 1);
  await page.evaluate(async () => {
    const capture = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 } });
    window.publication = await window.call.publish(capture.getTracks()[0], { source: "camera" });
  });
  await headCount(ada, "2 people");
  await moving(ada, "Guest");
  await page.evaluate(() => window.call.unpublish(window.publication));
  await headCount(ada, "only you, 1 viewer");
  await page.evaluate(() => window.call.leave());
  await headCount(ada, "only you");
});

test("a page of another origin takes the SDK from the server and calls, whatever form the address has", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const page = await elsewhere();
  const { host } = new URL(server.url);
  for (const url of [undefined, `http://${host}`, `http://${host}/`, `ws://${host}`, `ws://${host}/v1/ws`]) {
    const names = await page.evaluate(
      async ({ from, room, url }) => {
        const { Confab } = await import(`${from}/sdk/confab.js`);
        const call = await Confab.join({ room, name: "Grace", url });
        const names = [...call.participants.values()].map(({ name }) => name);
        await call.leave();
        return names;
      },
      { from: server.url, room, url },
    );
    assert.deepEqual(names, ["Ada"], url);
  }
  const refused = await page.evaluate(async (from) => {
    const { Confab } = await import(`${from}/sdk/confab.js`);
    return Confab.join({ room: "x", name: "Grace", url: "example.org" }).catch(({ code, message }) => ({ code, message }));
  }, server.url);
  assert.equal(refused.code, "bad_url");
  await headCount(ada, "only you");
});

test("a page of another origin publishes over WHIP with a token, and its address is enough to end it", async () => {
  const room = newRoom();
  const page = await elsewhere();
  const token = guarded.token(room, "ada");
  const created = await overHttp(page, `${guarded.url}/whip/${room}`, { sends: true, token });
  assert.equal(created.status, 201);
  assert.ok(created.location && created.etag, "the page may read both");
  const ended = await page.evaluate(async (address) => (await fetch(address, { method: "DELETE" })).status, guarded.url + created.location);
  assert.equal(ended, 200);
  for (const [token, reason] of [[undefined, "missing"], [`${guarded.token(room, "ada").slice(0, -3)}AAA`, "bad_signature"]]) {
    const refused = await overHttp(page, `${guarded.url}/whip/${room}`, { sends: true, token });
    assert.equal(refused.status, 401);
    assert.equal(refused.problem.reason, reason, "the page may read why");
  }
});

test("who may only watch is shown no microphone and no camera, and is told so", async () => {
  const room = newRoom();
  const ada = await join(browser, guarded.url, { name: "Ada", room }, { token: guarded.token(room, "ada", "--metadata", '{"seat":7}') });
  const context = await browser.newContext({ viewport: { width: 960, height: 640 } });
  const page = await context.newPage();
  await page.addInitScript(() => {
    window.asked = 0;
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => {
      window.asked += 1;
      return real(wanted);
    };
  });
  const token = guarded.token(room, "vera", "--no-publish");
  await page.goto(`${guarded.url}/?${new URLSearchParams({ name: "Vera", room })}#token=${token}`);
  await page.waitForSelector("#lobby-watching", { state: "visible" });
  assert.ok(await page.isHidden("#preview"));
  assert.ok(await page.isHidden("#camera"));
  await screenshot(page, "lobby-watching");
  await page.click("#join");
  await connected(page);
  await moving(page, "Ada");
  assert.equal(await page.textContent("#call-role"), "You are watching");
  for (const button of ["#toggle-mic", "#toggle-camera", "#toggle-screen"]) assert.ok(await page.isHidden(button), button);
  await page.click("#open-devices");
  assert.ok(await page.isHidden("#call-microphone") && await page.isHidden("#call-camera"), "there is nothing to choose");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => window.asked), 0, "no device was asked for");
  await screenshot(page, "call-watching");
  const told = await page.evaluate(async () => {
    const { call } = window.confab;
    const { track } = new RTCPeerConnection().addTransceiver("video").receiver;
    const refused = await call.publish(track, { source: "camera" }).catch(({ code, message }) => ({ code, message }));
    const [other] = call.participants.values();
    return { permissions: call.permissions, refused, self: call.self, metadata: other.metadata, identity: other.identity };
  });
  assert.deepEqual(told.permissions, { publish: false, subscribe: true });
  assert.equal(told.refused.code, "not_allowed");
  assert.match(told.refused.message, /does not allow to publish/);
  assert.deepEqual([told.identity, told.metadata, told.self.identity], ["ada", '{"seat":7}', "vera"]);
  await headCount(ada, "2 people");
  assert.equal(await tile(ada, "Vera").count(), 1);
});

test("tracks that a token does not allow stay the caller's, and are no publications", async () => {
  const room = newRoom();
  const page = await elsewhere();
  const result = await page.evaluate(
    async ({ url, room, token }) => {
      const { Confab } = await import(`${url}/sdk/confab.js`);
      const capture = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
      const call = await Confab.join({ room, name: "Vera", token, tracks: capture.getTracks() });
      await new Promise((done) => setTimeout(done, 1_000));
      const sent = [...(await call.peerConnection.getStats()).values()].filter(({ type, bytesSent }) => type === "outbound-rtp" && bytesSent > 0);
      const live = capture.getTracks().every(({ readyState }) => readyState === "live");
      return { permissions: call.permissions, publications: call.publications.length, sent: sent.length, live };
    },
    { url: guarded.url, room, token: guarded.token(room, "vera", "--no-publish") },
  );
  assert.deepEqual(result, { permissions: { publish: false, subscribe: true }, publications: 0, sent: 0, live: true });
});

test("who may only send is told so, and gets nothing", async () => {
  const room = newRoom();
  const options = { name: "Ada", room };
  await join(browser, guarded.url, options, { token: guarded.token(room, "ada") });
  const page = await join(browser, guarded.url, { name: "Bo", room }, { token: guarded.token(room, "bo", "--no-subscribe") });
  assert.match(await page.textContent("#call-role"), /^You are sending/);
  const refused = await page.evaluate(() => {
    const { call } = window.confab;
    const [track] = [...call.participants.values()].flatMap(({ tracks }) => [...tracks.keys()]);
    return call.pin(track).catch(({ code }) => code);
  });
  assert.equal(refused, "not_allowed");
});

for (const [what, flags, words] of [
  ["another room", ["other-room"], /The access token is for the room "other-room", not for the room/],
  ["nothing", null, /An access token is needed/],
]) {
  test(`the page says what is wrong with a token: ${what}`, async () => {
    const room = newRoom();
    const page = await (await browser.newContext()).newPage();
    const token = flags && guarded.token(flags[0], "ada");
    await page.goto(address(guarded.url, { name: "Ada", room }, token));
    await page.waitForSelector("#lobby-problem:not([hidden])");
    assert.match(await page.textContent("#lobby-problem-words"), words);
  });
}

test("a stopping server tells people on the page, and afterwards why nothing goes on", async () => {
  const stopped = await Server.start();
  const page = await join(browser, stopped.url, { name: "Ada", room: newRoom() });
  stopped.stop();
  await page.waitForSelector("#call-problem:not([hidden])");
  const words = await page.textContent("#call-problem-words");
  assert.match(words, /^The server is stopping in \d+ s, or when everybody has left/);
  await screenshot(page, "stopping");
  await stopped.kill();
  await page.waitForFunction(() => /^The server has stopped\./.test(document.getElementById("call-problem-words").textContent), null, { timeout: 30_000 });
  await stopped.restart();
  await connected(page, 30_000);
  assert.ok(await page.isHidden("#call-problem"));
  await page.close();
  await stopped.kill();
});
