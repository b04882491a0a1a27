//! Who may do what: access tokens (JWT, RFC 7519) and the grants in them.
//!
//! In come a token and the time; out comes an [`Access`], or a [`Refusal`] that says in words what is
//! wrong. Without an API key everybody may do everything, which the binary allows only while every
//! listener is on loopback, or if it is told to.

mod claims;
mod refusals;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::names::RoomName;
use crate::protocol::{Failure, Permissions, TokenFault};
pub(crate) use refusals::Refusals;

/// Shortest API secret, in characters: as many as HMAC-SHA-256 has bytes (RFC 7518 section 3.2).
pub const MIN_SECRET_LEN: usize = 32;

/// How far ahead a token's `exp` may lie.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest identity, in bytes: everybody in the room is told of it.
pub const MAX_IDENTITY_LEN: usize = 256;

/// Longest metadata, in bytes: everybody in the room is told of it.
pub const MAX_METADATA_LEN: usize = 4_096;

/// The key pair that signs and checks tokens.
#[derive(Clone)]
pub struct ApiKey {
    key: String,
    secret: String,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// What was asked of an [`ApiKey`] that it cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The key is empty.
    #[error("the API key is empty; choose a name for it, such as \"main\"")]
    EmptyKey,
    /// The secret could be guessed.
    #[error("the API secret has {0} characters; it needs at least {MIN_SECRET_LEN}")]
    ShortSecret(usize),
}

impl ApiKey {
    /// A key and its secret.
    ///
    /// # Errors
    /// When the key is empty or the secret shorter than [`MIN_SECRET_LEN`].
    pub fn new(key: String, secret: String) -> Result<ApiKey, ApiKeyError> {
        if key.is_empty() {
            return Err(ApiKeyError::EmptyKey);
        }
        match secret.chars().count() {
            MIN_SECRET_LEN.. => Ok(ApiKey { key, secret }),
            short => Err(ApiKeyError::ShortSecret(short)),
        }
    }
}

/// What a new token says.
#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    /// Seconds since 1970 when it ends.
    exp: u64,
    /// Seconds since 1970 before which it is not valid.
    nbf: u64,
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    grants: Grants,
}

/// What the bearer of a token may do in its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Grants {
    /// Send media.
    pub publish: bool,
    /// Receive media.
    pub subscribe: bool,
    /// Make links that let guests in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub invite: bool,
}

impl Grants {
    /// Everything.
    #[must_use]
    pub fn all() -> Grants {
        Grants {
            publish: true,
            subscribe: true,
            invite: true,
        }
    }
}

impl From<Grants> for Permissions {
    fn from(grants: Grants) -> Permissions {
        Permissions {
            publish: grants.publish,
            subscribe: grants.subscribe,
        }
    }
}

/// Checks who somebody is said to be.
///
/// # Errors
/// When it is not 1 to [`MAX_IDENTITY_LEN`] bytes without control characters; the text goes behind the
/// name of what it was.
pub fn check_identity(identity: &str) -> Result<(), String> {
    let fits = (1..=MAX_IDENTITY_LEN).contains(&identity.len());
    if !fits || identity.chars().any(char::is_control) {
        return Err(format!(
            "is not 1 to {MAX_IDENTITY_LEN} bytes without control characters"
        ));
    }
    Ok(())
}

/// Checks what an application says of a participant.
///
/// # Errors
/// When it is longer than [`MAX_METADATA_LEN`]; the text goes behind the name of what it was.
pub fn check_metadata(metadata: &str) -> Result<(), String> {
    match metadata.len() {
        0..=MAX_METADATA_LEN => Ok(()),
        long => Err(format!(
            "has {long} bytes; {MAX_METADATA_LEN} are the most that is taken"
        )),
    }
}

/// What a client may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The identity its token gives it.
    pub identity: Option<String>,
    /// The only room it may enter; `None` for any.
    pub room: Option<RoomName>,
    /// The name it goes by, whatever it says itself.
    pub name: Option<String>,
    /// What the application says of it to the others.
    pub metadata: Option<String>,
    /// What it may do in the room.
    pub grants: Grants,
    /// How long its token was still good when it was looked at; `None` for ever.
    pub expires_in: Option<Duration>,
}

impl Access {
    /// Checks that this room may be entered.
    ///
    /// # Errors
    /// When the token was for another one.
    pub fn check_room(&self, room: &RoomName) -> Result<(), Refusal> {
        match &self.room {
            Some(own) if own != room => {
                let (own, room) = (own.as_str(), room.as_str());
                let text =
                    format!("The access token is for the room {own:?}, not for the room {room:?}.");
                Err(Refusal {
                    identity: self.identity.clone(),
                    room: Some(own.to_owned()),
                    ..Refusal::new(TokenFault::OtherRoom, text)
                })
            }
            _ => Ok(()),
        }
    }
}

