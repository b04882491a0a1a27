//! The client's part of a handshake (RFC 5246 section 7.3, RFC 6347 section 4.2), for peers whose
//! SDP says `a=setup:passive`.

use aws_lc_rs::rand;

use super::error::DtlsError;
use super::handshake::Step;
use super::message::{self, PROFILES, ServerHello, ServerKeyExchange, kind};
use super::public_key::{ECDSA_SECP256R1_SHA256, SCHEMES};
use super::reassembly::Message;
use super::suite::{GROUPS, KeyExchange, Role, SUITES};
use super::terms::{Outgoing, Terms};

/// A curve for certificates alone: a server whose key is on a curve that the client does not name has
/// nothing to show (RFC 8422 section 5.1.1). Keys are not exchanged on it, since any server has one
/// of the others.
const SECP224R1: u16 = 21;

/// The message that a client waits for.
#[derive(Clone, Default)]
pub(super) enum Client {
    #[default]
    Hello,
    /// After a HelloVerifyRequest, of which there is one at most.
    SecondHello,
    Certificate,
    KeyExchange,
    /// CertificateRequest or, without one, ServerHelloDone.
    Request {
        peer: Vec<u8>,
    },
    HelloDone {
        peer: Vec<u8>,
    },
    Finished,
}

impl Client {
    pub(super) fn begin(&self, terms: &mut Terms, out: &mut Outgoing) -> Result<(), DtlsError> {
        rand::fill(&mut terms.randoms.client).map_err(|_| DtlsError::Crypto)?;
        say_hello(terms, out, &[]);
        Ok(())
    }

    /// Takes the next message of the server.
    pub(super) fn handle(
        &mut self,
        message: &Message,
        terms: &mut Terms,
        out: &mut Outgoing,
    ) -> Result<Step, DtlsError> {
        *self = match (std::mem::take(self), message.kind) {
            (Client::Hello, kind::HELLO_VERIFY_REQUEST) => {
                let cookie = message::parse_cookie(&message.body)
                    .ok_or(DtlsError::Malformed("HelloVerifyRequest"))?;
                // Neither it nor the first ClientHello counts (RFC 6347 section 4.2.1).
                terms.transcript.clear();
                say_hello(terms, out, cookie);
                Client::SecondHello
            }
            (Client::Hello | Client::SecondHello, kind::SERVER_HELLO) => {
                accept(&ServerHello::parse(&message.body)?, terms)?;
                message.append_to(&mut terms.transcript);
                Client::Certificate
            }
            (Client::Certificate, kind::CERTIFICATE) => {
                let is_rsa = terms.meet(message)?.is_rsa();
                if terms.suite.is_none_or(|suite| suite.is_rsa != is_rsa) {
                    return Err(DtlsError::IllegalParameter("Certificate"));
                }
                Client::KeyExchange
            }
            (Client::KeyExchange, kind::SERVER_KEY_EXCHANGE) => {
                let peer = exchange(&message.body, terms)?;
                message.append_to(&mut terms.transcript);
                Client::Request { peer }
            }
            (Client::Request { peer }, kind::CERTIFICATE_REQUEST) => {
                let schemes = message::parse_certificate_request(&message.body)
                    .ok_or(DtlsError::Malformed("CertificateRequest"))?;
                if !schemes.contains(&ECDSA_SECP256R1_SHA256) {
                    return Err(DtlsError::NoSignatureScheme);
                }
                message.append_to(&mut terms.transcript);
                Client::HelloDone { peer }
            }
            (Client::Request { peer }, kind::SERVER_HELLO_DONE) => {
                message.append_to(&mut terms.transcript);
                answer(&peer, false, terms, out)?;
                Client::Finished
            }
            (Client::HelloDone { peer }, kind::SERVER_HELLO_DONE) => {
                message.append_to(&mut terms.transcript);
                answer(&peer, true, terms, out)?;
                Client::Finished
            }
            _ => return Err(DtlsError::UnexpectedMessage(message.kind)),
        };
        Ok(match self {
            Client::Finished => Step::Agreed,
            _ => Step::Next,
        })
    }
}

fn say_hello(terms: &mut Terms, out: &mut Outgoing, cookie: &[u8]) {
    let mut groups = GROUPS.map(|group| group.0).to_vec();
    groups.push(SECP224R1);
    let hello = message::client_hello(
        terms.randoms.client,
        cookie,
        &SUITES.map(|suite| suite.number),
        &groups,
        &SCHEMES,
    );
    out.begin();
    out.say(terms, kind::CLIENT_HELLO, hello);
}

/// Takes what the server has chosen of our offer.
fn accept(hello: &ServerHello, terms: &mut Terms) -> Result<(), DtlsError> {
    if hello.extensions.has_others {
        return Err(DtlsError::UnsupportedExtension);
    }
    if hello.extensions.has_mki {
        return Err(DtlsError::IllegalParameter("ServerHello"));
    }
    let chosen = SUITES.into_iter().find(|s| s.number == hello.suite);
    terms.suite = Some(chosen.ok_or(DtlsError::IllegalParameter("ServerHello"))?);
    let profiles = &hello.extensions.profiles;
    let (_, profile) = PROFILES
        .into_iter()
        .find(|(number, _)| profiles == &[*number])
        .ok_or_else(|| DtlsError::NoSrtpProfile(message::profile_names(profiles)))?;
    terms.profile = Some(profile);
    terms.randoms.server = hello.random;
    terms.extended_master_secret = hello.extensions.extended_master_secret;
    Ok(())
}

/// Takes the server's half of the exchange of keys, which its certificate signs.
fn exchange(body: &[u8], terms: &mut Terms) -> Result<Vec<u8>, DtlsError> {
    let what = "ServerKeyExchange";
    let theirs = ServerKeyExchange::parse(body).ok_or(DtlsError::Malformed(what))?;
    let randoms = &terms.randoms;
    let signed = [&randoms.client[..], &randoms.server, theirs.share].concat();
    terms.check_signature(what, &signed, theirs.signature)?;
    let group = GROUPS.into_iter().find(|group| group.0 == theirs.group);
    let group = group.ok_or(DtlsError::IllegalParameter(what))?;
    terms.key_exchange = Some(KeyExchange::new(group)?);
    Ok(theirs.public.to_vec())
}

/// Says everything else, with our certificate if the server asks for one.
fn answer(
    peer: &[u8],
    is_asked: bool,
    terms: &mut Terms,
    out: &mut Outgoing,
) -> Result<(), DtlsError> {
    out.begin();
    if is_asked {
        let certificate = message::certificate(terms.ours.der());
        out.say(terms, kind::CERTIFICATE, certificate);
    }
    let public = terms.key_exchange.as_ref().map(|ours| ours.public.clone());
    let public = public.ok_or(DtlsError::Crypto)?;
    out.say(
        terms,
        kind::CLIENT_KEY_EXCHANGE,
        message::client_key_exchange(&public),
    );
    terms.agree(peer)?;
    if is_asked {
        out.say_certificate_verify(terms)?;
    }
    out.say_finished(terms, Role::Client)
}
