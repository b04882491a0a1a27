//! One certificate from a certificate authority (ACME, RFC 8555).
//!
//! In: whose it is to be. Out: a new key and the certificate chain for it, as PEM. The authority looks
//! at the server through its own listener (TLS-ALPN-01, RFC 8737), so nothing but that port is needed.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension};
use rustls::crypto::aws_lc_rs;

use super::automatic::{Automatic, write};
use super::certificate::Certificate;
use super::source::{CertificateError, MakeError, certify};

/// How an order is looked at that the authority works on: after a second, then ever less often, for
/// two minutes.
const RETRIES: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_secs(1))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What an authority says of an account that it does not know (RFC 8555 section 6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    /// The authority is not reached, cannot be understood, or refuses.
    #[error("{}", with_causes(.0))]
    Client(#[from] instant_acme::Error),
    /// It does not offer to look at the server's listener.
    #[error(
        "the authority offers no TLS-ALPN-01 challenge for {0}; it must, to make certificates for this server"
    )]
    NoChallenge(String),
    /// It has looked, and is not content.
    #[error("the authority has not found this server at {domain}: {reason}")]
    Unproven { domain: String, reason: String },
    /// The order has come to nothing.
    #[error("the authority has given the order up")]
    Invalid,
    /// What it made is for other names, or for another time.
    #[error(
        "the certificate is not valid now for all of the names; is this machine's clock right?"
    )]
    NotGood,
    /// What it made cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There is no answer to its challenge.
    #[error("cannot make the answer to the authority's challenge: {0}")]
    Answer(#[from] MakeError),
    /// What must not be lost cannot be kept.
    #[error("cannot write {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// It has taken too long.
    #[error("it was not done after {} s", .0.as_secs())]
    TooSlow(Duration),
}

impl AcmeError {
    /// Whether the authority has decided so, and would soon again.
    pub(super) fn is_refusal(&self) -> bool {
        use instant_acme::Error::Api;
        match self {
            AcmeError::Client(error) => matches!(error, Api(_)),
            AcmeError::TooSlow(_) => false,
            _ => true,
        }
    }
}

/// An error, and what it comes from.
fn with_causes(error: &instant_acme::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !said.ends_with(&words) {
            said = format!("{said}: {words}");
        }
        cause = error.source();
    }
    said
}

/// Gets a certificate; `certificate` is the one that the authority finds when it looks.
pub(super) async fn obtain(
    automatic: &Automatic,
    certificate: &Certificate,
) -> Result<String, AcmeError> {
    // The client takes the process's. With features of other crates there may be two to choose from.
    let _ = aws_lc_rs::default_provider().install_default();
    let domains = automatic.domains.iter();
    let identifiers: Vec<_> = domains.map(|name| Identifier::Dns(name.clone())).collect();
    let new_order = NewOrder::new(&identifiers);
    let order = account(automatic).await?.new_order(&new_order).await;
    let mut order = match order {
        Err(instant_acme::Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => {
            // An authority of one's own may have been set up anew.
            let path = automatic.path("account.json");
            std::fs::remove_file(&path).map_err(|source| AcmeError::Folder { path, source })?;
            account(automatic).await?.new_order(&new_order).await?
        }
        order => order?,
    };
    prove(&mut order, certificate).await?;
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&RETRIES).await?;
    Ok(format!("{key}{chain}"))
}

fn client(automatic: &Automatic) -> Result<AccountBuilder, AcmeError> {
    Ok(match &automatic.directory_ca {
        Some(ca) => Account::builder_with_root(ca)?,
        None => Account::builder()?,
    })
}

/// The account that is kept, or else a new one.
async fn account(automatic: &Automatic) -> Result<Account, AcmeError> {
    let path = automatic.path("account.json");
    let kept = std::fs::read(&path).ok();
    match kept.map(|kept| serde_json::from_slice(&kept)) {
        Some(Ok(kept)) => return Ok(client(automatic)?.from_credentials(kept).await?),
        Some(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "the kept ACME account cannot be read: there will be another");
        }
        None => {}
    }
    let contact = automatic
        .contact
        .iter()
        .map(|mail| format!("mailto:{mail}"));
    let contact: Vec<String> = contact.collect();
    let new = NewAccount {
        contact: &contact.iter().map(String::as_str).collect::<Vec<_>>(),
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = automatic.directory.clone();
    let (account, credentials) = client(automatic)?.create(&new, directory, None).await?;
    let kept = serde_json::to_vec(&credentials).map_err(instant_acme::Error::Json)?;
    write(&path, &kept).map_err(|source| AcmeError::Folder { path, source })?;
    tracing::info!(
        directory = automatic.directory,
        "there is a new ACME account"
    );
    Ok(account)
}

/// Shows the authority that the names lead to this server.
async fn prove(order: &mut Order, certificate: &Certificate) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let domain = authorization.identifier().to_string();
        // One that is still good from the last time.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(AcmeError::NoChallenge(domain));
        };
        let digest = challenge.key_authorization().digest();
        let mut answer = CertificateParams::new([domain.clone()]).map_err(MakeError::from)?;
        // RFC 8737 section 3.
        answer.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let answer = certify(answer)?.into();
        certificate.answers().insert(domain, answer);
        challenge.set_ready().await?;
    }
    match order.poll_ready(&RETRIES).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) | Err(instant_acme::Error::Api(_)) => Err(unproven(order).await?),
        Err(error) => Err(error.into()),
    }
}

/// What the authority has not been content with.
async fn unproven(order: &mut Order) -> Result<AcmeError, AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        authorization.refresh().await?;
        let problem = authorization
            .challenges
            .iter()
            .find_map(|c| c.error.as_ref());
        if let Some(problem) = problem {
            let (domain, reason) = (authorization.identifier(), problem);
            return Ok(AcmeError::Unproven {
                domain: domain.to_string(),
                reason: reason.to_string(),
            });
        }
    }
    Ok(AcmeError::Invalid)
}
