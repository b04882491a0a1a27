/**
 * What the parts of the page say to each other, and the lines that leave it, as JSDoc typedefs;
 * nothing runs here. `Line` and `Sample` are those of `client-demo/bot/src/sample.rs`, which says
 * what each figure means.
 */

/** @typedef {"audio" | "video"} Kind */

/**
 * What a participant is to do.
 * @typedef {object} Settings
 * @property {"confab" | "janus"} serverKind
 * @property {string} url Of the server's signaling: `ws://…`.
 * @property {string} [token] What lets one into a room of a Confab that asks for it.
 * @property {string} room
 * @property {string} name
 * @property {Kind[]} publish
 * @property {number} width Of the picture that is sent.
 * @property {number} height
 * @property {number} fps
 * @property {boolean} [simulcast] Whether the picture is sent in several sizes; as the client has it if not said.
 * @property {"udp" | "tcp" | "tls"} [relay] All media goes through the server's TURN relay, reached so.
 */

/**
 * A client of one kind of server. Its constructor takes `Settings`, the tracks to publish and an
 * `Audience`.
 * @typedef {object} Adapter
 * @property {() => Promise<void>} join Rejects when the server refuses or is not there.
 * @property {() => Promise<void>} leave
 * @property {() => RTCPeerConnection[]} connections Those in use: what carries the own tracks first.
 * @property {() => Promise<number | null>} [downlinkEstimate] What the server believes that our downlink carries, bits a second.
 */

/**
 * Who is told what becomes of the call.
 * @typedef {object} Audience
 * @property {() => void} joined The server let us in.
 * @property {() => void} connected Media can flow, for the first time or again.
 * @property {(from: string, track: MediaStreamTrack) => void} shown This track is that participant's from now on.
 * @property {(from: string, kind: Kind) => void} hidden Nothing of this kind is received of it any more.
 * @property {(why: string) => void} failed The call is over.
 */

/**
 * @typedef {object} Sent
 * @property {number} audio_bytes
 * @property {number} video_bytes
 * @property {number} video_retransmitted_bytes
 * @property {number} frames_encoded
 * @property {number | null} height
 * @property {number | null} target_bitrate
 */

/**
 * @typedef {object} AudioReceived
 * @property {number} packets
 * @property {number} lost
 * @property {number} bytes
 * @property {number} samples
 * @property {number} concealed
 * @property {number} silent_concealed
 * @property {number} jitter_buffer_delay
 * @property {number} jitter_buffer_emitted
 */

/**
 * @typedef {object} VideoReceived
 * @property {number} packets
 * @property {number} lost
 * @property {number} bytes
 * @property {number} retransmitted_bytes
 * @property {number} fec_bytes
 * @property {number} frames
 * @property {number} key_frames
 * @property {number} freezes
 * @property {number} frozen
 * @property {number | null} width
 * @property {number | null} height
 * @property {number} nacks
 * @property {number} key_frame_requests
 * @property {number} jitter_buffer_delay
 * @property {number} jitter_buffer_emitted
 * @property {number[]} picture_delays
 */

/** @typedef {{from: string, audio: AudioReceived | null, video: VideoReceived | null}} Received */

/**
 * @typedef {object} Sample
 * @property {number} at
 * @property {number | null} rtt_ms
 * @property {number | null} available_outgoing
 * @property {number | null} [downlink_estimate]
 * @property {string | null} path
 * @property {Sent} sent
 * @property {Received[]} received
 */

/**
 * @typedef {{type: "ready"}
 *   | {type: "joining" | "joined" | "connected", at: number}
 *   | {type: "first_frame", at: number, from: string}
 *   | {type: "sample"} & Sample
 *   | {type: "failed", at: number, why: string}} Line
 */

export {};
