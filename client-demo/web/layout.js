/**
 * Where the tiles of a call go: how many, and the room there is, in; one rectangle each, out. And how a
 * picture goes into its tile.
 */

/** @typedef {{x: number, y: number, width: number, height: number}} Rect */
/** @typedef {{width: number, height: number}} Size */

/**
 * Shapes that a tile may have, width by height: that of a camera, and narrower ones where that uses more
 * of the screen; on an upright screen more so, where pictures of phones are upright as well.
 */
const WIDEST = 16 / 9;
const NARROWEST = { lying: 4 / 3, upright: 3 / 4 };
/**
 * Of a picture at least so much must be left if it fills its tile; else it is shown whole, with bars beside
 * it. At the sides there is a room, above and below there is a head and who it belongs to.
 */
const LEAST_LEFT = { width: 0.4, height: 0.7 };
/** Between tiles, CSS pixels. */
const GAP = 8;
/** Below this width a face is no longer a face: the grid scrolls instead, CSS pixels. */
const MIN_TILE_WIDTH = 132;
/** The share of the longer side that the strip beside a pinned tile may take. */
const STRIP_SHARE = 0.22;

/**
 * @param {number} count
 * @param {Size} area
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
 * Whether a picture is to fill its place, though something of it is cut off.
 * @param {Size} place
 * @param {Size} picture Zero until there is one.
 */
export function fills(place, picture) {
  if (!picture.width || !picture.height || !place.width || !place.height) return true;
  const left = (place.width / place.height) / (picture.width / picture.height);
  return left < 1 ? left >= LEAST_LEFT.width : 1 / left >= LEAST_LEFT.height;
}

/**
 * Has a picture fill its place, or shows it whole.
 * @param {HTMLVideoElement} video
 * @param {Size} place
 * @returns {boolean} Whether it is shown whole, with bars beside it.
 */
export function fit(video, place) {
  const isWhole = !fills(place, { width: video.videoWidth, height: video.videoHeight });
  video.classList.toggle("whole", isWhole);
  return isWhole;
}

/**
 * The largest equal tiles that fit, each row centred.
 * @param {number} count
 * @param {Rect} area
 * @returns {Rect[]}
 */
function grid(count, area) {
  const narrowest = area.width > area.height ? NARROWEST.lying : NARROWEST.upright;
  let columns = 1;
  let tile = { width: 0, height: 0 };
  for (let candidate = 1; candidate <= count; candidate += 1) {
    const rows = Math.ceil(count / candidate);
    const fit = largest((area.width - GAP * (candidate - 1)) / candidate, (area.height - GAP * (rows - 1)) / rows, narrowest);
    if (fit.width * fit.height > tile.width * tile.height) [columns, tile] = [candidate, fit];
  }
  if (tile.width < MIN_TILE_WIDTH) {
    columns = Math.max(1, Math.floor((area.width + GAP) / (MIN_TILE_WIDTH + GAP)));
    const width = (area.width - GAP * (columns - 1)) / columns;
    tile = { width, height: width / WIDEST };
  }
  const { width, height } = tile;
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

/**
 * The largest tile within a cell.
 * @param {number} width
 * @param {number} height
 * @param {number} narrowest
 * @returns {Size}
 */
function largest(width, height, narrowest) {
  if (width <= 0 || height <= 0) return { width: 0, height: 0 };
  const ratio = Math.min(WIDEST, Math.max(narrowest, width / height));
  const fit = Math.min(width, height * ratio);
  return { width: fit, height: fit / ratio };
}
