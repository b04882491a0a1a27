//! Guest links, for who may invite: `POST /v1/rooms/{room}/invites`, with a token for the room that
//! has the grant `invite`, or with none where rooms are open.
//!
//! In: what the guest may do, and for how long the link is good. Out: the link. It lets in whoever has
//! it; nothing is kept of it, so that it cannot be taken back.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::whip::Admitted;
use crate::auth::{Grants, MAX_TOKEN_LIFETIME, TokenRequest};
use crate::link::link;
use crate::names::{RoomName, check_name};
use crate::protocol::{ErrorCode, Failure};
use crate::session::new_secret;

pub(super) const PATH: &str = "/v1/rooms/{room}/invites";

/// How long a link is good unless it is asked for. A guest's call ends with it, so that it is as long as a
/// token may be.
pub const DEFAULT_LIFETIME: Duration = MAX_TOKEN_LIFETIME;

const MAX_MINUTES: u64 = MAX_TOKEN_LIFETIME.as_secs() / 60;

/// What the guest may do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Invite {
    /// What the others see the guest called, whatever it says itself.
    name: Option<String>,
    /// For how many minutes one can come in with the link.
    minutes: u64,
    /// Whether the guest may send.
    publish: bool,
    /// Whether it may receive.
    subscribe: bool,
}

impl Default for Invite {
    fn default() -> Self {
        Invite {
            name: None,
            minutes: DEFAULT_LIFETIME.as_secs() / 60,
            publish: true,
            subscribe: true,
        }
    }
}

#[derive(Debug, Serialize)]
struct Invited {
    /// From `http.public_url` if it is set, else from the root of this server.
    link: String,
    /// Where rooms need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// How many seconds it is good for, if it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
}

impl Invite {
    fn read(body: &str) -> Result<Invite, Failure> {
        if body.trim().is_empty() {
            return Ok(Invite::default());
        }
        let bad = |text: String| Failure::new(ErrorCode::BadRequest, text);
        let invite: Invite = serde_json::from_str::<Map<String, Value>>(body)
            .and_then(|fields| serde_json::from_value(Value::Object(fields)))
            .map_err(|error| bad(format!("The invitation is not valid: {error}.")))?;
        if !(1..=MAX_MINUTES).contains(&invite.minutes) {
            let text = format!("`minutes` is a number from 1 to {MAX_MINUTES}.");
            return Err(bad(text));
        }
        invite.name.as_deref().map_or(Ok(()), check_name)?;
        Ok(invite)
    }

    /// What the token is to say: a guest may do no more than who invites it, and invites nobody.
    fn request(self, room: RoomName, host: Grants) -> TokenRequest {
        let mut identity = new_secret();
        identity.truncate(8);
        TokenRequest {
            room,
            identity: format!("guest-{identity}"),
            name: self.name,
            metadata: None,
            grants: Grants {
                publish: self.publish && host.publish,
                subscribe: self.subscribe && host.subscribe,
                invite: false,
            },
            lifetime: Duration::from_secs(60 * self.minutes),
        }
    }
}

pub(super) async fn invite(admitted: Admitted<String>) -> Result<Response, Problem> {
    let room: RoomName = admitted.params.parse()?;
    let access = admitted.access.clone();
    let app = admitted.app.clone();
    access
        .check_room(&room)
        .map_err(|refusal| app.refuse(refusal))?;
    if !access.grants.invite {
        let text = "The access token does not allow inviting: its `grants` need `invite`.";
        return Err(Failure::new(ErrorCode::NotAllowed, text).into());
    }
    let invite = Invite::read(&admitted.body(ErrorCode::BadRequest).await?)?;
    let lifetime = Duration::from_secs(60 * invite.minutes);
    let request = invite.request(room.clone(), access.grants);
    let token = app
        .auth
        .mint(&request, SystemTime::now())
        .map_err(|error| {
            Failure::new(
                ErrorCode::Internal,
                format!("The link cannot be made: {error}."),
            )
        })?;
    tracing::info!(
        room = room.as_str(),
        by = access.identity,
        guest = request.identity,
        "a guest is invited"
    );
    let invited = Invited {
        link: link(
            app.public_url.as_deref().unwrap_or_default(),
            &room,
            token.as_deref(),
        ),
        expires_in: token.is_some().then_some(lifetime.as_secs()),
        token,
    };
    // It lets one in.
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, Json(invited)).into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    #[test]
    fn a_guest_may_do_no_more_than_its_host_and_invites_nobody() {
        let host = Grants {
            publish: false,
            subscribe: true,
            invite: true,
        };
        let invite = Invite::read(r#"{"publish": true, "minutes": 5, "name": "Bob"}"#).unwrap();
        let request = invite.request("kitchen".parse().unwrap(), host);
        assert_eq!(
            request.grants,
            Grants {
                invite: false,
                ..host
            }
        );
        assert_eq!(request.lifetime, Duration::from_secs(300));
        assert_eq!(request.name.as_deref(), Some("Bob"));
        assert!(request.identity.starts_with("guest-") && request.identity.len() == 14);
        let other = Invite::read("")
            .unwrap()
            .request("kitchen".parse().unwrap(), host);
        assert_ne!(other.identity, request.identity);
        assert_eq!(other.lifetime, Duration::from_secs(24 * 60 * 60));
    }

    #[test]
    fn what_is_wrong_with_an_invitation_is_said() {
        for (body, words) in [
            ("[]", "is not valid"),
            (r#"{"minutes": 0}"#, "1 to 1440"),
            (r#"{"minutes": 1441}"#, "1 to 1440"),
            (r#"{"minute": 5}"#, "minute"),
            (r#"{"name": ""}"#, "visible characters"),
        ] {
            let message = Invite::read(body).unwrap_err().message;
            assert!(message.contains(words), "{message}");
        }
    }
}
