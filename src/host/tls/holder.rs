//! Who answers at an address, by a certificate that it holds the key of.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};

use super::{CLUSTER_LEVEL, LONGEST, Side, TlsError, shake, stream};
use crate::host::crypto::{self, CryptoError};
use crate::model::cause::chain;
use crate::model::cert::CertFacts;

/// The serving certificate of this CA (PEM) by which somebody answers at `address` (`host:port`, IPv6 in brackets). Its names
/// are not looked at: whose it is says its subject.
///
/// # Errors
/// [`TlsError`] after at most `limit`: nobody answers, or with a certificate that is not the CA's, not for serving, not valid
/// now, or without its key.
pub fn holder(address: &str, ca: &[u8], limit: Duration) -> Result<CertFacts, TlsError> {
    let until = Instant::now() + limit.min(LONGEST);
    let failed = |detail: String| TlsError::NoCertificate { address: address.to_owned(), detail };
    let seen = Arc::default();
    let ssl = client(ca, &seen).map_err(|e| failed(chain(&e)))?;
    let socket =
        stream::connect(address, until).map_err(|source| TlsError::Connect { address: address.to_owned(), source })?;
    // only a handshake that is gone through proves the key (RFC 8446 §4.4.3)
    shake(ssl, socket, until, Side::Client).map_err(|why| failed(why.detail))?;
    let der = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let der = der.ok_or_else(|| failed("the handshake went without one".to_owned()))?;
    CertFacts::from_der(&der, 1).map_err(|source| TlsError::Malformed { address: address.to_owned(), source })
}

/// A client that accepts what the CA has issued for serving, and writes down what that was.
fn client(ca: &[u8], seen: &Arc<Mutex<Option<Vec<u8>>>>) -> Result<Ssl, CryptoError> {
    let setup = |e| CryptoError::openssl("prepare TLS")(e);
    let mut context = SslContext::builder(SslMethod::tls_client()).map_err(setup)?;
    context.set_security_level(CLUSTER_LEVEL);
    context.set_cert_store(crypto::anchors(ca, None)?);
    let seen = Arc::clone(seen);
    context.set_verify_callback(SslVerifyMode::PEER, move |accepted, chain| {
        if chain.error_depth() == 0 {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = chain.current_cert().and_then(|c| c.to_der().ok());
        }
        accepted
    });
    Ssl::new(&context.build()).map_err(setup)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use openssl::ssl::SslAcceptor;

    use super::*;
    use crate::host::crypto::testing::{Ca, Leaf};
    use crate::host::kube::Identity;
    use crate::host::tls::use_identity;

    fn serve(pair: &Identity) -> String {
        let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        use_identity(&mut context, pair).unwrap();
        let context = context.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || drop(context.accept(listener.accept().unwrap().0)));
        address
    }

    #[test]
    fn who_answers_is_told_by_what_the_cluster_issued_for_serving_and_by_nothing_else() {
        let ca = Ca::new("kubernetes");
        let who = |pair: &Identity| holder(&serve(pair), &ca.cert, Duration::from_secs(20));
        let own = Leaf { organizations: vec!["system:nodes".into()], ..Leaf::server("system:node:n1", &["DNS:other"]) };
        let shown = who(&ca.issue(&own)).unwrap();
        assert_eq!(shown.common_name.as_deref(), Some("system:node:n1"));
        let not = [
            ("another CA's", Ca::new("kubernetes").issue(&Leaf::server("system:node:n1", &["DNS:n1"]))),
            ("a client's", ca.issue(&Leaf::client("system:node:n1", &["system:nodes"]))),
            ("an expired one", ca.issue(&Leaf { days: (-10, -1), ..Leaf::server("system:node:n1", &["DNS:n1"]) })),
        ];
        for (what, pair) in not {
            assert!(who(&pair).is_err(), "{what}");
        }
        assert!(matches!(holder("127.0.0.1:1", &ca.cert, Duration::from_secs(1)), Err(TlsError::Connect { .. })));
    }
}
