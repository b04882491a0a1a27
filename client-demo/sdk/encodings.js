/**
 * In which sizes an own picture is sent, and what each may take. In: the picture's size and what it
 * shows. Out: the encodings for `addTransceiver`, the smallest first. Three for a usual camera, a factor
 * of two apart, so that each receiver gets what it shows; fewer where the smallest would be no use.
 */

/** @import { Source } from "./types.js" */

/** Names of the encodings, the largest last. */
const RIDS = ["q", "h", "f"];
/** Lines of the smallest picture that is worth sending, on its shorter side: 180, and a little less for 4:3. */
const LEAST_LINES = 160;
/** What a camera gives that does not say. */
const USUAL = { width: 1280, height: 720 };
/**
 * What the largest encoding may take at 1280 by 720, bits a second, and how that grows with the number
 * of pixels: large pictures have more that is alike. A picture of its own takes more than the same size
 * does as a smaller encoding, which is shown small.
 */
const FULL = { bitrate: 1_700_000, exponent: 0.55 };
const REDUCED = { bitrate: 1_700_000, exponent: 0.87 };
/**
 * What a picture needs at least, bits a second for each pixel: with less, browsers send no encoding of this
 * size beside smaller ones (libwebrtc: 600 kbit/s for 1280 by 720, 150 kbit/s for 640 by 360).
 */
const LEAST_PER_PIXEL = 0.65;
/** What a shared screen may take, bits a second: text that scrolls. */
const SCREEN_BITRATE = 2_500_000;
/** Three temporal layers: one encoding each, also with VP9 and AV1, which else put all sizes into one stream. */
const SCALABILITY = "L1T3";

/** @typedef {{width: number, height: number}} Size */
/**
 * An encoding as the SDK would have it. `leastBitrate` is what its size needs, bits a second.
 * @typedef {RTCRtpEncodingParameters & {leastBitrate?: number}} Encoding
 */

/**
 * Whether a track gains by several sizes: a camera does; of a screen, or whatever else was said to be
 * read, a smaller picture cannot be read.
 * @param {MediaStreamTrack} track
 * @param {Source} source
 */
export function suitsSimulcast({ kind, contentHint }, source) {
  return kind === "video" && source === "camera" && contentHint !== "detail" && contentHint !== "text";
}

/**
 * @param {MediaStreamTrack | null} track
 * @returns {Size}
 */
export function sizeOf(track) {
  const { width, height } = track?.getSettings() ?? {};
  return width && height ? { width, height } : USUAL;
}

/**
 * The encodings of a camera.
 * @param {Size} size Of the picture, upright or not.
 * @param {number} [count] How many there have to be, because they have been negotiated; those that are
 *   too small are not active then.
 * @returns {Encoding[]} A single one has no name.
 */
export function cameraEncodings({ width, height }, count) {
  const lines = Math.min(width, height);
  const worth = RIDS.filter((_, halvings) => halvings === 0 || lines / 2 ** halvings >= LEAST_LINES).length;
  const all = count ?? worth;
  if (all === 1) return [{}];
  return RIDS.slice(-all).map((rid, index) => {
    const halvings = all - 1 - index;
    const scale = 2 ** halvings;
    const pixels = (width * height) / scale ** 2;
    return {
      rid,
      active: halvings < worth,
      scaleResolutionDownBy: scale,
      maxBitrate: bitrate(pixels, halvings === 0 ? FULL : REDUCED),
      leastBitrate: LEAST_PER_PIXEL * pixels,
      scalabilityMode: SCALABILITY,
    };
  });
}

/** The encoding of a shared screen. @returns {Encoding[]} */
export function screenEncodings() {
  return [{ maxBitrate: SCREEN_BITRATE }];
}

/**
 * @param {number} pixels
 * @param {{bitrate: number, exponent: number}} growth
 */
function bitrate(pixels, { bitrate, exponent }) {
  const full = bitrate * (pixels / (USUAL.width * USUAL.height)) ** exponent;
  return Math.round(full / 10_000) * 10_000;
}
