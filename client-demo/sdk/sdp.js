/**
 * What browsers have no other words for than those of a session description (RFC 8866).
 */

/** Of a video section's formats, those that are no codec. */
const REPAIR = /^(rtx|red|ulpfec|flexfec-03)$/i;

/**
 * Has published audio sent again when it is asked for. Chromium can, and offers it to nobody; there is
 * no other way to tell it. Slots go without: what they are sent is protected in advance.
 * @param {string} sdp
 */
export function withAudioNack(sdp) {
  const sections = sdp.split(/^(?=m=)/m).map((section) => {
    const opus = /^a=rtpmap:(\d+) opus\//m.exec(section)?.[1];
    const isPublished = /^a=send(only|recv)\r?$/m.test(section);
    if (!opus || !section.startsWith("m=audio") || !isPublished) return section;
    if (new RegExp(`^a=rtcp-fb:(${opus}|\\*) nack\\r?$`, "m").test(section)) return section;
    return section.replace(new RegExp(`^a=rtpmap:${opus} .*\\r\\n`, "m"), `$&a=rtcp-fb:${opus} nack\r\n`);
  });
  return sections.join("");
}

/**
 * Has published pictures begin with so much, where the browser reads it: browsers built on libwebrtc do, and
 * would else begin with 300 kbit/s whatever the connection before has carried.
 * @param {string} answer
 * @param {number} rate Bits a second.
 */
export function withStartBitrate(answer, rate) {
  const parameter = `x-google-start-bitrate=${Math.round(rate / 1_000)}`;
  const sections = answer.split(/^(?=m=)/m).map((section) => {
    if (!section.startsWith("m=video") || !/^a=recvonly\r?$/m.test(section)) return section;
    return section.replace(/^a=rtpmap:(\d+) ([^/]+)\/.*\r\n/gm, (line, format, codec) => {
      if (REPAIR.test(codec) || new RegExp(`^a=fmtp:${format} `, "m").test(section)) return line;
      return `${line}a=fmtp:${format} ${parameter}\r\n`;
    }).replace(/^a=fmtp:(\d+) (?!x-google-)(.*)\r\n/gm, (line, format, parameters) => {
      const codec = new RegExp(`^a=rtpmap:${format} ([^/]+)/`, "m").exec(section)?.[1] ?? "rtx";
      return REPAIR.test(codec) ? line : `a=fmtp:${format} ${parameters};${parameter}\r\n`;
    });
  });
  return sections.join("");
}
