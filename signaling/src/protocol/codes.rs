//! The stable codes of refusals and closings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wrong. A code keeps its meaning for as long as the protocol keeps its version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is not a JSON object with a `type` and, where one is needed, an `id`.
    BadMessage,
    /// There is no request of this type.
    UnknownType,
    /// The request's fields are not what its type asks for.
    BadRequest,
    /// The frame is longer than `max_message_bytes`. The socket is closed.
    TooLarge,
    /// Over 50 messages a second, or over 32 requests without a reply.
    TooManyRequests,
    /// The id is so old that its answer is no longer kept.
    StaleId,
    /// The first message was not `hello`.
    HelloFirst,
    /// This socket has said `hello` already.
    AlreadyGreeted,
    /// No `hello` came within 10 seconds. The socket is closed.
    HelloTimeout,
    /// The server speaks another version of the protocol.
    UnsupportedVersion,
    /// The access token is missing, not valid, or expired; `reason` says what is wrong with it.
    Unauthorized,
    /// The access token has ended, and no `renew` came. The session is over; begin a new one with
    /// another token.
    TokenExpired,
    /// The access token is for another room.
    WrongRoom,
    /// The access token, or the nature of the connection, does not allow this.
    NotAllowed,
    /// The session is in a room already; leave it first.
    AlreadyJoined,
    /// The session is in no room; join one first.
    NotJoined,
    /// The room's name is not 1 to 64 of `A`-`Z`, `a`-`z`, `0`-`9`, `_` and `-`.
    BadRoom,
    /// The name of a participant or a track is not 1 to 64 visible characters.
    BadName,
    /// The room has as many participants as it may, or as many of one identity.
    RoomFull,
    /// The participant has as many tracks as it may.
    TooManyTracks,
    /// The server has as many rooms or sessions as it may, or as many sessions of one address or
    /// identity.
    ServerFull,
    /// The offer is not SDP.
    BadSdp,
    /// The offer asks for what this server does not do.
    UnsupportedSdp,
    /// Another offer of this connection is being answered.
    OfferPending,
    /// There is no media connection, or it is gone: send an `offer`, with `new_connection` if
    /// there was one before.
    UnknownPeer,
    /// There is no such track in the room, or not of the participant's own.
    UnknownTrack,
    /// There is no such m-line, or not of the direction this needs.
    UnknownMid,
    /// The media plane is full; try again later.
    Overloaded,
    /// The part of the media plane that held the connection has failed: make a new one.
    WorkerFailed,
    /// The server is stopping; try again later, or at another one.
    ShuttingDown,
    /// Nothing was heard of the client for 60 seconds. The socket is closed.
    Idle,
    /// The client does not read or acknowledge as fast as the room speaks. The socket is closed.
    SlowClient,
    /// The session was resumed on another socket. This one is closed. If it was your newest, the hello of
    /// one that you had given up has come late: resume once more.
    Replaced,
    /// The server has a fault of its own.
    Internal,
}

impl ErrorCode {
    /// The code for one of the media plane's.
    #[must_use]
    pub fn from_media(code: &str) -> ErrorCode {
        match code {
            "bad_sdp" => ErrorCode::BadSdp,
            "unsupported_sdp" => ErrorCode::UnsupportedSdp,
            "offer_pending" => ErrorCode::OfferPending,
            "not_allowed" => ErrorCode::NotAllowed,
            "unknown_peer" => ErrorCode::UnknownPeer,
            "unknown_track" => ErrorCode::UnknownTrack,
            "unknown_mid" => ErrorCode::UnknownMid,
            "overloaded" => ErrorCode::Overloaded,
            "worker_failed" => ErrorCode::WorkerFailed,
            _ => ErrorCode::Internal,
        }
    }
}

/// What is wrong with an access token. Of a token that the server's API key has not signed no more is
/// told than that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenFault {
    /// There is none, and one is needed.
    Missing,
    /// It is no signed JWT, has `crit` in its header, or is longer than 16 KiB.
    Malformed,
    /// It is signed with another algorithm than HS256, or not at all.
    Algorithm,
    /// It was signed with another secret, or changed since.
    BadSignature,
    /// Its `iss` is not the name of this server's API key.
    UnknownKey,
    /// Its `exp` has passed.
    Expired,
    /// Its `nbf` has not come yet.
    NotYetValid,
    /// Its `exp` is more than 24 hours ahead.
    ExpTooFar,
    /// It has no `grants`.
    NoGrants,
    /// Another claim is missing, or not what it has to be; the message names it.
    BadClaim,
    /// It is for another room (`wrong_room`).
    OtherRoom,
}

impl TokenFault {
    /// The code of a refusal for this.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            TokenFault::OtherRoom => ErrorCode::WrongRoom,
            _ => ErrorCode::Unauthorized,
        }
    }
}

impl std::fmt::Display for TokenFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The name that JSON gives it, so that there is one list of names.
        self.serialize(f)
    }
}
