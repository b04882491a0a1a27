//! The server's part of a handshake (RFC 5246 section 7.3, RFC 6347 section 4.2).
//!
//! A ClientHello is answered at once: ICE has authenticated the client's address already, and a
//! HelloVerifyRequest would only add a round trip to every join. Only when two hellos contradict each
//! other, so that one is forged, the client is asked for a cookie (`handshake.rs`).

use aws_lc_rs::rand;

use super::error::DtlsError;
use super::handshake::Step;
use super::message::{self, ClientHello, PROFILES, kind};
use super::public_key::{ECDSA_SECP256R1_SHA256, SCHEMES};
use super::reassembly::Message;
use super::suite::{DEFAULT_GROUP, GROUPS, KeyExchange, SUITES};
use super::terms::{Outgoing, Terms};

/// The message that a server waits for.
#[derive(Clone, Copy, Default)]
pub(super) enum Server {
    #[default]
    Hello,
    Certificate,
    KeyExchange,
    CertificateVerify,
    Finished,
}

impl Server {
    /// Takes the next message of the client.
    pub(super) fn handle(
        &mut self,
        message: &Message,
        terms: &mut Terms,
        out: &mut Outgoing,
    ) -> Result<Step, DtlsError> {
        *self = match (&self, message.kind) {
            (Server::Hello, kind::CLIENT_HELLO) => {
                message.append_to(&mut terms.transcript);
                answer(&ClientHello::parse(&message.body)?, terms, out)?;
                Server::Certificate
            }
            (Server::Certificate, kind::CERTIFICATE) => {
                terms.meet(message)?;
                Server::KeyExchange
            }
            (Server::Certificate, kind::CLIENT_KEY_EXCHANGE) => {
                return Err(DtlsError::NoCertificate);
            }
            (Server::KeyExchange, kind::CLIENT_KEY_EXCHANGE) => {
                message.append_to(&mut terms.transcript);
                let public = message::parse_client_key_exchange(&message.body)
                    .ok_or(DtlsError::Malformed("ClientKeyExchange"))?;
                terms.agree(public)?;
                Server::CertificateVerify
            }
            (Server::CertificateVerify, kind::CERTIFICATE_VERIFY) => {
                let signature = message::parse_signature(&message.body)
                    .ok_or(DtlsError::Malformed("CertificateVerify"))?;
                terms.check_signature("CertificateVerify", &terms.transcript, signature)?;
                message.append_to(&mut terms.transcript);
                *self = Server::Finished;
                return Ok(Step::Agreed);
            }
            _ => return Err(DtlsError::UnexpectedMessage(message.kind)),
        };
        Ok(Step::Next)
    }
}

/// Chooses from what the client offers, and says so.
fn answer(hello: &ClientHello, terms: &mut Terms, out: &mut Outgoing) -> Result<(), DtlsError> {
    let offered = &hello.extensions;
    let suite = SUITES
        .into_iter()
        .find(|suite| !suite.is_rsa && hello.suites.contains(&suite.number))
        .ok_or(DtlsError::NoCipherSuite)?;
    let group = match &offered.groups {
        Some(groups) => GROUPS
            .into_iter()
            .find(|group| groups.contains(&group.0))
            .ok_or(DtlsError::NoGroup)?,
        None => DEFAULT_GROUP,
    };
    if let Some(schemes) = &offered.schemes
        && !schemes.contains(&ECDSA_SECP256R1_SHA256)
    {
        return Err(DtlsError::NoSignatureScheme);
    }
    let (number, profile) = PROFILES
        .into_iter()
        .find(|(number, _)| offered.profiles.contains(number))
        .ok_or_else(|| DtlsError::NoSrtpProfile(message::profile_names(&offered.profiles)))?;

    terms.randoms.client = hello.random;
    rand::fill(&mut terms.randoms.server).map_err(|_| DtlsError::Crypto)?;
    terms.extended_master_secret = offered.extended_master_secret;
    terms.suite = Some(suite);
    terms.profile = Some(profile);
    let exchange = KeyExchange::new(group)?;
    let share = message::server_share(group, &exchange.public);
    let signed = terms
        .ours
        .sign(&[&terms.randoms.client[..], &terms.randoms.server, &share].concat())?;
    terms.key_exchange = Some(exchange);

    let certificate = message::certificate(terms.ours.der());
    out.begin();
    out.say(
        terms,
        kind::SERVER_HELLO,
        message::server_hello(terms.randoms.server, suite.number, number, offered),
    );
    out.say(terms, kind::CERTIFICATE, certificate);
    out.say(
        terms,
        kind::SERVER_KEY_EXCHANGE,
        message::server_key_exchange(&share, ECDSA_SECP256R1_SHA256, &signed),
    );
    out.say(
        terms,
        kind::CERTIFICATE_REQUEST,
        message::certificate_request(&SCHEMES),
    );
    out.say(terms, kind::SERVER_HELLO_DONE, Vec::new());
    Ok(())
}
