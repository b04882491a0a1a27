/**
 * The access token that a call comes in with, and the application's word for another one: asked for
 * when the present one ends soon, and when it has been refused.
 */

/** So long the application may take, milliseconds: a request of its own that hangs is not waited for. */
const PATIENCE_MS = 30_000;
/** Asked again after the application had none, milliseconds. */
const RETRY_MS = 10_000;
/** One that was got so short a time ago, milliseconds, and is refused is not followed by yet another. */
const NEW_MS = 60_000;

export class AccessToken {
  /** @type {string | undefined} */
  #value;
  #get;
  #closed = false;
  /** One question at a time. @type {Promise<string> | null} */
  #asked = null;
  /** The last one that the server has seen. @type {string | undefined} */
  #shown;
  /** When the present one was got, unless the server has taken one since. */
  #gotAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #limit;

  /**
   * @param {string | undefined} value
   * @param {(() => string | Promise<string>) | undefined} get
   */
  constructor(value, get) {
    this.#value = value;
    this.#get = get;
  }

  /** The present one, for the server. */
  show() {
    this.#shown = this.#value;
    return this.#value;
  }

  /** The server has taken this one. */
  handleTaken(token = this.#shown) {
    // That of before is no news: another is there.
    if (token !== this.#value) return;
    // It was asked for because of an end that does not count any more.
    if (this.#gotAt > -Infinity) clearTimeout(this.#timer);
    this.#shown = token;
    this.#gotAt = -Infinity;
  }

  /** Whether the server has yet to see the present one. */
  get isUnseen() {
    return this.#value !== this.#shown;
  }

  /** Whether there may be another one that does better: not if the one before was asked for just now. */
  get isRenewable() {
    return this.#get !== undefined && Date.now() - this.#gotAt >= NEW_MS;
  }

  /** Asks for another one. @returns {Promise<string>} Rejects if the application does, or says nothing. */
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
    if (!this.#get || this.#closed) return;
    try {
      const token = await this.renew();
      if (this.#closed) return;
      await take(token);
      this.handleTaken(token);
    } catch {
      if (!this.#closed) this.#timer = setTimeout(() => void this.keep(take), RETRY_MS);
    }
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#limit);
  }

  async #ask() {
    const silence = new Promise((_, reject) => {
      this.#limit = setTimeout(() => reject(new Error("getToken has not answered.")), PATIENCE_MS);
    });
    // Also what it throws is to be heard in the race.
    const answer = (async () => this.#get?.())();
    const token = await Promise.race([answer, silence]).finally(() => clearTimeout(this.#limit));
    if (typeof token !== "string") throw new TypeError("getToken has given no token.");
    this.#value = token;
    this.#gotAt = Date.now();
    return token;
  }
}
