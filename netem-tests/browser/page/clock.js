/**
 * The machine's clock, as all pages on it read it alike.
 */

/** Milliseconds since 1970, with a fraction; goes on evenly when the clock is set. */
export function now() {
  return since1970(performance.now());
}

/**
 * @param {number} time Milliseconds since the page was loaded, as many browser interfaces have them.
 */
export function since1970(time) {
  return performance.timeOrigin + time;
}
