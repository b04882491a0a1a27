/**
 * Upstream thrift: an encoding that nobody receives is not sent. In: what the server says of each own
 * track, and the encodings that suit what is captured. Out: the parameters of its sender, which the
 * server follows by seconds and the browser at once. What nothing was said of is sent.
 */

/**
 * What is sent for a track.
 * @typedef {object} Sending
 * @property {string | null} id
 * @property {RTCRtpTransceiver | null} transceiver
 * @property {RTCRtpEncodingParameters[]} [encodings] As many as were negotiated, in their order.
 */

/** What of an encoding may change while it is sent. */
const CHANGEABLE = /** @type {const} */ (["active", "scaleResolutionDownBy", "maxBitrate"]);

export class Thrift {
  /** Which encodings of a track are received, by its id. @type {Map<string, boolean[]>} */
  #received = new Map();
  /** Of each sender the change that was begun last: one at a time. @type {WeakMap<RTCRtpSender, Promise<void>>} */
  #last = new WeakMap();

  /**
   * May speak of a track whose id is not known here yet: the answer that names it is being applied.
   * @param {string} track
   * @param {boolean[]} encodings In the order of the sender's.
   */
  handleLayers(track, encodings) {
    this.#received.set(track, encodings);
  }

  /** @param {string} track */
  forget(track) {
    this.#received.delete(track);
  }

  /** A new connection: its tracks get new ids. */
  clear() {
    this.#received.clear();
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
    const wanted = parameters.encodings.map((_, index) => wantedOf(encodings[index], received?.[index] ?? true));
    // Nobody is to see nothing because what is received is too small to be sent now.
    if (received?.includes(true) && !wanted.some(({ active }) => active)) {
      const least = wanted[encodings.findIndex(({ active = true }) => active)];
      if (least) least.active = true;
    }
    let isChanged = false;
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
}

/**
 * @param {RTCRtpEncodingParameters | undefined} suitable
 * @param {boolean} isReceived
 * @returns {RTCRtpEncodingParameters}
 */
function wantedOf(suitable, isReceived) {
  return { ...suitable, active: (suitable?.active ?? true) && isReceived };
}
