/**
 * Where the tiles of a call go: how many, and the room there is, in; one rectangle each, out.
 */

/** @typedef {{x: number, y: number, width: number, height: number}} Rect */

const RATIO = 16 / 9;
/** Between tiles, CSS pixels. */
const GAP = 8;
/** Below this width a face is no longer a face: the grid scrolls instead, CSS pixels. */
const MIN_TILE_WIDTH = 132;
/** The share of the longer side that the strip beside a pinned tile may take. */
const STRIP_SHARE = 0.22;

/**
 * @param {number} count
 * @param {{width: number, height: number}} area
 * @param {number} [pinned] The index of the tile to show large, or -1.
 * @returns {Rect[]}
 */
export function arrange(count, area, pinned = -1) {
  if (pinned < 0 || pinned >= count || count < 2) return grid(count, { x: 0, y: 0, ...area });
  const beside = area.width > area.height;
  const strip = beside
    ? { x: area.width * (1 - STRIP_SHARE), y: 0, width: area.width * STRIP_SHARE, height: area.height }
    : { x: 0, y: area.height * (1 - STRIP_SHARE), width: area.width, height: area.height * STRIP_SHARE };
  const stage = beside
    ? { x: 0, y: 0, width: strip.x - GAP, height: area.height }
    : { x: 0, y: 0, width: area.width, height: strip.y - GAP };
  const rects = grid(count - 1, strip);
  rects.splice(pinned, 0, stage);
  return rects;
}

/**
 * The largest equal 16:9 tiles that fit, each row centred.
 * @param {number} count
 * @param {Rect} area
 * @returns {Rect[]}
 */
function grid(count, area) {
  let columns = 1;
  let width = 0;
  for (let candidate = 1; candidate <= count; candidate += 1) {
    const rows = Math.ceil(count / candidate);
    const fit = Math.min(
      (area.width - GAP * (candidate - 1)) / candidate,
      ((area.height - GAP * (rows - 1)) / rows) * RATIO,
    );
    if (fit > width) [columns, width] = [candidate, fit];
  }
  if (width < MIN_TILE_WIDTH) {
    columns = Math.max(1, Math.floor((area.width + GAP) / (MIN_TILE_WIDTH + GAP)));
    width = (area.width - GAP * (columns - 1)) / columns;
  }
  const height = width / RATIO;
  const rows = Math.ceil(count / columns);
  const top = area.y + Math.max(0, (area.height - rows * height - (rows - 1) * GAP) / 2);
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = Math.min(columns, count - row * columns);
    const left = area.x + (area.width - inRow * width - (inRow - 1) * GAP) / 2;
    return {
      x: left + (index - row * columns) * (width + GAP),
      y: top + row * (height + GAP),
      width,
      height,
    };
  });
}
