//! The media plane as the control plane sees it.
//!
//! In: a [`Request`]. Out: its [`Reply`], which is one of [`Control`](crate::control::Control)'s inputs.
//! [`MediaPlane`] has two implementors: the SFU, and the stand-in of the tests.

use std::future::Future;

use confab_sfu::Sfu;
pub use confab_sfu::api::{Reply, Request};

use crate::protocol::{ErrorCode, Failure};

/// What carries the media.
pub trait MediaPlane: Clone + Send + Sync + 'static {
    /// Does what it is asked, and says what has come of it.
    fn ask(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

impl MediaPlane for Sfu {
    async fn ask(&self, request: Request) -> Reply {
        Sfu::ask(self, request).await
    }
}

/// Why the media plane has not done what it was asked, as clients are told of it: it has replied this.
pub(crate) fn failure_of(reply: Reply) -> Failure {
    match reply {
        Reply::Refused(refusal) => failure(refusal.code(), &refusal.to_string()),
        other => {
            tracing::error!(?other, "the media plane has replied to another request");
            Failure::new(ErrorCode::Internal, "The server has made a mistake.")
        }
    }
}

/// A refusal of the media plane as clients are told of it.
pub(crate) fn failure(code: &str, message: &str) -> Failure {
    Failure::new(ErrorCode::from_media(code), sentence(message))
}

/// An error's text as a sentence: errors are written to be put after a colon.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let mut sentence: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    sentence.push_str(chars.as_str());
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use confab_sfu::api::CommandError;
    use confab_sfu::types::TrackId;

    use super::*;

    #[test]
    fn an_error_becomes_a_sentence_with_its_code() {
        let refusal = CommandError::UnknownTrack(TrackId(7)).into();
        assert_eq!(
            failure_of(Reply::Refused(refusal)),
            Failure::new(
                ErrorCode::UnknownTrack,
                "There is no track t_7 that this can be done with."
            )
        );
    }
}