/// Why a token was refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Refusal {
    /// What its holder is told.
    pub failure: Failure,
    /// Whose it is, if it is signed by the API key.
    pub identity: Option<String>,
    /// Which room it is for, if it is signed by the API key.
    pub room: Option<String>,
}

impl Refusal {
    fn new(fault: TokenFault, message: impl Into<String>) -> Refusal {
        Refusal {
            failure: Failure::of_token(fault, message),
            identity: None,
            room: None,
        }
    }

    /// An `Authorization` header that has no token.
    pub(crate) fn of_header() -> Refusal {
        Refusal::new(
            TokenFault::Malformed,
            "The `Authorization` header has to be `Bearer` and the access token.",
        )
    }
}

/// What a new token is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRequest {
    /// The room it is for.
    pub room: RoomName,
    /// The participant's identity.
    pub identity: String,
    /// The name the others see.
    pub name: Option<String>,
    /// What the others' applications are told of the participant.
    pub metadata: Option<String>,
    /// What its bearer may do.
    pub grants: Grants,
    /// How long it is valid, at most [`MAX_TOKEN_LIFETIME`].
    pub lifetime: Duration,
}

/// Who may come in: everybody, or who has a token.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    key: Option<ApiKey>,
}

impl Auth {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Auth {
        Auth { key: None }
    }

    /// A token of this key is needed.
    #[must_use]
    pub fn with_key(key: ApiKey) -> Auth {
        Auth { key: Some(key) }
    }

    /// Whether no token is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.key.is_none()
    }

    /// Makes a token; none where none is needed.
    ///
    /// # Errors
    /// As [`ApiKey::mint`].
    pub fn mint(
        &self,
        request: &TokenRequest,
        now: SystemTime,
    ) -> Result<Option<String>, MintError> {
        let key = self.key.as_ref();
        key.map(|key| key.mint(request, now)).transpose()
    }

    /// Checks a token.
    ///
    /// # Errors
    /// When one is needed, and it is missing or not valid now.
    pub fn check(&self, token: Option<&str>, now: SystemTime) -> Result<Access, Refusal> {
        let Some(key) = &self.key else {
            return Ok(Access {
                identity: None,
                room: None,
                name: None,
                metadata: None,
                grants: Grants::all(),
                expires_in: None,
            });
        };
        let token = token.ok_or_else(|| {
            Refusal::new(
                TokenFault::Missing,
                "An access token is needed; `confab token` makes one.",
            )
        })?;
        claims::check(key, token, now)
    }
}

impl ApiKey {
    /// Makes a token.
    ///
    /// # Errors
    /// When the signing itself fails, which it does not with a key of this type.
    pub fn mint(&self, request: &TokenRequest, now: SystemTime) -> Result<String, MintError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = now + request.lifetime.min(MAX_TOKEN_LIFETIME);
        let claims = Claims {
            iss: &self.key,
            sub: &request.identity,
            exp: expires.as_secs(),
            nbf: now.as_secs(),
            room: request.room.as_str(),
            name: request.name.as_deref(),
            metadata: request.metadata.as_deref(),
            grants: request.grants,
        };
        let secret = EncodingKey::from_secret(self.secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret)
            .map_err(|error| MintError(error.to_string()))
    }
}

