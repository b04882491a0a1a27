/** WHIP and WHEP as a script without the SDK would use them. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, server, withBrowser, withServer } from "./fixture.mjs";
import { join, moving, newRoom } from "./participant.mjs";
import { blankPage, publish } from "./whip.mjs";

withBrowser();
withServer();

test("a WHEP viewer sees the room, and ends by DELETE", async () => {
  const room = newRoom();
  await join(browser, server.url, { name: "Ada", room });
  const page = await blankPage();
  const result = await page.evaluate(async (room) => {
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const { receiver } = pc.addTransceiver("video", { direction: "recvonly" });
    pc.addTransceiver("audio", { direction: "recvonly" });
    await pc.setLocalDescription();
    const answer = await fetch(`/whep/${room}`, {
      method: "POST",
      headers: { "content-type": "application/sdp" },
      body: pc.localDescription.sdp,
    });
    const location = answer.headers.get("location");
    const created = { status: answer.status, type: answer.headers.get("content-type"), etag: answer.headers.get("etag"), location };
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    const video = document.createElement("video");
    video.muted = true;
    video.srcObject = new MediaStream([receiver.track]);
    void video.play();
    // The smallest of the sizes comes first.
    await new Promise((done, fail) => {
      video.onresize = () => video.videoWidth === 640 && done();
      setTimeout(() => fail(new Error(`the picture is ${video.videoWidth} wide`)), 15_000);
    });
    const before = [...(await receiver.getStats()).values()].find(({ type }) => type === "inbound-rtp").framesDecoded;
    await new Promise((done) => setTimeout(done, 2_000));
    const after = [...(await receiver.getStats()).values()].find(({ type }) => type === "inbound-rtp").framesDecoded;
    const ended = await fetch(location, { method: "DELETE" });
    const again = await fetch(location, { method: "DELETE" });
    pc.close();
    return { created, frames: after - before, ended: ended.status, again: again.status };
  }, room);
  assert.equal(result.created.status, 201);
  assert.match(result.created.type, /^application\/sdp/);
  assert.ok(result.created.etag);
  assert.ok(result.frames >= 20, `${result.frames} frames in two seconds`);
  assert.equal(result.ended, 200);
  assert.equal(result.again, 404);
});

test("a WHIP publisher is seen in the call page", async () => {
  const room = newRoom();
  const ada = await join(browser, server.url, { name: "Ada", room });
  const page = await publish(room);
  await ada.waitForFunction(() => window.confab.call.participants.size === 1);
  const name = await ada.evaluate(() => [...window.confab.call.participants.values()][0].name);
  await moving(ada, name);
  assert.equal(await page.evaluate(async () => (await fetch(window.session, { method: "DELETE" })).status), 200);
  await ada.waitForFunction(() => window.confab.call.participants.size === 0);
});
