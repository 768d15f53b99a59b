//! TLS for the exporter, where a certificate was given to it.

use std::path::Path;
use std::pin::Pin;

use hyper::rt::{Read, Write};
use hyper_openssl::SslStream;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslVersion};

use super::{ExportError, credential};
use crate::host::kube::Identity;
use crate::host::tls::use_identity;
use crate::model::cause::chain;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Makes connections secure.
pub(super) struct Acceptor(SslContext);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// None without a certificate.
    ///
    /// # Errors
    /// One of the two without the other: nobody meant to serve in the clear.
    pub(super) fn load(directory: Option<&Path>) -> Result<Option<Self>, ExportError> {
        let found = (credential(directory, CERTIFICATE)?, credential(directory, KEY)?);
        let unusable = |path: &Path, detail: String| ExportError::Unusable { path: path.to_path_buf(), detail };
        match found {
            (None, None) => Ok(None),
            (Some((path, _)), None) => Err(unusable(&path, format!("there is no `{KEY}` beside it"))),
            (None, Some((path, _))) => Err(unusable(&path, format!("there is no `{CERTIFICATE}` beside it"))),
            (Some((path, cert)), Some((_, key))) => {
                let identity = Identity { cert: cert.to_vec(), key };
                context(&identity).map(|c| Some(Self(c))).map_err(|detail| unusable(&path, detail))
            }
        }
    }

    pub(super) async fn accept<S: Read + Write + Unpin>(
        &self,
        io: S,
    ) -> Result<SslStream<S>, openssl::error::ErrorStack> {
        let mut stream = SslStream::new(Ssl::new(&self.0)?, io)?;
        match Pin::new(&mut stream).accept().await {
            Ok(()) => Ok(stream),
            Err(e) => Err(e.ssl_error().cloned().unwrap_or_else(openssl::error::ErrorStack::get)),
        }
    }
}

fn context(identity: &Identity) -> Result<SslContext, String> {
    let mut context = SslContext::builder(SslMethod::tls_server()).map_err(|e| e.to_string())?;
    use_identity(&mut context, identity).map_err(|e| chain(&e))?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(|e| e.to_string())?;
    // no memory is kept for clients that are gone, and none can be made to hash for us again and again
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(SslOptions::NO_RENEGOTIATION);
    Ok(context.build())
}
