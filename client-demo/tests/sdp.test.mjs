/** What is written into session descriptions. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { withAudioNack, withStartBitrate } from "../sdk/sdp.js";

const lines = (...all) => all.map((line) => `${line}\r\n`).join("");

test("published sound is asked for again, received sound and pictures as they are", () => {
  const sound = (direction, ...more) => lines("m=audio 9 UDP/TLS/RTP/SAVPF 111", `a=${direction}`, "a=rtpmap:111 opus/48000/2", ...more);
  const nack = "a=rtcp-fb:111 nack";
  assert.equal(withAudioNack(sound("sendonly")), sound("sendonly", nack));
  for (const same of [sound("recvonly"), sound("sendonly", nack), lines("m=video 9 UDP/TLS/RTP/SAVPF 96", "a=sendonly", "a=rtpmap:96 VP8/90000")]) {
    assert.equal(withAudioNack(same), same);
  }
});

test("every codec of a published picture begins with the rate, and nothing else is touched", () => {
  const picture = (direction, ...formats) => lines("m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99", `a=${direction}`, ...formats);
  const formats = ["a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", "a=rtpmap:98 VP9/90000", "a=fmtp:98 profile-id=0", "a=rtpmap:99 flexfec-03/90000", "a=fmtp:99 repair-window=200000"];
  const rate = "x-google-start-bitrate=1250";
  const sound = lines("m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=recvonly", "a=rtpmap:111 opus/48000/2");
  const answer = `${lines("v=0")}${sound}${picture("recvonly", ...formats)}${picture("sendonly", ...formats)}`;
  const expected = [formats[0], `a=fmtp:96 ${rate}`, formats[1], formats[2], formats[3], `a=fmtp:98 profile-id=0;${rate}`, formats[5], formats[6]];
  assert.equal(withStartBitrate(answer, 1_249_600), `${lines("v=0")}${sound}${picture("recvonly", ...expected)}${picture("sendonly", ...formats)}`);
});
