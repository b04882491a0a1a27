//! What an access token says, and what is wrong with it.
//!
//! In: a token, the API key and the time. Out: an [`Access`], or a [`Refusal`] with one sentence for
//! whoever holds the token. Of a token whose signature does not fit no claim is looked at, so that
//! nobody without the secret learns what would have been taken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::{Access, ApiKey, Grants, MAX_TOKEN_LIFETIME, Refusal, check_identity, check_metadata};
use crate::names::{RoomName, check_name};
use crate::protocol::{TokenFault, shortened};

/// How far the clocks of the issuer and of this server may be apart.
const LEEWAY: Duration = Duration::from_secs(10);

/// Longest token looked at, in bytes: one with the longest metadata, each character of it escaped with
/// another.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// `exp` beyond this many seconds is in milliseconds: in seconds it is the year 5138.
const NO_SECONDS: f64 = 1e11;

type Claims = Map<String, Value>;

fn bad(claim: &str, is: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        TokenFault::BadClaim,
        format!("The access token's `{claim}` {is}."),
    )
}

pub(super) fn check(key: &ApiKey, token: &str, now: SystemTime) -> Result<Access, Refusal> {
    let claims = verified(key, token)?;
    let mut refusal = match read(key, &claims, now) {
        Ok(access) => return Ok(access),
        Err(refusal) => refusal,
    };
    // It is signed by our key, so this is worth knowing, and not made up.
    let said = |claim: &str| Some(shortened(claims.get(claim)?.as_str()?));
    refusal.identity = said("sub");
    refusal.room = said("room");
    Err(refusal)
}

/// The claims of a token, if they are signed with the key's secret.
fn verified(key: &ApiKey, token: &str) -> Result<Claims, Refusal> {
    let malformed = || {
        Refusal::new(
            TokenFault::Malformed,
            "The access token is not a JWT: three parts in base64url, with dots between them.",
        )
    };
    if token.len() > MAX_TOKEN_LEN {
        let text = format!("The access token is longer than {MAX_TOKEN_LEN} bytes.");
        return Err(Refusal::new(TokenFault::Malformed, text));
    }
    let (header, rest) = token.split_once('.').ok_or_else(malformed)?;
    if rest.split('.').count() != 2 {
        return Err(malformed());
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed())?;
    let header: Claims = serde_json::from_slice(&header).map_err(|_| malformed())?;
    // What is critical has to be understood, and nothing of it is (RFC 7515 section 4.1.11).
    if header.contains_key("crit") {
        let text = "The access token's header has `crit`, so that it must not be taken by who does not \
                    know what that names; leave it out.";
        return Err(Refusal::new(TokenFault::Malformed, text));
    }
    // Nothing but this one, whatever the header says (RFC 8725 section 3.1).
    match header.get("alg").and_then(Value::as_str) {
        Some("HS256") => {}
        Some(other) if other.eq_ignore_ascii_case("none") => {
            let text = "The access token is not signed (`alg` is `none`); sign it with HS256.";
            return Err(Refusal::new(TokenFault::Algorithm, text));
        }
        Some(other) => {
            let other = shortened(other);
            let text = format!(
                "The access token is signed with the algorithm {other:?}; sign it with HS256."
            );
            return Err(Refusal::new(TokenFault::Algorithm, text));
        }
        None => return Err(malformed()),
    }
    let mut validation = Validation::new(Algorithm::HS256);
    // Read below, against the time given and with words.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let secret = DecodingKey::from_secret(key.secret.as_bytes());
    jsonwebtoken::decode::<Claims>(token, &secret, &validation)
        .map(|decoded| decoded.claims)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Refusal::new(
                TokenFault::BadSignature,
                "The access token's signature is wrong: it was signed with another secret than this \
                 server's, or changed since.",
            ),
            _ => malformed(),
        })
}

