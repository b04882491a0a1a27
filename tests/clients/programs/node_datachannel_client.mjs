/** node-datachannel (libdatachannel) publishes a picture and a tone, or receives them. */

import nodeDataChannel from "node-datachannel";
import { CODECS, Recording, SSRCS, codecs, exchange, isPublisher, publish } from "./whip.mjs";

const { Audio, PeerConnection, RtcpReceivingSession, Video } = nodeDataChannel;
/** Whoever wants a key frame has to ask: the library does not do so by itself. */
const KEY_FRAME_MS = 1000;

const peer = new PeerConnection("client", { iceServers: [] });
const connected = new Promise((done) => {
  peer.onStateChange((state) => {
    if (state === "connected") done();
  });
});
const gathered = new Promise((done) => {
  peer.onGatheringStateChange((state) => {
    if (state === "complete") done();
  });
});
const direction = isPublisher ? "SendOnly" : "RecvOnly";
const audio = new Audio("audio", direction);
if (codecs.audio === "opus") audio.addOpusCodec(CODECS.opus.payloadType);
else audio.addAudioCodec(CODECS[codecs.audio].payloadType, codecs.audio);
const video = new Video("video", direction);
video[`add${codecs.video}Codec`](CODECS[codecs.video].payloadType);
if (isPublisher) {
  audio.addSSRC(SSRCS.audio, "client", "stream", "tone");
  video.addSSRC(SSRCS.video, "client", "stream", "picture");
}
const recording = new Recording();
const tracks = { audio: peer.addTrack(audio), video: peer.addTrack(video) };
if (!isPublisher) {
  for (const track of Object.values(tracks)) {
    track.setMediaHandler(new RtcpReceivingSession());
    track.onMessage((packet) => recording.add(packet));
  }
  setInterval(() => tracks.video.isOpen() && tracks.video.requestKeyframe(), KEY_FRAME_MS).unref();
}
peer.setLocalDescription("offer");
await gathered;
peer.setRemoteDescription(await exchange(peer.localDescription().sdp), "answer");
await connected;
if (isPublisher) await publish((packet) => tracks.video.sendMessageBinary(packet), (packet) => tracks.audio.sendMessageBinary(packet));
else await recording.run();
peer.close();
nodeDataChannel.cleanup();
process.exit(0);
