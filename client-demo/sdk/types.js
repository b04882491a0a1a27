/**
 * The wire types of Confab's WebSocket protocol, version 1, as JSDoc typedefs. Nothing runs here.
 *
 * A request carries an `id` and gets exactly one reply, which carries it back as `re`. An event of
 * the server carries a sequence number `seq`, which the client acknowledges, and a reply that of the
 * last event before it.
 */

/** @typedef {"audio" | "video"} Kind */
/** @typedef {"camera" | "microphone" | "screen" | "screen_audio" | "other"} Source */

/**
 * A track as other participants see it.
 * @typedef {object} TrackInfo
 * @property {string} id `t_…`
 * @property {Kind} kind
 * @property {Source} source
 * @property {string} [name]
 * @property {boolean} muted
 */

/**
 * @typedef {object} ParticipantInfo
 * @property {string} id `p_…`
 * @property {string} name
 * @property {string} [identity] Who it is: the `sub` of its access token.
 * @property {string} [metadata] What the application has put into its access token.
 * @property {boolean} [unreachable] Whether nothing is heard of it now.
 * @property {TrackInfo[]} tracks
 */

/**
 * What the access token allows.
 * @typedef {{publish: boolean, subscribe: boolean}} Permissions
 */

/**
 * A sending m-line to publish.
 * @typedef {object} PublishedLine
 * @property {string} mid
 * @property {Source} source
 * @property {string} [name]
 */

/**
 * A sending m-line that the server published.
 * @typedef {{id: string, mid: string, kind: Kind}} OwnTrack
 */

/**
 * A receiving m-line and the track it shows.
 * @typedef {{mid: string, kind: Kind, track: string | null}} SlotInfo
 */

/**
 * How large a slot's picture is on the screen, in pixels of the screen.
 * @typedef {{visible: boolean, width: number, height: number}} View
 */

/**
 * One quality of a track.
 * @typedef {object} LayerInfo
 * @property {number} encoding Which of the sender's encodings.
 * @property {number} spatial
 * @property {number} temporal
 * @property {number} width 0 if not known.
 * @property {number} height 0 if not known.
 * @property {number} frame_rate
 * @property {number} bitrate Bits a second, with repair.
 */

/**
 * Why a slot gets no better layer, or, without one, nothing.
 * @typedef {"best" | "wanted" | "estimate" | "settling" | "hidden" | "codec" | "not_offered" | "no_bandwidth"} Reason
 */

/**
 * What one slot gets, and why it is no better.
 * @typedef {object} SlotQuality
 * @property {string} mid
 * @property {string} track
 * @property {"rest" | "speaker" | "screen" | "pinned"} priority
 * @property {boolean} visible
 * @property {number | null} width Pixels of the screen, as the client has told; null if it has not.
 * @property {number | null} height
 * @property {LayerInfo | null} layer
 * @property {Reason} reason
 * @property {string} explanation A sentence.
 * @property {number} switches How often the layer has changed.
 */

/**
 * A change of what a slot gets.
 * @typedef {object} Decision
 * @property {number} ago How long ago, milliseconds.
 * @property {string} mid
 * @property {LayerInfo | null} from
 * @property {LayerInfo | null} to
 * @property {Reason} reason
 * @property {number} estimate Bits a second.
 */

/**
 * What the server reckons with when it chooses layers. Rates are bits a second.
 * @typedef {object} Quality
 * @property {number} estimate What the way to this client carries.
 * @property {"delay" | "loss" | "draining" | "receiver"} limit What sets the estimate.
 * @property {number | null} round_trip Milliseconds.
 * @property {number} link_loss What the link loses whatever is sent, 0 to 1.
 * @property {number} audio What audio takes of it.
 * @property {number} wanted What everything as shown would take.
 * @property {SlotQuality[]} slots
 * @property {Decision[]} decisions The latest ones, the oldest first.
 */

