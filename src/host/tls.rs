//! TLS as seen on the wire: which leaf a socket serves, and whether a pair would serve its clients.

pub mod holder;
pub mod probe;
mod starttls;
mod stream;

use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslContextBuilder, SslMethod, SslRef, SslSessionCacheMode, SslVerifyMode,
};
use openssl::x509::X509VerifyResult;
use openssl::x509::verify::X509CheckFlags;

use crate::host::crypto::{self, CryptoError};
use crate::host::kube::Identity;
use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use stream::Bounded;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{address} did not show a certificate: {detail}")]
    NoCertificate { address: String, detail: String },
    #[error("{address} showed a certificate that does not parse")]
    Malformed {
        address: String,
        #[source]
        source: crate::model::cert::CertError,
    },
    #[error("the pair cannot serve: {detail}")]
    Pair { detail: String },
    #[error("a client that dials {name} would refuse it: {detail}")]
    Refused { name: String, detail: String },
}

/// No wait for a socket is longer, whatever the caller says.
const LONGEST: Duration = Duration::from_secs(600);
/// For a handshake in memory: only computing, so this is met by a machine that barely moves.
const IN_MEMORY: Duration = Duration::from_secs(20);

/// The leaf that `address` (`host:port`, IPv6 in brackets) shows to who asks for `name` (SNI), or for the host name of the
/// address, unverified. It is returned also when the handshake
/// fails afterwards, as with etcd, which demands a client certificate.
///
/// # Errors
/// [`TlsError::Connect`], [`TlsError::NoCertificate`] after at most `limit`, name resolution included.
pub fn served_leaf(
    address: &str,
    name: Option<&str>,
    identity: Option<&Identity>,
    limit: Duration,
) -> Result<CertFacts, TlsError> {
    let until = Instant::now() + limit.min(LONGEST);
    let socket =
        stream::connect(address, until).map_err(|source| TlsError::Connect { address: address.to_owned(), source })?;
    let failed = |detail: String| TlsError::NoCertificate { address: address.to_owned(), detail };
    let seen: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let ssl = looking_client(name.unwrap_or_else(|| host(address)), identity, &seen).map_err(|e| failed(chain(&e)))?;
    let shaken = shake(ssl, socket, until, Side::Client);
    let der = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match (der, shaken) {
        (Some(der), _) => {
            CertFacts::from_der(&der, 1).map_err(|source| TlsError::Malformed { address: address.to_owned(), source })
        }
        (None, Err(why)) => Err(failed(why.detail)),
        (None, Ok(())) => Err(failed("the handshake went without one".into())),
    }
}

/// OpenSSL's level (SSL_CTX_set_security_level(3)) for the cluster's own TLS: RSA from 1024 bits, no SHA-1, as Go's clients
/// and servers accept (go: `crypto/tls`, `crypto/x509`). Stated, because the system's may be higher
/// (`DEFAULT@SECLEVEL=3` refuses RSA-2048, which kubeadm makes): a policy for others must not end every renewal.
pub const CLUSTER_LEVEL: u32 = 1;

/// A client that accepts everything and writes down the leaf as soon as it is shown.
fn looking_client(
    name: &str,
    identity: Option<&Identity>,
    seen: &Arc<Mutex<Option<Vec<u8>>>>,
) -> Result<Ssl, CryptoError> {
    let setup = |e| CryptoError::openssl("prepare TLS")(e);
    let mut context = SslContext::builder(SslMethod::tls_client()).map_err(setup)?;
    // looking is not trusting: weak keys and digests are to be seen too
    context.set_security_level(0);
    if let Some(identity) = identity {
        use_identity(&mut context, identity)?;
    }
    let seen = Arc::clone(seen);
    context.set_verify_callback(SslVerifyMode::PEER, move |_, chain| {
        if chain.error_depth() == 0
            && let Some(der) = chain.current_cert().and_then(|c| c.to_der().ok())
        {
            *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(der);
        }
        true
    });
    let mut ssl = Ssl::new(&context.build()).map_err(setup)?;
    if !name.starts_with('[') && name.parse::<IpAddr>().is_err() {
        ssl.set_hostname(name).map_err(setup)?;
    }
    Ok(ssl)
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// Certificate chain and key of `identity` for either side of TLS.
///
/// # Errors
/// [`CryptoError`] if they cannot be read or do not belong together.
pub(crate) fn use_identity(context: &mut SslContextBuilder, identity: &Identity) -> Result<(), CryptoError> {
    let chain = crypto::certificates(&identity.cert)?;
    let key = crypto::private_key(&identity.key)?;
    let [leaf, above @ ..] = chain.as_slice() else { return Err(CryptoError::NoCertificate) };
    let mut set = || -> Result<(), ErrorStack> {
        context.set_certificate(leaf)?;
        for cert in above {
            context.add_extra_chain_cert(cert.clone())?;
        }
        context.set_private_key(&key)?; // fails when it is another certificate's
        context.check_private_key()
    };
    set().map_err(CryptoError::openssl("use the key with the certificate"))
}

/// Who the peer must be: its name is checked against the subject alternative names only, as Go does
/// (crypto/x509: `Certificate.VerifyHostname`). A DNS name is also asked for by SNI.
///
/// # Errors
/// If OpenSSL refuses the name.
pub(crate) fn expect_name(ssl: &mut SslRef, name: &str) -> Result<(), ErrorStack> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let ip = bare.parse::<IpAddr>();
    if ip.is_err() {
        ssl.set_hostname(bare)?;
    }
    let param = ssl.param_mut();
    param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT);
    match ip {
        Ok(ip) => param.set_ip(ip),
        Err(_) => param.set_host(bare),
    }
}

