/** werift publishes a picture and a tone, or receives them. */

import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, useNACK, usePLI } from "werift";
import { CODECS, Recording, codecs, exchange, isPublisher, publish } from "./whip.mjs";

/** Whoever wants a key frame has to ask: werift does not do so by itself. */
const KEY_FRAME_MS = 1000;

const MIME = { VP8: "video/VP8", H264: "video/H264", H265: "video/H265", opus: "audio/opus", PCMU: "audio/PCMU", PCMA: "audio/PCMA", G722: "audio/G722" };

/** Without it, H.264 means single packets of the lowest profile (RFC 6184 section 8.1). */
const H264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

function parameters(name, more) {
  return [new RTCRtpCodecParameters({ mimeType: MIME[name], payloadType: CODECS[name].payloadType, ...more })];
}

const audio = codecs.audio === "opus" ? { clockRate: 48_000, channels: 2 } : { clockRate: 8000, channels: 1 };
const peer = new RTCPeerConnection({
  codecs: {
    audio: parameters(codecs.audio, audio),
    video: parameters(codecs.video, {
      clockRate: 90_000,
      rtcpFeedback: [useNACK(), usePLI()],
      parameters: codecs.video === "H264" ? H264 : undefined,
    }),
  },
  iceServers: [],
  bundlePolicy: "max-bundle",
});
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
await connected;
if (isPublisher) await publish((packet) => tracks.video.writeRtp(packet), (packet) => tracks.audio.writeRtp(packet));
else await recording.run();
await peer.close();
process.exit(0);
