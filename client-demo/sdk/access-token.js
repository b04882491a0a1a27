/**
 * The access token that a call comes in with, and the application's word for another one: asked for
 * when the present one ends soon, and when it has been refused.
 */

/** Asked again after the application had none, milliseconds. */
const RETRY_MS = 10_000;

export class AccessToken {
  /** @type {string | undefined} */
  value;
  #get;
  #closed = false;
  /** One question at a time. @type {Promise<string> | null} */
  #asked = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {string | undefined} value
   * @param {(() => string | Promise<string>) | undefined} get
   */
  constructor(value, get) {
    this.value = value;
    this.#get = get;
  }

  /** Whether there may be another one. */
  get isRenewable() {
    return this.#get !== undefined;
  }

  /** Asks for another one, which is `value` then. @returns {Promise<string>} Rejects as the application does. */
  renew() {
    this.#asked ??= this.#ask().finally(() => (this.#asked = null));
    return this.#asked;
  }

  /**
   * Asks until there is one and it is taken.
   * @param {(token: string) => Promise<unknown>} take
   */
  async keep(take) {
    clearTimeout(this.#timer);
    if (!this.isRenewable || this.#closed) return;
    try {
      const token = await this.renew();
      if (!this.#closed) await take(token);
    } catch {
      if (!this.#closed) this.#timer = setTimeout(() => void this.keep(take), RETRY_MS);
    }
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #ask() {
    const token = await this.#get?.();
    if (typeof token !== "string") throw new TypeError("getToken has given no token.");
    this.value = token;
    return token;
  }
}
