//! TLS for the exporter, where a certificate was given to it.

use std::path::Path;
use std::pin::Pin;

use hyper::rt::{Read, Write};
use hyper_openssl::SslStream;
use openssl::error::ErrorStack;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::{ExportError, credential};
use crate::host::kube::Identity;
use crate::host::tls::use_identity;
use crate::model::cause::chain;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Who asks must show a certificate of one of these CAs.
const CLIENT_CA: &str = "client-ca.crt";

/// Makes connections secure.
pub(super) struct Acceptor {
    context: SslContext,
    /// Clients have to have a certificate.
    certified: bool,
}

/// A handshake that failed.
pub(super) struct NotAccepted {
    /// For want of a client certificate that is accepted.
    pub(super) uncertified: bool,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("certified", &self.certified).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// None without a certificate.
    ///
    /// # Errors
    /// One of the two without the other, or a CA of clients without both: nobody meant to serve in the clear, or to whoever asks.
    pub(super) fn load(directory: Option<&Path>) -> Result<Option<Self>, ExportError> {
        let found = (credential(directory, CERTIFICATE)?, credential(directory, KEY)?);
        let clients = credential(directory, CLIENT_CA)?;
        let unusable = |path: &Path, detail: String| ExportError::Unusable { path: path.to_path_buf(), detail };
        match found {
            (None, None) => match clients {
                None => Ok(None),
                Some((path, _)) => Err(unusable(&path, format!("there are no `{CERTIFICATE}` and `{KEY}` beside it"))),
            },
            (Some((path, _)), None) => Err(unusable(&path, format!("there is no `{KEY}` beside it"))),
            (None, Some((path, _))) => Err(unusable(&path, format!("there is no `{CERTIFICATE}` beside it"))),
            (Some((path, cert)), Some((_, key))) => {
                let identity = Identity { cert: cert.to_vec(), key };
                let mut context = context(&identity).map_err(|detail| unusable(&path, detail))?;
                if let Some((path, pem)) = &clients {
                    demand(&mut context, pem).map_err(|detail| unusable(path, detail))?;
                }
                Ok(Some(Self { context: context.build(), certified: clients.is_some() }))
            }
        }
    }

    pub(super) async fn accept<S: Read + Write + Unpin>(&self, io: S) -> Result<SslStream<S>, NotAccepted> {
        let unmade = |_| NotAccepted { uncertified: false };
        let mut stream = SslStream::new(Ssl::new(&self.context).map_err(unmade)?, io).map_err(unmade)?;
        match Pin::new(&mut stream).accept().await {
            Ok(()) => Ok(stream),
            // a connection that is cut, or bytes that are no TLS, are no try to get in
            Err(e) => {
                Err(NotAccepted { uncertified: self.certified && e.ssl_error().is_some_and(is_about_a_certificate) })
            }
        }
    }
}

/// OpenSSL: `include/openssl/sslerr.h`.
fn is_about_a_certificate(errors: &ErrorStack) -> bool {
    const VERIFY_FAILED: i32 = 134;
    const NONE_SHOWN: i32 = 199;
    errors.errors().iter().any(|e| [VERIFY_FAILED, NONE_SHOWN].contains(&e.reason_code()))
}

/// Only clients with a certificate of one of these CAs are served.
fn demand(context: &mut SslContextBuilder, pem: &[u8]) -> Result<(), String> {
    let cas = X509::stack_from_pem(pem).map_err(|e| e.to_string())?;
    if cas.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let mut store = X509StoreBuilder::new().map_err(|e| e.to_string())?;
    for ca in cas {
        context.add_client_ca(&ca).map_err(|e| e.to_string())?; // told to clients, who choose by it
        store.add_cert(ca).map_err(|e| e.to_string())?;
    }
    context.set_cert_store(store.build());
    context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    Ok(())
}

fn context(identity: &Identity) -> Result<SslContextBuilder, String> {
    let mut context = SslContext::builder(SslMethod::tls_server()).map_err(|e| e.to_string())?;
    use_identity(&mut context, identity).map_err(|e| chain(&e))?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(|e| e.to_string())?;
    // no memory is kept for clients that are gone, and none can be made to hash for us again and again
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET);
    // whoever comes again shows its certificate again
    context.set_num_tickets(0).map_err(|e| e.to_string())?;
    Ok(context)
}
