/**
 * Wanted layers: an encoding that nobody receives is not sent. In: what the server says of each own
 * track, the encodings that suit what is captured, and what the own network carries. Out: the parameters
 * of its sender, which the server follows by seconds and the browser at once. What nothing was said of is
 * sent.
 */

import { UplinkFit } from "./uplink.js";

/** @import { Encoding } from "./encodings.js" */
/** @import { Uplink } from "./uplink.js" */

/**
 * What is sent for a track.
 * @typedef {object} Sending
 * @property {string | null} id
 * @property {RTCRtpTransceiver | null} transceiver
 * @property {Encoding[]} [encodings] As many as were negotiated, in their order.
 */

/** What of an encoding may change while it is sent. */
const CHANGEABLE = /** @type {const} */ (["active", "scaleResolutionDownBy", "maxBitrate"]);

export class WantedLayers {
  /** Which encodings of a track are received, by its id. @type {Map<string, boolean[]>} */
  #received = new Map();
  /** The most bits per second of a track in one encoding, by its id. @type {Map<string, number>} */
  #limits = new Map();
  /** Senders whose rate is limited for that. @type {WeakSet<RTCRtpSender>} */
  #limited = new WeakSet();
  /** @type {WeakMap<RTCRtpSender, UplinkFit>} */
  #fits = new WeakMap();
  /** @type {Uplink} */
  #uplink = { isPair: false };
  /** Of each sender the change that was begun last: one at a time. @type {WeakMap<RTCRtpSender, Promise<void>>} */
  #last = new WeakMap();

  /**
   * May speak of a track whose id is not known here yet: the answer that names it is being applied.
   * @param {string} track
   * @param {boolean[]} encodings In the order of the sender's.
   * @param {number} [bitrate] What everyone who receives it can be sent, bits a second, if that is little.
   */
  handleLayers(track, encodings, bitrate) {
    this.#received.set(track, encodings);
    if (bitrate) this.#limits.set(track, bitrate);
    else this.#limits.delete(track);
  }

  /** @param {Uplink} uplink To be applied to each sender then. */
  setUplink(uplink) {
    this.#uplink = uplink;
  }

  /** @param {string} track */
  forget(track) {
    this.#received.delete(track);
    this.#limits.delete(track);
  }

  /** A new connection: its tracks get new ids. */
  clear() {
    this.#received.clear();
    this.#limits.clear();
  }

  /**
   * Brings a sender in line. A negotiation may get in the way; call again after it.
   * @param {Sending} sending
   * @returns {Promise<void>} Fulfilled either way.
   */
  apply(sending) {
    const sender = sending.transceiver?.sender;
    if (!sender) return Promise.resolve();
    const last = this.#last.get(sender) ?? Promise.resolve();
    const next = last.then(() => {
      // Another publication may have it by now.
      if (sending.transceiver?.sender === sender) return this.#switch(sender, sending);
    }).catch(() => {});
    this.#last.set(sender, next);
    return next;
  }

  /**
   * @param {RTCRtpSender} sender
   * @param {Sending} sending
   */
  async #switch(sender, { id, encodings = [] }) {
    const received = id === null ? undefined : this.#received.get(id);
    const parameters = sender.getParameters();
    const asked = parameters.encodings.map((_, index) => wantedOf(encodings[index], received?.[index] ?? true));
    // Nobody is to see nothing because what is received is too small to be sent now.
    if (received?.includes(true) && !asked.some(({ active }) => active)) {
      const least = asked[encodings.findIndex(({ active = true }) => active)];
      if (least) least.active = true;
    }
    const wanted = this.#fit(sender, received).fit(asked, this.#uplink, performance.now());
    const limit = id === null ? undefined : this.#limits.get(id);
    const only = parameters.encodings.length === 1 ? parameters.encodings[0] : undefined;
    let isChanged = false;
    if (only && limit !== undefined) {
      wanted[0] = { ...wanted[0], maxBitrate: Math.min(limit, wanted[0]?.maxBitrate ?? limit) };
      this.#limited.add(sender);
    } else if (only && this.#limited.delete(sender)) {
      delete only.maxBitrate;
      isChanged = true;
    }
    for (const [index, encoding] of parameters.encodings.entries()) {
      for (const name of CHANGEABLE) {
        const value = wanted[index]?.[name];
        const present = encoding[name] ?? (name === "active" ? true : undefined);
        if (value === undefined || value === present) continue;
        Object.assign(encoding, { [name]: value });
        isChanged = true;
      }
    }
    if (isChanged) await sender.setParameters(parameters);
  }

  /**
   * @param {RTCRtpSender} sender
   * @param {boolean[] | undefined} received
   */
  #fit(sender, received) {
    const fit = this.#fits.get(sender) ?? new UplinkFit();
    this.#fits.set(sender, fit);
    fit.handleWanted(received, performance.now());
    return fit;
  }
}

/**
 * @param {Encoding | undefined} suitable
 * @param {boolean} isReceived
 * @returns {Encoding}
 */
function wantedOf(suitable, isReceived) {
  return { ...suitable, active: (suitable?.active ?? true) && isReceived };
}
