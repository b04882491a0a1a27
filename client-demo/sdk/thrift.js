/**
 * Upstream thrift: an encoding that nobody receives is not sent. In: what the server says of each own
 * track. Out: `active` of the encodings of its sender, which the server follows by seconds and the
 * browser at once. What nothing was said of is sent.
 */

/**
 * What is sent for a track.
 * @typedef {{id: string | null, transceiver: RTCRtpTransceiver | null}} Sending
 */

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
      if (sending.transceiver?.sender === sender) return this.#switch(sender, sending.id);
    }).catch(() => {});
    this.#last.set(sender, next);
    return next;
  }

  /**
   * @param {RTCRtpSender} sender
   * @param {string | null} track
   */
  async #switch(sender, track) {
    const received = track === null ? undefined : this.#received.get(track);
    const parameters = sender.getParameters();
    let isChanged = false;
    for (const [index, encoding] of parameters.encodings.entries()) {
      const active = received?.[index] ?? true;
      isChanged ||= active !== (encoding.active ?? true);
      encoding.active = active;
    }
    if (isChanged) await sender.setParameters(parameters);
  }
}
