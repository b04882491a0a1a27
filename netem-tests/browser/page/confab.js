/**
 * A participant of a Confab call, by the web SDK as every other page uses it.
 */

import { Call } from "./sdk/confab.js";

/** @import { Adapter, Audience, Settings } from "./types.js" */

/** @implements {Adapter} */
export class ConfabClient {
  #call;

  /**
   * @param {Settings} settings
   * @param {MediaStreamTrack[]} tracks
   * @param {Audience} audience
   */
  constructor({ url, token, room, name, simulcast, relay }, tracks, audience) {
    if (relay) reachRelaysBy(relay);
    const call = new Call({ url, token, room, name, tracks, simulcast, iceTransportPolicy: relay ? "relay" : "all" });
    let joined = false;
    let media = false;
    call.on("state", (state) => {
      if (state.signaling && !joined) {
        joined = true;
        audience.joined();
      }
      if (state.media && !media) audience.connected();
      media = state.media;
    });
    call.on("track", ({ participant, track }) => {
      if (track.mediaStreamTrack) audience.shown(participant.name, track.mediaStreamTrack);
    });
    call.on("trackended", ({ participant, track }) => audience.hidden(participant.name, track.kind));
    call.on("error", ({ error, fatal }) => {
      if (fatal) audience.failed(error.message);
      else console.warn(error.message);
    });
    this.#call = call;
  }

  async join() {
    await this.#call.start();
  }

  async leave() {
    await this.#call.leave();
  }

  async downlinkEstimate() {
    try {
      // An SDK or a server that knows nothing of it has none.
      const quality = await /** @type {any} */ (this.#call).quality?.();
      return quality?.estimate ?? null;
    } catch {
      return null;
    }
  }

  connections() {
    const connection = this.#call.peerConnection;
    return connection ? [connection] : [];
  }
}

/** What the address of a relay has in it that is reached so. */
const WAYS = { udp: /transport=udp/, tcp: /^turn:.*transport=tcp/, tls: /^turns:/ };

/**
 * Has connections know only those addresses of relays.
 * @param {"udp" | "tcp" | "tls"} way
 */
function reachRelaysBy(way) {
  const pattern = WAYS[way];
  /** @param {RTCConfiguration} [configuration] */
  const fewer = ({ iceServers = [], ...configuration } = {}) => ({
    ...configuration,
    iceServers: iceServers.map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => pattern.test(url)) })),
  });
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration) {
      super(fewer(configuration));
    }
    /**
     * @override
     * @param {RTCConfiguration} [configuration]
     */
    setConfiguration(configuration) {
      super.setConfiguration(fewer(configuration));
    }
  };
}