/**
 * Requests by type: what goes out, and what the reply carries.
 * @typedef {object} Requests
 * @property {{version: 1, token?: string, resume?: {session: string, seq: number}, unanswered?: number[]}} hello
 * @property {{room: string, name?: string, offer?: string, tracks?: PublishedLine[]}} join
 * @property {{sdp: string, tracks?: PublishedLine[], new_connection?: boolean, avoid_udp?: true}} offer
 * @property {PublishedLine} publish
 * @property {{track: string}} unpublish
 * @property {{mid: string, track?: string | null, auto?: true}} subscribe
 * @property {{track: string, muted: boolean}} mute
 * @property {{slots: (View & {mid: string})[]}} view
 * @property {{}} quality
 * @property {{}} ice_servers
 * @property {{}} leave
 * @property {{}} ping
 * @property {{token: string}} renew
 */

/**
 * Servers that take media past firewalls, and how long their credentials are good, in seconds.
 * @typedef {{ice_servers: (RTCIceServer & {at_media_port?: true})[], expires_in: number}} IceServersInfo
 */

/**
 * @typedef {object} Welcome
 * @property {string} session
 * @property {boolean} resumed Whether the session named in `resume` goes on.
 * @property {number} grace_ms How long the session outlives its socket, in milliseconds.
 * @property {number} ping_interval_ms
 * @property {number} max_message_bytes
 * @property {IceServersInfo} [relay] Of a new session, from a server with a relay.
 */

/**
 * @typedef {object} Joined
 * @property {string} participant The caller's own id.
 * @property {string} room
 * @property {string | null} [name] As the others see it; null for a viewer.
 * @property {string} [identity]
 * @property {string} [metadata]
 * @property {Permissions} [permissions] Not of servers of before.
 * @property {ParticipantInfo[]} participants The others.
 * @property {number} [viewers] How many only watch and have no name.
 * @property {string} [answer]
 * @property {OwnTrack[]} tracks
 * @property {SlotInfo[]} slots
 * @property {RefusedLine[]} [refused]
 */

/** @typedef {{sdp: string, tracks: OwnTrack[], slots: SlotInfo[], refused?: RefusedLine[]}} Answered */

/**
 * An m-line that the server does not serve.
 * @typedef {{mid: string, code: string, message: string}} RefusedLine
 */

/**
 * Replies by the type of their request.
 * @typedef {object} Replies
 * @property {Welcome} hello
 * @property {Joined} join
 * @property {Answered} offer
 * @property {{track: string, mid: string, kind: Kind}} publish
 * @property {{track: string}} unpublish
 * @property {{mid: string, track: string | null}} subscribe
 * @property {{track: string, muted: boolean}} mute
 * @property {{}} view
 * @property {Quality} quality
 * @property {IceServersInfo} ice_servers
 * @property {{}} leave
 * @property {{}} ping
 * @property {{expires_in?: number}} renew In seconds; without it for ever.
 */

/**
 * Events of the server.
 * @typedef {{type: "participant_joined", participant: ParticipantInfo}
 *   | {type: "participant_left", participant: string, reason: string}
 *   | {type: "track_published", participant: string, track: TrackInfo}
 *   | {type: "track_unpublished", participant: string, track: string}
 *   | {type: "track_muted", participant: string, track: string, muted: boolean}
 *   | {type: "unreachable", participant: string, unreachable: boolean}
 *   | {type: "slot", mid: string, track: string | null}
 *   | {type: "layers", track: string, encodings: boolean[], bitrate?: number}
 *   | {type: "slot_paused", mid: string, reason: Reason | null, message: string}
 *   | {type: "speakers", dominant: string | null}
 *   | {type: "viewers", viewers: number}
 *   | {type: "media", state: string}
 *   | {type: "reconnect", reason: string, message: string}
 *   | {type: "token_expires", in_ms: number}
 *   | {type: "closing", code: string, message: string, in_ms: number}} ServerEvent
 */

export {};
