/**
 * The camera: a moving scene with some detail, which an encoder needs about a megabit a second
 * for, and the time at which each picture was made in its time code.
 */

import { now } from "./clock.js";
import { drawTimeCode } from "./time-code.js";

/** Side of the pattern that the scene is made of, pixels. */
const PATTERN = 512;
/** Blots in the pattern. More of them, or smaller ones, cost the encoder more. */
const BLOTS = 500;
/** Smallest and largest blot, pixels. */
const BLOT_SIZE = { from: 6, to: 60 };
/** Part of the picture's width in which the pattern moves; beside it, it stands still, as a room behind a speaker. */
const MOVING = 0.5;
/** How far it sways, as a share of the picture's width and height, and how often, hertz. */
const SWAY = { x: 0.12, y: 0.05, frequency: 0.3 };
/** Things that turn in front of it. */
const DISCS = 3;

/**
 * @param {{width: number, height: number, fps: number}} size
 * @returns {MediaStreamTrack}
 */
export function openCamera({ width, height, fps }) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  // What a browser draws with in software needs no reading back.
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  if (!context) throw new Error("The browser has no 2D canvas.");
  const pattern = drawPattern();
  // Zero: only the pictures asked for, so that no second timer thins them out.
  const track = /** @type {CanvasCaptureMediaStreamTrack} */ (canvas.captureStream(0).getVideoTracks()[0]);
  const begin = performance.now();
  let count = 0;
  const next = () => {
    const time = now();
    drawScene(context, pattern, time / 1000);
    drawTimeCode(context, time);
    track.requestFrame();
    // Counted from the beginning, lest lateness adds up; pictures that are overdue are left out.
    count = Math.max(count + 1, Math.floor(((performance.now() - begin) * fps) / 1000));
    setTimeout(next, begin + (count * 1000) / fps - performance.now());
  };
  next();
  return track;
}

/** Blots at random places, the same in every run. */
function drawPattern() {
  const canvas = new OffscreenCanvas(PATTERN, PATTERN);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  if (!context) throw new Error("The browser has no 2D canvas.");
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  context.fillStyle = "#567";
  context.fillRect(0, 0, PATTERN, PATTERN);
  for (let blot = 0; blot < BLOTS; blot += 1) {
    context.fillStyle = `hsl(${Math.floor(360 * random())} 45% ${Math.floor(25 + 50 * random())}%)`;
    const size = BLOT_SIZE.from + (BLOT_SIZE.to - BLOT_SIZE.from) * random() ** 2;
    context.fillRect(PATTERN * random(), PATTERN * random(), size, size * (0.5 + random()));
  }
  return canvas;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {OffscreenCanvas} pattern
 * @param {number} seconds
 */
function drawScene(context, pattern, seconds) {
  const { width, height } = context.canvas;
  tile(context, pattern, 0, 0);
  const phase = 2 * Math.PI * SWAY.frequency * seconds;
  context.save();
  context.beginPath();
  context.rect(Math.floor((width * (1 - MOVING)) / 2), 0, Math.ceil(width * MOVING), height);
  context.clip();
  tile(context, pattern, PATTERN / 2 + width * SWAY.x * Math.sin(phase), PATTERN / 2 + height * SWAY.y * Math.sin(2.3 * phase));
  context.restore();
  for (let disc = 0; disc < DISCS; disc += 1) {
    const angle = seconds * (0.7 + 0.4 * disc) + disc * 2;
    context.fillStyle = `hsl(${120 * disc} 70% 55%)`;
    context.beginPath();
    context.moveTo(width / 2, height * 0.55);
    context.arc(width * (0.5 + 0.35 * Math.cos(angle)), height * (0.55 + 0.3 * Math.sin(angle)), height / 9, angle, angle + 5);
    context.fill();
  }
}

/**
 * Covers the canvas with the pattern, shifted.
 * @param {CanvasRenderingContext2D} context
 * @param {OffscreenCanvas} pattern
 * @param {number} x
 * @param {number} y
 */
function tile(context, pattern, x, y) {
  const { width, height } = context.canvas;
  // Whole pixels: a copy is much cheaper than a blend.
  for (let top = Math.floor(y) % PATTERN - PATTERN; top < height; top += PATTERN) {
    for (let left = Math.floor(x) % PATTERN - PATTERN; left < width; left += PATTERN) context.drawImage(pattern, left, top);
  }
}
