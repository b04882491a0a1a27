/** A page of the server's origin that runs nothing of its own, and publishes by WHIP. */

import { browser, server } from "./fixture.mjs";

export async function blankPage() {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${server.url}/health/live`);
  return page;
}

/**
 * Publishes a camera and a microphone from such a page; `window.pc` is the connection, and `window.session`
 * the address of the session.
 * @param {string} room
 * @param {{audio?: string, only?: boolean}} [codec] This codec of audio before all others, or it alone.
 */
export async function publish(room, { audio = "opus", only = false } = {}) {
  const page = await blankPage();
  await page.evaluate(
    async ({ room, audio, only }) => {
      const capture = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: true });
      const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
      for (const track of capture.getTracks()) {
        const transceiver = pc.addTransceiver(track, { direction: "sendonly" });
        if (track.kind !== "audio") continue;
        const { codecs } = RTCRtpSender.getCapabilities("audio");
        const isWanted = ({ mimeType }) => mimeType.toLowerCase() === `audio/${audio}`;
        transceiver.setCodecPreferences([...codecs.filter(isWanted), ...(only ? [] : codecs.filter((codec) => !isWanted(codec)))]);
      }
      await pc.setLocalDescription();
      const answer = await fetch(`/whip/${room}`, {
        method: "POST",
        headers: { "content-type": "application/sdp" },
        body: pc.localDescription.sdp,
      });
      if (answer.status !== 201) throw new Error(`${answer.status}: ${await answer.text()}`);
      await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
      window.session = answer.headers.get("location");
      window.pc = pc;
    },
    { room, audio, only },
  );
  return page;
}