/// A real TLS handshake in memory: a server with `pair`, a client that dials `name` (DNS name or IP address) and
/// trusts only `ca_bundle` (PEM), at the time `at`.
///
/// # Errors
/// [`TlsError::Pair`] if no server could start with the pair, [`TlsError::Refused`] if the client says no.
pub fn handshake(pair: &Identity, ca_bundle: &[u8], name: &str, at: Timestamp) -> Result<(), TlsError> {
    let pair_error = |detail: String| TlsError::Pair { detail };
    let refused = |detail: String| TlsError::Refused { name: name.to_owned(), detail };
    let server = serving_side(pair).map_err(|e| pair_error(chain(&e)))?;
    let client = trusting_side(ca_bundle, name, at).map_err(|e| refused(chain(&e)))?;
    let (ours, theirs) = UnixStream::pair().map_err(|e| pair_error(e.to_string()))?;
    let until = Instant::now() + IN_MEMORY;
    let (offered, accepted) = std::thread::scope(|scope| {
        let server = scope.spawn(move || shake(server, theirs, until, Side::Server));
        let accepted = shake(client, ours, until, Side::Client);
        (server.join(), accepted)
    });
    // the client's reason first: the server only sees that the other side went away
    accepted.map_err(|why| refused(why.detail))?;
    match offered {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(pair_error(why.detail)),
        Err(_) => Err(pair_error("the serving side crashed".into())),
    }
}

fn serving_side(pair: &Identity) -> Result<Ssl, CryptoError> {
    let setup = |e| CryptoError::openssl("prepare TLS")(e);
    let mut context = SslContext::builder(SslMethod::tls_server()).map_err(setup)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_security_level(CLUSTER_LEVEL);
    use_identity(&mut context, pair)?;
    Ssl::new(&context.build()).map_err(setup)
}

fn trusting_side(ca_bundle: &[u8], name: &str, at: Timestamp) -> Result<Ssl, CryptoError> {
    let setup = |e| CryptoError::openssl("prepare TLS")(e);
    let mut context = SslContext::builder(SslMethod::tls_client()).map_err(setup)?;
    context.set_security_level(CLUSTER_LEVEL);
    context.set_cert_store(crypto::anchors(ca_bundle, None)?);
    context.set_verify(SslVerifyMode::PEER);
    let mut ssl = Ssl::new(&context.build()).map_err(setup)?;
    expect_name(&mut ssl, name).map_err(setup)?;
    ssl.param_mut().set_time(at.as_second());
    Ok(ssl)
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

struct Unshaken {
    detail: String,
}

/// The handshake, over at `until` at the latest.
fn shake<S: stream::Timed>(ssl: Ssl, socket: S, until: Instant, side: Side) -> Result<(), Unshaken> {
    let bounded = Bounded::new(socket, until);
    let result = match side {
        Side::Client => ssl.connect(bounded),
        Side::Server => ssl.accept(bounded),
    };
    let detail = match result {
        Ok(_) => return Ok(()),
        Err(HandshakeError::SetupFailure(e)) => e.to_string(),
        Err(HandshakeError::Failure(s) | HandshakeError::WouldBlock(s)) => {
            match (s.ssl().verify_result(), s.error().io_error()) {
                (verdict, _) if verdict != X509VerifyResult::OK => verdict.error_string().to_owned(),
                (_, Some(e)) if stream::is_timeout(e) => "no answer in time".to_owned(),
                _ => s.error().to_string(),
            }
        }
    };
    Err(Unshaken { detail })
}

impl stream::Timed for TcpStream {
    fn limit(&self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl stream::Timed for UnixStream {
    fn limit(&self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

#[cfg(test)]
mod tests;
