/**
 * The servers that take media past firewalls: as the welcome tells of them, and asked for anew
 * before their credentials run out.
 */

/** @import { IceServersInfo } from "./types.js" */

/** Asked anew when this share of their time is over: a server that is away has the rest to come back. */
const RENEW_AT = 0.5;
/** Asked again after a refusal, milliseconds. */
const RETRY_MS = 30_000;

export class IceServers {
  #ask;
  #take;
  #closed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} callbacks
   * @param {() => Promise<IceServersInfo>} callbacks.ask
   * @param {(servers: IceServersInfo["ice_servers"]) => void} callbacks.take Is given them, each time that there are others.
   */
  constructor({ ask, take }) {
    this.#ask = ask;
    this.#take = take;
  }

  /** @param {IceServersInfo | undefined} info Nothing from a server without a relay. */
  handle(info) {
    clearTimeout(this.#timer);
    this.#take(info?.ice_servers ?? []);
    if (info && info.ice_servers.length > 0) this.#renewIn(info.expires_in * 1_000 * RENEW_AT);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /** @param {number} ms */
  #renewIn(ms) {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#renew(), ms);
  }

  async #renew() {
    try {
      const info = await this.#ask();
      if (!this.#closed) this.handle(info);
    } catch {
      // A session that is lost gets others with its next welcome, which overrules this.
      this.#renewIn(RETRY_MS);
    }
  }
}
