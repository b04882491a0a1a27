/**
 * A time, drawn into a picture as a strip of black and white blocks along its upper edge, and read
 * again where the picture is shown. It survives the coarsest quantiser, and a picture of 160×90:
 * there a block still has 10×6 pixels.
 *
 * In go milliseconds, out come milliseconds modulo `PERIOD_MS`, with a checksum.
 */

/** The time in a code begins anew after this, milliseconds: 24 bits, 4 h 40 min. */
export const PERIOD_MS = 2 ** 24;
const TIME_BITS = 24;
const CHECKSUM_BITS = 8;
const COLUMNS = 16;
const ROWS = (TIME_BITS + CHECKSUM_BITS) / COLUMNS;
/** Height of the strip, as a share of the picture's. */
const STRIP = 2 / 15;
/** CRC-8: x⁸ + x² + x + 1. */
const POLYNOMIAL = 0x07;
/** Neither is all bits alike, as of a blank picture, a valid code. */
const CHECKSUM_START = 0xa5;
/** Pixels across a block in the copy that is read. */
const PROBE = 4;
/** A block that is neither clearly black nor clearly white makes a code unreadable; of 255. */
const DARKEST_WHITE = 150;
const LIGHTEST_BLACK = 105;

/**
 * Draws a time.
 * @param {CanvasRenderingContext2D} context
 * @param {number} time Milliseconds.
 */
export function drawTimeCode(context, time) {
  const { width, height } = context.canvas;
  const value = Math.floor(time) % PERIOD_MS;
  const blockWidth = width / COLUMNS;
  const blockHeight = (height * STRIP) / ROWS;
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height * STRIP);
  context.fillStyle = "#fff";
  bits(value).forEach((bit, index) => {
    const row = Math.floor(index / COLUMNS);
    if (bit) context.fillRect((index % COLUMNS) * blockWidth, row * blockHeight, blockWidth, blockHeight);
  });
}

/** Reads time codes, one after the other. */
export class TimeCodeReader {
  #context;

  constructor() {
    const canvas = new OffscreenCanvas(COLUMNS * PROBE, ROWS * PROBE);
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    if (!context) throw new Error("The browser has no 2D canvas.");
    this.#context = context;
  }

  /**
   * @param {HTMLVideoElement} video
   * @returns {number | null} Milliseconds modulo `PERIOD_MS`; null if there is no sound code.
   */
  read(video) {
    const { canvas } = this.#context;
    this.#context.drawImage(video, 0, 0, video.videoWidth, video.videoHeight * STRIP, 0, 0, canvas.width, canvas.height);
    const { data } = this.#context.getImageData(0, 0, canvas.width, canvas.height);
    let value = 0;
    for (let index = 0; index < TIME_BITS + CHECKSUM_BITS; index += 1) {
      const column = (index % COLUMNS) * PROBE;
      const row = Math.floor(index / COLUMNS) * PROBE;
      const light = middle(data, canvas.width, column, row);
      if (light > LIGHTEST_BLACK && light < DARKEST_WHITE) return null;
      value = value * 2 + (light >= DARKEST_WHITE ? 1 : 0);
    }
    const time = Math.floor(value / 2 ** CHECKSUM_BITS);
    return checksum(time) === value % 2 ** CHECKSUM_BITS ? time : null;
  }
}

/**
 * Green of the four pixels in the middle of a block.
 * @param {Uint8ClampedArray} data
 * @param {number} width
 * @param {number} column
 * @param {number} row
 */
function middle(data, width, column, row) {
  let sum = 0;
  for (const y of [row + PROBE / 2 - 1, row + PROBE / 2]) {
    for (const x of [column + PROBE / 2 - 1, column + PROBE / 2]) sum += data[(y * width + x) * 4 + 1] ?? 0;
  }
  return sum / 4;
}

/**
 * Time and checksum, most significant bit first.
 * @param {number} time
 */
function bits(time) {
  const value = time * 2 ** CHECKSUM_BITS + checksum(time);
  const length = TIME_BITS + CHECKSUM_BITS;
  return Array.from({ length }, (_, index) => Math.floor(value / 2 ** (length - 1 - index)) % 2 === 1);
}

/** @param {number} time */
function checksum(time) {
  let sum = CHECKSUM_START;
  for (let shift = TIME_BITS - 8; shift >= 0; shift -= 8) {
    sum ^= (time >> shift) & 0xff;
    for (let bit = 0; bit < 8; bit += 1) sum = sum & 0x80 ? ((sum << 1) ^ POLYNOMIAL) & 0xff : (sum << 1) & 0xff;
  }
  return sum;
}
