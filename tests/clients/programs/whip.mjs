/**
 * What the programs in JavaScript share: arguments, the HTTP half of WHIP and WHEP, and RTP from
 * and for the tests, since these libraries neither encode nor decode.
 */

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";

export const PAYLOAD_TYPES = { VP8: 96, opus: 111 };
export const SSRCS = { video: 0x5eed01, audio: 0x5eed02 };
const CONNECT_MS = 15_000;
/** As long as a datagram of RTP may be, with room for what SRTP and UDP add. */
const PACKET_BYTES = 1200;

const [direction, url, token, seconds] = process.argv.slice(2);
if (!["publish", "watch"].includes(direction) || !Number(seconds)) {
  throw new Error("usage: node PROGRAM.mjs publish|watch URL TOKEN SECONDS");
}
export const isPublisher = direction === "publish";

/** Posts the offer and gives the answer. */
export async function exchange(offer) {
  const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` };
  const response = await fetch(url, { method: "POST", headers, body: offer });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`${response.status}: ${text}\nto the offer:\n${offer}`);
  return text;
}

/** Waits for the connection, or fails with what `state` says. */
export async function connection(connected, state) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not connected after ${CONNECT_MS} ms: ${state()}`)), CONNECT_MS);
  });
  await Promise.race([connected, late]);
  clearTimeout(timer);
}

/** FFmpeg's test picture in VP8 and a tone in Opus, as RTP packets, for the time that was asked for. */
export async function publish(sendVideo, sendAudio) {
  const sockets = await Promise.all([receiver(sendVideo), receiver(sendAudio)]);
  const [video, audio] = sockets.map((socket) => `rtp://127.0.0.1:${socket.address().port}?pkt_size=${PACKET_BYTES}`);
  const picture = "-re -f lavfi -i testsrc2=size=320x240:rate=30 -f lavfi -re -i sine=frequency=440:sample_rate=48000";
  const vp8 = `-map 0 -c:v libvpx -deadline realtime -cpu-used 8 -g 30 -b:v 500k -f rtp -payload_type ${PAYLOAD_TYPES.VP8} -ssrc ${SSRCS.video}`;
  const opus = `-map 1 -c:a libopus -ac 2 -f rtp -payload_type ${PAYLOAD_TYPES.opus} -ssrc ${SSRCS.audio}`;
  const end = `-t ${seconds}`;
  const words = `-nostdin -loglevel error ${picture} ${vp8} ${end} ${video} ${opus} ${end} ${audio}`.split(" ");
  const ffmpeg = spawn("ffmpeg", words, { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = await once(ffmpeg, "exit");
  for (const socket of sockets) socket.close();
  if (code !== 0) throw new Error(`ffmpeg ended with ${code}`);
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

/** Keeps what comes for the time that was asked for, then prints it as JSON. */
export class Recording {
  #packets = [];

  add(packet) {
    if (!isRtcp(packet)) this.#packets.push(packet.toString("base64"));
  }

  async run() {
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    const text = JSON.stringify({ packets: this.#packets });
    await new Promise((done) => process.stdout.write(`${text}\n`, done));
  }
}
