/** werift publishes a picture and a tone, or receives them. */

import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, useNACK, usePLI } from "werift";
import { PAYLOAD_TYPES, Recording, connection, exchange, isPublisher, publish } from "./whip.mjs";

/** Whoever wants a key frame has to ask: werift does not do so by itself. */
const KEY_FRAME_MS = 1000;

const codecs = {
  audio: [new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48_000, channels: 2, payloadType: PAYLOAD_TYPES.opus })],
  video: [
    new RTCRtpCodecParameters({
      mimeType: "video/VP8",
      clockRate: 90_000,
      payloadType: PAYLOAD_TYPES.VP8,
      rtcpFeedback: [useNACK(), usePLI()],
    }),
  ],
};
const peer = new RTCPeerConnection({ codecs, iceServers: [], bundlePolicy: "max-bundle" });
const connected = new Promise((done) => {
  peer.connectionStateChange.subscribe((state) => {
    if (state === "connected") done();
  });
});
const tracks = {};
const recording = new Recording();
for (const kind of ["audio", "video"]) {
  tracks[kind] = new MediaStreamTrack({ kind });
  const transceiver = peer.addTransceiver(isPublisher ? tracks[kind] : kind, { direction: isPublisher ? "sendonly" : "recvonly" });
  transceiver.onTrack.subscribe((track) => {
    track.onReceiveRtp.subscribe((packet) => recording.add(packet.serialize()));
    if (kind === "video") setInterval(() => track.ssrc && transceiver.receiver.sendRtcpPLI(track.ssrc), KEY_FRAME_MS).unref();
  });
}
await peer.setLocalDescription(await peer.createOffer());
await peer.setRemoteDescription({ type: "answer", sdp: await exchange(peer.localDescription.sdp) });
await connection(connected, () => `ICE ${peer.iceConnectionState}, all ${peer.connectionState}`);
if (isPublisher) await publish((packet) => tracks.video.writeRtp(packet), (packet) => tracks.audio.writeRtp(packet));
else await recording.run();
await peer.close();
process.exit(0);
