//! What the way to a participant carries, for operators: `GET
//! /v1/rooms/{room}/participants/{participant}/quality`, with a token for the room.

use axum::response::Response;

use super::problem::Problem;
use super::whip::{Admitted, response};
use crate::control::HttpRequest;
use crate::names::ParticipantId;
use crate::protocol::{ErrorCode, Failure};

pub(super) const PATH: &str = "/v1/rooms/{room}/participants/{participant}/quality";

/// The same as the reply to the request `quality`, but for its `type`.
pub(super) async fn quality(admitted: Admitted<(String, String)>) -> Result<Response, Problem> {
    let (room, participant) = &admitted.params;
    let participant: ParticipantId = participant.parse().map_err(|_| {
        let text = "A participant is named by `p_` and hexadecimal digits.";
        Failure::new(ErrorCode::BadRequest, text)
    })?;
    let request = HttpRequest::Quality {
        room: room.parse()?,
        participant,
        access: admitted.access.clone(),
    };
    Ok(response(admitted.app.service.http(request).await, ""))
}
