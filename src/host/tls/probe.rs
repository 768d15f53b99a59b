//! An endpoint as its clients see it: what it shows, and whether they would accept that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};

use super::stream::Bounded;
use super::{LONGEST, Side, TlsError, expect_name, host, shake, starttls, stream};
use crate::host::crypto::{self, CryptoError};
use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use crate::model::policy::StartTls;

/// Whom to ask, and how.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// `host:port`, IPv6 in brackets.
    pub address: &'a str,
    /// Who it should be; None: the host of the address.
    pub name: Option<&'a str>,
    pub starttls: StartTls,
    /// PEM; None: the system's.
    pub ca: Option<&'a [u8]>,
}

/// What it showed.
#[derive(Clone, Debug)]
pub struct Showed {
    pub leaf: CertFacts,
    /// Why a client would not accept it.
    pub refused: Option<String>,
}

#[derive(Debug, Default)]
struct Noted {
    leaf: Option<Vec<u8>>,
    refused: Option<String>,
}

/// One handshake, which is gone through with whatever is shown.
///
/// # Errors
/// [`TlsError`] after at most `limit`, name resolution included.
pub fn look(endpoint: &Endpoint<'_>, limit: Duration) -> Result<Showed, TlsError> {
    let until = Instant::now() + limit.min(LONGEST);
    let address = endpoint.address.to_owned();
    let connect = |source| TlsError::Connect { address: address.clone(), source };
    let failed = |detail: String| TlsError::NoCertificate { address: address.clone(), detail };
    let name = endpoint.name.unwrap_or_else(|| host(endpoint.address));
    let noted = Arc::default();
    let ssl = client(endpoint, name, &noted).map_err(|e| failed(chain(&e)))?;
    let mut socket = Bounded::new(stream::connect(endpoint.address, until).map_err(connect)?, until);
    starttls::ask(&mut socket, endpoint.starttls, name)
        .map_err(|e| failed(if stream::is_timeout(&e) { "no answer in time".into() } else { e.to_string() }))?;
    let shaken = shake(ssl, socket.into_inner(), until, Side::Client);
    let Noted { leaf, refused } = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
    match (leaf, shaken) {
        (Some(der), _) => {
            let leaf = CertFacts::from_der(&der, 1).map_err(|source| TlsError::Malformed { address, source })?;
            Ok(Showed { leaf, refused })
        }
        (None, Err(why)) => Err(failed(why.detail)),
        (None, Ok(())) => Err(failed("the handshake went without one".into())),
    }
}

/// A client that goes on whatever it thinks of the certificate, and writes down what that is.
fn client(endpoint: &Endpoint<'_>, name: &str, noted: &Arc<Mutex<Noted>>) -> Result<Ssl, CryptoError> {
    let setup = |e| CryptoError::openssl("prepare TLS")(e);
    let mut context = SslContext::builder(SslMethod::tls_client()).map_err(setup)?;
    match endpoint.ca {
        Some(ca) => context.set_cert_store(crypto::anchors(ca, None)?),
        None => context.set_default_verify_paths().map_err(setup)?,
    }
    let noted = Arc::clone(noted);
    context.set_verify_callback(SslVerifyMode::PEER, move |accepted, chain| {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        // an error may be told at any depth, and before the leaf is come to
        let first = chain.chain().and_then(|c| c.get(0)).and_then(|c| c.to_der().ok());
        let leaf = || chain.current_cert().filter(|_| chain.error_depth() == 0).and_then(|c| c.to_der().ok());
        if noted.leaf.is_none() {
            noted.leaf = first.or_else(leaf);
        }
        if !accepted {
            noted.refused.get_or_insert_with(|| chain.error().error_string().to_owned());
        }
        true
    });
    let mut ssl = Ssl::new(&context.build()).map_err(setup)?;
    expect_name(&mut ssl, name).map_err(setup)?;
    Ok(ssl)
}

#[cfg(test)]
mod tests;
