/**
 * How large pictures are on the screen. In: video elements. Out: the view of each, in pixels of the
 * screen, whenever it may have changed.
 */

/** @import { View } from "./types.js" */

/** @typedef {{width: number, height: number}} Size */

/** @type {View} */
export const HIDDEN = { visible: false, width: 0, height: 0 };

/** What tells of another shape of the picture, or of a window of its own for it. */
const ELEMENT_EVENTS = ["resize", "enterpictureinpicture", "leavepictureinpicture"];

/**
 * The size at which a picture is drawn. With `cover`, what does not fit is cut off: what is drawn is
 * larger than the element.
 * @param {Size} element CSS pixels.
 * @param {Size} picture Zero until there is one.
 * @param {string} fit The element's `object-fit`.
 * @param {number} ratio Pixels of the screen to a CSS pixel.
 * @returns {Size}
 */
export function drawnSize(element, picture, fit, ratio) {
  let { width, height } = element;
  if (fit === "cover" && picture.width > 0 && picture.height > 0) {
    const scale = Math.max(width / picture.width, height / picture.height);
    width = picture.width * scale;
    height = picture.height * scale;
  }
  return { width: Math.round(width * ratio), height: Math.round(height * ratio) };
}

export class ViewWatcher {
  /** Whether an element is within what is scrolled to; null until known. @type {Map<HTMLVideoElement, boolean | null>} */
  #inside = new Map();
  #onView;
  #resizes = new ResizeObserver((entries) => {
    for (const { target } of entries) this.#look(/** @type {HTMLVideoElement} */ (target));
  });
  #crossings = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const element = /** @type {HTMLVideoElement} */ (target);
      if (!this.#inside.has(element)) continue;
      this.#inside.set(element, isIntersecting);
      this.#look(element);
    }
  });
  /** Matches until the page is zoomed or moved to another screen. @type {MediaQueryList | undefined} */
  #density;
  #onDensity = () => {
    this.#followDensity();
    this.#lookAtAll();
  };
  #lookAtAll = () => {
    for (const element of this.#inside.keys()) this.#look(element);
  };
  /** @param {Event} event */
  #onElement = ({ currentTarget }) => this.#look(/** @type {HTMLVideoElement} */ (currentTarget));

  /** @param {(element: HTMLVideoElement, view: View) => void} onView */
  constructor(onView) {
    this.#onView = onView;
    document.addEventListener("visibilitychange", this.#lookAtAll);
    this.#followDensity();
  }

  /** @param {HTMLVideoElement} element Its first view comes by itself. */
  add(element) {
    if (this.#inside.has(element)) return;
    this.#inside.set(element, null);
    this.#resizes.observe(element);
    this.#crossings.observe(element);
    for (const type of ELEMENT_EVENTS) element.addEventListener(type, this.#onElement);
    // The observers say nothing in a tab that is not looked at.
    if (document.hidden) this.#look(element);
  }

  /** @param {HTMLVideoElement} element */
  remove(element) {
    if (!this.#inside.delete(element)) return;
    this.#resizes.unobserve(element);
    this.#crossings.unobserve(element);
    for (const type of ELEMENT_EVENTS) element.removeEventListener(type, this.#onElement);
  }

  close() {
    for (const element of [...this.#inside.keys()]) this.remove(element);
    document.removeEventListener("visibilitychange", this.#lookAtAll);
    this.#density?.removeEventListener("change", this.#onDensity);
  }

  #followDensity() {
    this.#density?.removeEventListener("change", this.#onDensity);
    this.#density = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    this.#density.addEventListener("change", this.#onDensity);
  }

  /** @param {HTMLVideoElement} element */
  #look(element) {
    const inside = this.#inside.get(element) ?? null;
    const isFloating = document.pictureInPictureElement === element;
    if (inside === null && !document.hidden && !isFloating) return;
    const isVisible = isFloating || (inside === true && !document.hidden);
    this.#onView(element, isVisible ? place(element) : HIDDEN);
  }
}

/**
 * @param {HTMLVideoElement} element
 * @returns {View}
 */
function place(element) {
  const { clientWidth, clientHeight, videoWidth, videoHeight } = element;
  const size = drawnSize(
    { width: clientWidth, height: clientHeight },
    { width: videoWidth, height: videoHeight },
    getComputedStyle(element).objectFit,
    devicePixelRatio,
  );
  return size.width > 0 && size.height > 0 ? { visible: true, ...size } : HIDDEN;
}