fn read(key: &ApiKey, claims: &Claims, now: SystemTime) -> Result<Access, Refusal> {
    match claims.get("iss") {
        Some(Value::String(name)) if *name == key.key => {}
        Some(Value::String(name)) => {
            let name = shortened(name);
            let text = format!(
                "The access token's `iss` is {name:?}, which is not the name of this server's API key."
            );
            return Err(Refusal::new(TokenFault::UnknownKey, text));
        }
        _ => return Err(bad("iss", "is missing; it has to name the API key")),
    }
    // Whoever takes it must be meant by it (RFC 7519 section 4.1.3), and this server has no such name.
    if claims.contains_key("aud") {
        return Err(bad("aud", "names somebody else; leave it out"));
    }
    let expires_in = check_times(claims, now)?;
    let text = |claim: &str| match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad(claim, "is not a string")),
    };
    let identity =
        text("sub")?.ok_or_else(|| bad("sub", "is missing; it has to say who it is for"))?;
    check_identity(&identity).map_err(|is| bad("sub", is))?;
    let room = text("room")?
        .ok_or_else(|| bad("room", "is missing; it has to name the room that it opens"))?;
    let room: RoomName = room.parse().map_err(|_| {
        let room = shortened(&room);
        bad("room", format!("is {room:?}, which no room can be called"))
    })?;
    let name = text("name")?;
    if name
        .as_deref()
        .is_some_and(|name| check_name(name).is_err())
    {
        return Err(bad("name", "is not 1 to 64 visible characters"));
    }
    let metadata = text("metadata")?;
    if let Some(metadata) = &metadata {
        check_metadata(metadata).map_err(|is| bad("metadata", is))?;
    }
    Ok(Access {
        identity: Some(identity),
        room: Some(room),
        name,
        metadata,
        grants: grants(claims)?,
        expires_in: Some(expires_in),
    })
}

/// Checks that a token is good now, and says for how long it still is.
fn check_times(claims: &Claims, now: SystemTime) -> Result<Duration, Refusal> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    // A fraction is allowed, as `time.time() + 3600` in Python makes one (RFC 7519 section 2).
    let time = |claim: &str| match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            // A number that large saturates.
            Some(seconds) if seconds >= 0.0 => Ok(Some(Duration::from_secs(seconds as u64))),
            _ => Err(bad(claim, "is not a number of seconds since 1970")),
        },
    };
    let expires = time("exp")?.ok_or_else(|| {
        bad(
            "exp",
            "is missing; it has to say when it ends, in seconds since 1970",
        )
    })?;
    if claims.get("exp").and_then(Value::as_f64) > Some(NO_SECONDS) {
        let text = "The access token's `exp` lies thousands of years ahead; it is in seconds since \
                    1970, not in milliseconds, and at most 24 hours ahead.";
        return Err(Refusal::new(TokenFault::ExpTooFar, text));
    }
    if now >= expires.saturating_add(LEEWAY) {
        let ago = span(now - expires);
        let text = format!("The access token expired {ago} ago; ask for a new one.");
        return Err(Refusal::new(TokenFault::Expired, text));
    }
    if expires > now + MAX_TOKEN_LIFETIME + LEEWAY {
        // Rounded up, lest it be no more than what is allowed.
        let ahead = span(expires.saturating_sub(now) + Duration::from_secs(3_599));
        let text = format!(
            "The access token's `exp` lies {ahead} ahead; {} is the most that is taken.",
            span(MAX_TOKEN_LIFETIME)
        );
        return Err(Refusal::new(TokenFault::ExpTooFar, text));
    }
    let starts = time("nbf")?.unwrap_or_default();
    if starts > now + LEEWAY {
        let ahead = span(starts - now);
        let text = format!(
            "The access token is not valid yet: its `nbf` lies {ahead} ahead, unless a clock is wrong."
        );
        return Err(Refusal::new(TokenFault::NotYetValid, text));
    }
    Ok(expires.saturating_add(LEEWAY) - now)
}

fn grants(claims: &Claims) -> Result<Grants, Refusal> {
    let grants = match claims.get("grants") {
        Some(Value::Object(grants)) => grants,
        Some(_) => return Err(bad("grants", "is not an object")),
        None => {
            let text = "The access token has no `grants`, so it allows nothing; \
                        {\"publish\": true, \"subscribe\": true} allows everything.";
            return Err(Refusal::new(TokenFault::NoGrants, text));
        }
    };
    let may = |what: &str| match grants.get(what) {
        None => Ok(false),
        Some(Value::Bool(may)) => Ok(*may),
        Some(_) => Err(bad(&format!("grants.{what}"), "is not true or false")),
    };
    Ok(Grants {
        publish: may("publish")?,
        subscribe: may("subscribe")?,
        invite: may("invite")?,
    })
}

/// A time in the largest unit of which it has two.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, name) in [(86_400, "days"), (3_600, "hours"), (60, "minutes")] {
        if seconds >= 2 * unit {
            return format!("{} {name}", seconds / unit);
        }
    }
    match seconds {
        1 => "1 second".into(),
        _ => format!("{seconds} seconds"),
    }
}
