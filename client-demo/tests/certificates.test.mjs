/**
 * Browsers with another certificate than the one they make by themselves, and as either side of DTLS.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, firefox, server, withBothBrowsers } from "./fixture.mjs";
import { newRoom } from "./participant.mjs";

withBothBrowsers();

/** Publishes audio with such a key and such a role, and says what has become of the connection. */
async function publish({ key, setup, room, token }) {
  const certificate = await RTCPeerConnection.generateCertificate(
    key === "RSA"
      ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) }
      : { name: "ECDSA", namedCurve: "P-256" },
  );
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", certificates: [certificate] });
  const context = new AudioContext();
  const [track] = context.createMediaStreamDestination().stream.getAudioTracks();
  pc.addTransceiver(track, { direction: "sendonly" });
  await pc.setLocalDescription();
  const answer = await fetch(`/whip/${room}`, {
    method: "POST",
    headers: { "content-type": "application/sdp", authorization: `Bearer ${token}` },
    body: pc.localDescription.sdp.replaceAll("a=setup:actpass", `a=setup:${setup}`),
  });
  const sdp = await answer.text();
  if (answer.status !== 201) return sdp;
  await pc.setRemoteDescription({ type: "answer", sdp });
  for (let tenths = 0; tenths < 300 && pc.connectionState !== "connected"; tenths += 1) {
    if (pc.connectionState === "failed") break;
    await new Promise((done) => setTimeout(done, 100));
  }
  const state = pc.connectionState;
  pc.close();
  return `${state}, ${/a=setup:(\w+)/.exec(sdp)[1]}`;
}

for (const key of ["RSA", "ECDSA"]) {
  for (const [setup, answered] of [
    ["actpass", "passive"],
    ["passive", "active"],
  ]) {
    test(`browsers with an ${key} key that offer ${setup} connect`, async () => {
      const wish = () => {
        const room = newRoom();
        return JSON.stringify({ key, setup, room, token: server.token(room, "ada") });
      };
      const page = await (await browser.newContext()).newPage();
      await page.goto(`${server.url}/health/live`);
      const fox = await firefox.open(`${server.url}/health/live`);
      const expected = `connected, ${answered}`;
      assert.equal(await page.evaluate(`(${publish})(${wish()})`), expected, "Chromium");
      assert.equal(await fox.evaluate(`(${publish})(${wish()})`), expected, "Firefox");
    });
  }
}
