/**
 * Keeps the screen awake for as long as a call lasts, where the browser can. It takes the lock away
 * whenever the page is not looked at; then it is asked for again when it is.
 */

export class WakeLock {
  /** @type {WakeLockSentinel | null} */
  #sentinel = null;
  #isHeld = true;
  #onVisibility = () => void this.#request();

  constructor() {
    document.addEventListener("visibilitychange", this.#onVisibility);
    void this.#request();
  }

  release() {
    this.#isHeld = false;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    void this.#sentinel?.release().catch(() => {});
  }

  async #request() {
    if (document.hidden || (this.#sentinel && !this.#sentinel.released)) return;
    try {
      this.#sentinel = (await navigator.wakeLock?.request("screen")) ?? null;
    } catch {
      // A low battery, or a setting: the call goes on all the same.
    }
    if (!this.#isHeld) void this.#sentinel?.release().catch(() => {});
  }
}
