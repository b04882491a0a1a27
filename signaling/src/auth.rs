//! Who may do what: access tokens (JWT, RFC 7519) and the grants in them.
//!
//! In come a token and the time; out comes an [`Access`], or a refusal that does not say which
//! check failed. Without an API key everybody may do everything, which the binary allows only
//! while every listener is on loopback.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::protocol::{ErrorCode, Failure};
use crate::room::{RoomName, check_name};

/// Shortest API secret, in characters: as many as HMAC-SHA-256 has bytes (RFC 7518 section 3.2).
pub const MIN_SECRET_LEN: usize = 32;

/// How far ahead a token's `exp` may lie.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the clocks of the issuer and of this server may be apart.
const LEEWAY: Duration = Duration::from_secs(10);

/// Longest token looked at, in bytes.
const MAX_TOKEN_LEN: usize = 4_096;

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

/// What a token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Claims {
    /// The API key.
    iss: String,
    /// The participant's identity.
    sub: String,
    /// Seconds since 1970 when it ends.
    exp: u64,
    /// Seconds since 1970 before which it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    room: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    grants: Grants,
}

/// What the bearer of a token may do in its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grants {
    /// Send media.
    #[serde(default)]
    pub publish: bool,
    /// Receive media.
    #[serde(default)]
    pub subscribe: bool,
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
    /// What it may do in the room.
    pub grants: Grants,
}

impl Access {
    /// Checks that this room may be entered.
    ///
    /// # Errors
    /// When the token was for another one.
    pub fn check_room(&self, room: &RoomName) -> Result<(), Failure> {
        match &self.room {
            Some(own) if own != room => Err(Failure::new(
                ErrorCode::WrongRoom,
                format!("The access token is not for the room {:?}.", room.as_str()),
            )),
            _ => Ok(()),
        }
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
    /// What its bearer may do.
    pub grants: Grants,
    /// How long it is valid, at most [`MAX_TOKEN_LIFETIME`].
    pub lifetime: Duration,
}

/// The door: open, or with a key.
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

    /// Checks a token.
    ///
    /// # Errors
    /// When one is needed, and it is missing or not valid now.
    pub fn check(&self, token: Option<&str>, now: SystemTime) -> Result<Access, Failure> {
        let Some(key) = &self.key else {
            return Ok(Access {
                identity: None,
                room: None,
                name: None,
                grants: Grants {
                    publish: true,
                    subscribe: true,
                },
            });
        };
        let token = token.ok_or_else(|| {
            Failure::new(
                ErrorCode::Unauthorized,
                "An access token is needed; `confab token` makes one.",
            )
        })?;
        key.check(token, now).ok_or_else(|| {
            Failure::new(
                ErrorCode::Unauthorized,
                "The access token is not valid, or not valid any more.",
            )
        })
    }
}

impl ApiKey {
    fn check(&self, token: &str, now: SystemTime) -> Option<Access> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        // Times are checked below, against the time given. The algorithm is this one, whatever
        // the token's header says.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let secret = DecodingKey::from_secret(self.secret.as_bytes());
        let claims = jsonwebtoken::decode::<Claims>(token, &secret, &validation)
            .ok()?
            .claims;
        let now = now.duration_since(UNIX_EPOCH).ok()?;
        let expires = Duration::from_secs(claims.exp);
        let starts = Duration::from_secs(claims.nbf.unwrap_or(0));
        let valid = claims.iss == self.key
            && now < expires + LEEWAY
            && expires <= now + MAX_TOKEN_LIFETIME + LEEWAY
            && starts <= now + LEEWAY
            && claims.name.as_deref().is_none_or(|n| check_name(n).is_ok());
        valid.then_some(())?;
        Some(Access {
            identity: Some(claims.sub),
            room: Some(claims.room.parse().ok()?),
            name: claims.name,
            grants: claims.grants,
        })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the signing itself fails, which it does not with a key of this type.
    pub fn mint(&self, request: &TokenRequest, now: SystemTime) -> Result<String, MintError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = now + request.lifetime.min(MAX_TOKEN_LIFETIME);
        let claims = Claims {
            iss: self.key.clone(),
            sub: request.identity.clone(),
            exp: expires.as_secs(),
            nbf: Some(now.as_secs()),
            room: request.room.as_str().to_owned(),
            name: request.name.clone(),
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
    #![allow(clippy::unwrap_used)]
    use super::*;
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
    fn a_minted_token_gives_what_was_asked_for() {
        let key = ApiKey::new("main".into(), SECRET.into()).unwrap();
        let request = TokenRequest {
            room: "kitchen".parse().unwrap(),
            identity: "alice".into(),
            name: Some("Alice".into()),
            grants: Grants {
                publish: false,
                subscribe: true,
            },
            lifetime: Duration::from_secs(3_600),
        };
        let token = key.mint(&request, now()).unwrap();
        let access = auth().check(Some(&token), now()).unwrap();
        assert_eq!(access.identity.as_deref(), Some("alice"));
        assert_eq!(access.name.as_deref(), Some("Alice"));
        assert_eq!(access.grants, request.grants);
        assert!(access.check_room(&"kitchen".parse().unwrap()).is_ok());
        let wrong = access.check_room(&"cellar".parse().unwrap()).unwrap_err();
        assert_eq!(wrong.code, ErrorCode::WrongRoom);
        let later = now() + Duration::from_secs(3_600 + 11);
        assert!(auth().check(Some(&token), later).is_err());
    }

    #[test]
    fn whatever_is_wrong_with_a_token_the_answer_is_the_same() {
        let signed = sign(&good(), Algorithm::HS256, SECRET);
        assert!(auth().check(Some(&signed), now()).is_ok());
        let (head, rest) = signed.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let other_body = encode(&with("room", json!("cellar")));
        let none = encode(&json!({"alg": "none", "typ": "JWT"}));
        let bad = [
            String::new(),
            "..".into(),
            "x".repeat(100_000),
            format!("{head}.{other_body}.{signature}"),
            format!("{none}.{}.", encode(&good())),
            sign(&good(), Algorithm::HS512, SECRET),
            sign(
                &good(),
                Algorithm::HS256,
                "another secret of enough length!",
            ),
            sign(&without("exp"), Algorithm::HS256, SECRET),
            sign(&without("room"), Algorithm::HS256, SECRET),
            sign(&without("grants"), Algorithm::HS256, SECRET),
            sign(&with("exp", json!(NOW - 60)), Algorithm::HS256, SECRET),
            sign(
                &with("exp", json!(NOW + 25 * 3_600)),
                Algorithm::HS256,
                SECRET,
            ),
            sign(&with("exp", json!(u64::MAX)), Algorithm::HS256, SECRET),
            sign(&with("exp", json!(-1)), Algorithm::HS256, SECRET),
            sign(&with("nbf", json!(NOW + 60)), Algorithm::HS256, SECRET),
            sign(&with("nbf", json!(u64::MAX)), Algorithm::HS256, SECRET),
            sign(&with("iss", json!("other")), Algorithm::HS256, SECRET),
            sign(&with("room", json!("a b")), Algorithm::HS256, SECRET),
            sign(&with("name", json!("\n")), Algorithm::HS256, SECRET),
        ];
        let messages: Vec<_> = bad
            .iter()
            .map(|token| {
                let failure = auth().check(Some(token), now()).expect_err(token);
                assert_eq!(failure.code, ErrorCode::Unauthorized);
                failure.message
            })
            .collect();
        assert!(messages.windows(2).all(|pair| pair[0] == pair[1]));
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
