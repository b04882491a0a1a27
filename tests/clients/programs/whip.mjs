/**
 * What the programs in JavaScript share: arguments, the HTTP half of WHIP and WHEP, and RTP from
 * and for the tests, since these libraries neither encode nor decode.
 */

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { parseArgs } from "node:util";

/** By codec: its payload type, and how FFmpeg encodes it in packets of no more than so many bytes. */
export const CODECS = {
  VP8: { payloadType: 96, encode: "libvpx -deadline realtime -cpu-used 8", bytes: 1200 },
  H264: { payloadType: 102, encode: "libx264 -profile:v baseline -preset ultrafast -tune zerolatency -pix_fmt yuv420p", bytes: 1200 },
  H265: { payloadType: 104, encode: "libx265 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -x265-params log-level=error", bytes: 1200 },
  opus: { payloadType: 111, encode: "libopus -ac 2", bytes: 1200 },
  // 20 ms, with the header of RTP.
  PCMU: { payloadType: 0, encode: "pcm_mulaw -ar 8000 -ac 1", bytes: 172 },
  PCMA: { payloadType: 8, encode: "pcm_alaw -ar 8000 -ac 1", bytes: 172 },
  G722: { payloadType: 9, encode: "g722 -ar 16000 -ac 1", bytes: 172 },
};
export const SSRCS = { video: 0x5eed01, audio: 0x5eed02 };
/** What a watcher waits for: two seconds of both, and what comes before a key frame; and how long. */
const ENOUGH = { frames: 90, sounds: 100 };
const PATIENCE_MS = 40_000;
const POLL_MS = 100;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { video: { type: "string", default: "VP8" }, audio: { type: "string", default: "opus" } },
});
const [direction, url, token] = positionals;
if (!["publish", "watch"].includes(direction) || !CODECS[values.video] || !CODECS[values.audio]) {
  throw new Error("usage: node PROGRAM.mjs publish|watch URL TOKEN [--video=CODEC] [--audio=CODEC]");
}
export const isPublisher = direction === "publish";
/** The names of the codecs chosen. */
export const codecs = { video: values.video, audio: values.audio };

/** Posts the offer and gives the answer. */
export async function exchange(offer) {
  const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` };
  const response = await fetch(url, { method: "POST", headers, body: offer });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`${response.status}: ${text}\nto the offer:\n${offer}`);
  return text;
}

/** FFmpeg's test picture and a tone as RTP packets, until it is interrupted. */
export async function publish(sendVideo, sendAudio) {
  const sockets = await Promise.all([receiver(sendVideo), receiver(sendAudio)]);
  const [videoPort, audioPort] = sockets.map((socket) => socket.address().port);
  const picture = "-re -f lavfi -i testsrc2=size=320x240:rate=30";
  const tone = "-re -f lavfi -i sine=frequency=440:sample_rate=48000";
  const video = `-map 0 -c:v ${CODECS[codecs.video].encode} -g 30 -b:v 500k ${stream("video", videoPort)}`;
  const audio = `-map 1 -c:a ${CODECS[codecs.audio].encode} ${stream("audio", audioPort)}`;
  const words = `-nostdin -loglevel error ${picture} ${tone} ${video} ${audio}`.split(" ");
  const ffmpeg = spawn("ffmpeg", words, { stdio: ["ignore", "ignore", "inherit"] });
  process.once("SIGINT", () => {
    ffmpeg.kill();
    process.exit(0);
  });
  const [code] = await once(ffmpeg, "exit");
  throw new Error(`ffmpeg ended with ${code}`);
}

function stream(kind, port) {
  const { payloadType, bytes } = CODECS[codecs[kind]];
  return `-f rtp -payload_type ${payloadType} -ssrc ${SSRCS[kind]} rtp://127.0.0.1:${port}?pkt_size=${bytes}`;
}

async function receiver(onPacket) {
  const socket = createSocket("udp4", (packet) => {
    if (!isRtcp(packet)) onPacket(packet);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

/** By the second byte (RFC 5761 section 4). */
export function isRtcp(packet) {
  return packet[1] >= 192 && packet[1] < 224;
}

/** Keeps what comes until it is enough, then prints it as JSON. */
export class Recording {
  #packets = [];
  #frames = 0;
  #sounds = 0;

  add(packet) {
    if (isRtcp(packet)) return;
    this.#packets.push(packet.toString("base64"));
    const payloadType = packet[1] & 127;
    const ends = packet[1] >> 7;
    if (payloadType === CODECS[codecs.video].payloadType) this.#frames += ends;
    else if (payloadType === CODECS[codecs.audio].payloadType) this.#sounds += 1;
  }

  /** Whoever has waited in vain prints what there is. */
  async run() {
    const deadline = Date.now() + PATIENCE_MS;
    while ((this.#frames < ENOUGH.frames || this.#sounds < ENOUGH.sounds) && Date.now() < deadline) {
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    const text = JSON.stringify({ packets: this.#packets });
    await new Promise((done) => process.stdout.write(`${text}\n`, done));
  }
}