/// A token could not be signed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the token could not be signed: {0}")]
pub struct MintError(String);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;
    use crate::protocol::ErrorCode;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn auth() -> Auth {
        Auth::with_key(ApiKey::new("main".into(), SECRET.into()).unwrap())
    }

    fn good() -> Value {
        json!({
            "iss": "main", "sub": "alice", "exp": NOW + 60, "room": "kitchen",
            "grants": {"publish": true},
        })
    }

    fn sign(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn with(field: &str, value: Value) -> Value {
        let mut claims = good();
        claims[field] = value;
        claims
    }

    fn without(field: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(field);
        claims
    }

    #[test]
    fn what_a_token_says_to_be_critical_is_not_passed_over() {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let sign = |extra: Value| {
            let mut header = json!({"alg": "HS256", "typ": "JWT"});
            header
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(&header), part(&good()));
            let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
            format!("{message}.{}", mac.unwrap())
        };
        assert!(auth().check(Some(&sign(json!({}))), now()).is_ok());
        assert!(
            auth()
                .check(Some(&sign(json!({"kid": "1"}))), now())
                .is_ok()
        );
        for extra in [
            json!({"crit": ["exp"]}),
            json!({"crit": ["b64"], "b64": false}),
            json!({"crit": []}),
            json!({"crit": null}),
        ] {
            let refusal = auth().check(Some(&sign(extra.clone())), now()).unwrap_err();
            let failure = refusal.failure;
            assert_eq!(failure.reason, Some(TokenFault::Malformed), "{extra}");
            assert!(failure.message.contains("`crit`"), "{}", failure.message);
        }
    }

    #[test]
    fn a_minted_token_gives_what_was_asked_for() {
        let key = ApiKey::new("main".into(), SECRET.into()).unwrap();
        let request = TokenRequest {
            room: "kitchen".parse().unwrap(),
            identity: "alice".into(),
            name: Some("Alice".into()),
            metadata: Some("{\"seat\": 7}".into()),
            grants: Grants {
                publish: false,
                subscribe: true,
                invite: false,
            },
            lifetime: Duration::from_secs(3_600),
        };
        let token = key.mint(&request, now()).unwrap();
        let access = auth().check(Some(&token), now()).unwrap();
        assert_eq!(access.identity.as_deref(), Some("alice"));
        assert_eq!(access.name.as_deref(), Some("Alice"));
        assert_eq!(access.metadata.as_deref(), Some("{\"seat\": 7}"));
        assert_eq!(access.grants, request.grants);
        assert!(access.check_room(&"kitchen".parse().unwrap()).is_ok());
        let wrong = access.check_room(&"cellar".parse().unwrap()).unwrap_err();
        let wrong = wrong.failure;
        assert_eq!(wrong.code, ErrorCode::WrongRoom);
        let text = "The access token is for the room \"kitchen\", not for the room \"cellar\".";
        assert_eq!(wrong.message, text);
        assert_eq!(access.expires_in, Some(Duration::from_secs(3_610)));
        let later = now() + Duration::from_secs(3_600 + 11);
        assert!(auth().check(Some(&token), later).is_err());
    }

    fn refused(token: &str) -> (TokenFault, String) {
        let refusal = auth().check(Some(token), now()).expect_err(token);
        let failure = refusal.failure;
        assert_eq!(failure.code, ErrorCode::Unauthorized);
        assert!(failure.message.ends_with('.'), "{}", failure.message);
        assert!(failure.message.len() < 250, "{}", failure.message);
        (failure.reason.unwrap(), failure.message)
    }

    #[test]
    fn what_is_wrong_with_a_token_of_ours_is_said() {
        use TokenFault::{BadClaim, ExpTooFar, Expired, NoGrants, NotYetValid, UnknownKey};
        let long = "x".repeat(5_000);
        let hours = |hours: u64| json!(NOW + hours * 3_600);
        let table = [
            (without("iss"), BadClaim, "`iss` is missing"),
            (
                with("iss", json!("other")),
                UnknownKey,
                "`iss` is \"other\"",
            ),
            (
                with("aud", json!("x")),
                BadClaim,
                "`aud` names somebody else",
            ),
            (without("exp"), BadClaim, "`exp` is missing"),
            (
                with("exp", json!("soon")),
                BadClaim,
                "`exp` is not a number",
            ),
            (with("exp", json!(-1)), BadClaim, "`exp` is not a number"),
            (
                with("exp", json!(NOW - 61)),
                Expired,
                "expired 61 seconds ago",
            ),
            (
                with("exp", json!(NOW - 7_200)),
                Expired,
                "expired 2 hours ago",
            ),
            (with("exp", json!(0)), Expired, "days ago"),
            (
                with("exp", hours(25)),
                ExpTooFar,
                "25 hours ahead; 24 hours is",
            ),
            (
                with("exp", json!(NOW * 1_000)),
                ExpTooFar,
                "not in milliseconds",
            ),
            (
                with("exp", json!(u64::MAX)),
                ExpTooFar,
                "at most 24 hours ahead",
            ),
            (
                with("exp", json!(1e300)),
                ExpTooFar,
                "at most 24 hours ahead",
            ),
            (
                with("nbf", json!(NOW + 60)),
                NotYetValid,
                "`nbf` lies 60 seconds ahead",
            ),
            (with("nbf", json!(u64::MAX)), NotYetValid, "not valid yet"),
            (without("sub"), BadClaim, "`sub` is missing"),
            (
                with("sub", json!("")),
                BadClaim,
                "`sub` is not 1 to 256 bytes",
            ),
            (with("sub", json!(7)), BadClaim, "`sub` is not a string"),
            (
                with("sub", json!("a\nb")),
                BadClaim,
                "`sub` is not 1 to 256 bytes",
            ),
            (without("room"), BadClaim, "`room` is missing"),
            (with("room", json!("a b")), BadClaim, "`room` is \"a b\""),
            (with("name", json!("\n")), BadClaim, "`name` is not 1 to 64"),
            (
                with("metadata", json!({})),
                BadClaim,
                "`metadata` is not a string",
            ),
            (
                with("metadata", json!(long)),
                BadClaim,
                "`metadata` has 5000 bytes",
            ),
            (without("grants"), NoGrants, "no `grants`"),
            (
                with("grants", json!([])),
                BadClaim,
                "`grants` is not an object",
            ),
            (
                with("grants", json!({"publish": "yes"})),
                BadClaim,
                "`grants.publish` is not true or false",
            ),
        ];
        for (claims, fault, words) in table {
            let (told, message) = refused(&sign(&claims, Algorithm::HS256, SECRET));
            assert_eq!(told, fault, "{message}");
            assert!(message.contains(words), "{message}");
        }
        let expired = sign(&with("exp", json!(NOW - 61)), Algorithm::HS256, SECRET);
        let refusal = auth().check(Some(&expired), now()).unwrap_err();
        assert_eq!(refusal.identity.as_deref(), Some("alice"), "for the log");
        assert_eq!(refusal.room.as_deref(), Some("kitchen"));
    }

    #[test]
    fn of_a_token_that_is_not_ours_no_claim_is_looked_at() {
        use TokenFault::{Algorithm, BadSignature, Malformed};
        let signed = sign(&good(), jsonwebtoken::Algorithm::HS256, SECRET);
        assert!(auth().check(Some(&signed), now()).is_ok());
        let (head, rest) = signed.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = |alg: Value| encode(&json!({"alg": alg, "typ": "JWT"}));
        let other_body = encode(&with("room", json!("cellar")));
        let body = encode(&good());
        let long = "x".repeat(10_000);
        let other = "another secret of enough length!";
        let other_key = with("iss", json!("other"));
        let table = [
            (String::new(), Malformed, "not a JWT"),
            ("..".into(), Malformed, "not a JWT"),
            (format!("{head}.{body}"), Malformed, "not a JWT"),
            (format!("{signed}.x.y"), Malformed, "not a JWT"),
            ("x".repeat(100_000), Malformed, "longer than 16384 bytes"),
            (
                format!("{}.{body}.x", header(json!(7))),
                Malformed,
                "not a JWT",
            ),
            (
                format!("{}.{body}.", header(json!("none"))),
                Algorithm,
                "not signed",
            ),
            (
                format!("{}.{body}.", header(json!("nOnE"))),
                Algorithm,
                "not signed",
            ),
            (
                format!("{}.{body}.x", header(json!("HS257"))),
                Algorithm,
                "\"HS257\"; sign it with HS256",
            ),
            (format!("{}.{body}.x", header(json!(long))), Algorithm, "…"),
            (
                sign(&good(), jsonwebtoken::Algorithm::HS512, SECRET),
                Algorithm,
                "HS512",
            ),
            (
                format!("{head}.{other_body}.{signature}"),
                BadSignature,
                "changed since",
            ),
            (
                sign(&good(), jsonwebtoken::Algorithm::HS256, other),
                BadSignature,
                "another secret",
            ),
            (
                sign(&other_key, jsonwebtoken::Algorithm::HS256, other),
                BadSignature,
                "another secret",
            ),
            (
                sign(&without("exp"), jsonwebtoken::Algorithm::HS256, other),
                BadSignature,
                "another secret",
            ),
        ];
        for (token, fault, words) in table {
            let (told, message) = refused(&token);
            assert_eq!(told, fault, "{message}");
            assert!(message.contains(words), "{message}");
            let refusal = auth().check(Some(&token), now()).unwrap_err();
            assert_eq!((refusal.identity, refusal.room), (None, None));
        }
    }

    #[test]
    fn a_time_may_have_a_fraction_and_metadata_4096_bytes() {
        for claims in [
            with("exp", json!(NOW as f64 + 60.5)),
            with("metadata", json!("\"".repeat(4_096))),
            with("nbf", Value::Null),
        ] {
            let token = sign(&claims, Algorithm::HS256, SECRET);
            assert!(auth().check(Some(&token), now()).is_ok(), "{}", token.len());
        }
    }

    #[test]
    fn a_missing_token_is_refused_unless_the_door_is_open() {
        assert!(auth().check(None, now()).is_err());
        let access = Auth::open().check(None, now()).unwrap();
        assert!(access.grants.publish && access.grants.subscribe);
        assert!(access.check_room(&"any".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_short_secret_is_no_secret_and_never_shown() {
        assert!(ApiKey::new("main".into(), "short".into()).is_err());
        assert!(ApiKey::new(String::new(), SECRET.into()).is_err());
        let key = ApiKey::new("main".into(), SECRET.into()).unwrap();
        assert!(!format!("{key:?}").contains(SECRET));
    }
}
