//! hyper's client over a connector of our own: it trusts the cluster's CA and nothing else, zeroes its copies of the key, never
//! asks for a passphrase, and verifies IPv6 addresses (openssl 0.10: `SslConnector::builder` trusts the system's CAs and parses
//! their bundle for every connection, 50 ms).

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_openssl::SslStream;
use hyper_openssl::client::legacy::MaybeHttpsStream;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslMode, SslVerifyMode, SslVersion};
use openssl::x509::X509VerifyResult;
use tower_service::Service;

use super::{Answer, Connection, KubeApi, KubeError, NodeLease, NodeReady, WhoAmI, objects};
use crate::host::crypto::{self, CryptoError};
use crate::host::tls;
use crate::model::cause::chain;

/// Answers are cut at this size; the largest wanted one is a Node with its list of images, some 100 KiB.
const MAX_BODY: usize = 1 << 20;

/// Names itself in the audit log of the API server.
const USER_AGENT: &str = concat!("certwarden/", env!("CARGO_PKG_VERSION"));

/// [`KubeApi`] over the network: one connection per request, so that every request proves its credential anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Https;

impl KubeApi for Https {
    fn get(&self, to: &Connection, path: &str) -> Result<Answer, KubeError> {
        exchange(to, Method::GET, path, JSON, String::new())
    }

    fn post(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError> {
        exchange(to, Method::POST, path, JSON, json.to_owned())
    }

    fn patch(&self, to: &Connection, path: &str, kind: &str, json: &str) -> Result<Answer, KubeError> {
        exchange(to, Method::PATCH, path, kind, json.to_owned())
    }

    fn date(&self, to: &Connection) -> Option<Timestamp> {
        let (answer, date) = converse_once(to, request(to, Method::GET, "/version", JSON, String::new()).ok()?).ok()?;
        // an error of a proxy in between would have that one's date
        (answer.status < 500).then_some(date)?
    }

    fn put(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError> {
        exchange(to, Method::PUT, path, JSON, json.to_owned())
    }

    fn whoami(&self, to: &Connection) -> Result<WhoAmI, KubeError> {
        objects::whoami(self, to)
    }

    fn node_ready(&self, to: &Connection, node: &str) -> Result<NodeReady, KubeError> {
        objects::node_ready(self, to, node)
    }

    fn node_lease(&self, to: &Connection, node: &str) -> Result<NodeLease, KubeError> {
        objects::node_lease(self, to, node)
    }

    fn cluster_configuration(&self, to: &Connection) -> Result<Option<String>, KubeError> {
        objects::cluster_configuration(self, to)
    }
}

const JSON: &str = "application/json";

const IN_CLEAR: &str = "it is an http:// address: a credential would be readable on the way, and anybody could answer; \
    make the server https:// in the kubeconfig";

fn exchange(to: &Connection, method: Method, path: &str, kind: &str, body: String) -> Result<Answer, KubeError> {
    match converse_once(to, request(to, method, path, kind, body)?)? {
        (Answer { status: 401, .. }, _) => Err(KubeError::Unauthorized { server: to.server.clone() }),
        (answer, _) => Ok(answer),
    }
}

/// An answer of any status, and the time that the server says it is.
fn converse_once(to: &Connection, request: Request<Full<Bytes>>) -> Result<(Answer, Option<Timestamp>), KubeError> {
    let setup = |detail: String| KubeError::Setup { server: to.server.clone(), detail };
    let connector = connector(to).map_err(|e| setup(chain(&e)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| setup(e.to_string()))?;
    let answer =
        runtime.block_on(async { tokio::time::timeout(to.limit, converse(&client(connector, None), request)).await });
    // a name resolution that hangs sits on a thread of the runtime; dropping the runtime would wait for it
    runtime.shutdown_background();
    let unreachable = |detail: String| KubeError::Unreachable { server: to.server.clone(), detail };
    match answer {
        Err(_) => Err(unreachable(format!("no answer within {}", seconds(to.limit)))),
        Ok(Err(e)) => Err(classify(to, e.as_ref())),
        Ok(Ok(answer)) => Ok(answer),
    }
}

/// A client of one connection. `buffer`: the most bytes that are read at once; None: as hyper has it.
pub(super) fn client(connector: Connector, buffer: Option<usize>) -> Client<Connector, Full<Bytes>> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_max_idle_per_host(0).retry_canceled_requests(false);
    if let Some(bytes) = buffer {
        builder.http1_max_buf_size(bytes);
    }
    builder.build(connector)
}

fn seconds(limit: Duration) -> String {
    if limit.subsec_millis() == 0 { format!("{}s", limit.as_secs()) } else { format!("{}ms", limit.as_millis()) }
}

pub(super) fn request(
    to: &Connection,
    method: Method,
    path: &str,
    kind: &str,
    body: String,
) -> Result<Request<Full<Bytes>>, KubeError> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", to.server.trim_end_matches('/')))
        .header(http::header::USER_AGENT, USER_AGENT)
        .header(http::header::CONNECTION, "close");
    if !to.headers.iter().any(|(name, _)| name == "accept") {
        request = request.header(http::header::ACCEPT, "application/json, */*");
    }
    if !body.is_empty() {
        request = request.header(http::header::CONTENT_TYPE, kind);
    }
    for (name, value) in &to.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::from(body.into_bytes()));
    let known =
        |r: &Request<Full<Bytes>>| matches!(r.uri().scheme_str(), Some("https" | "http")) && r.uri().host().is_some();
    let setup = |detail: String| KubeError::Setup { server: to.server.clone(), detail };
    // health ports are asked by nobody in particular; whoever is somebody would show that to all who are on the way
    let secret = to.identity.is_some() || !to.headers.is_empty();
    let in_clear = |r: &Request<Full<Bytes>>| r.uri().scheme() == Some(&Scheme::HTTP);
    match request {
        Ok(r) if known(&r) && secret && in_clear(&r) => Err(setup(IN_CLEAR.into())),
        Ok(r) if known(&r) => Ok(r),
        Ok(_) => Err(setup("not an https:// or http:// address".into())),
        Err(e) => Err(setup(e.to_string())),
    }
}

async fn converse(
    client: &Client<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(Answer, Option<Timestamp>), BoxError> {
    let response = client.request(request).await?;
    let status = response.status().as_u16();
    let date =
        response.headers().get(http::header::DATE).and_then(|d| jiff::fmt::rfc2822::parse(d.to_str().ok()?).ok());
    let date = date.map(|d| d.timestamp());
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame?.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    bytes.truncate(MAX_BODY);
    Ok((Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() }, date))
}

/// Trusts the bundle and nothing else; without a bundle trusts everybody (self-signed health ports).
pub(super) fn connector(to: &Connection) -> Result<Connector, CryptoError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false); // it is also given https:// addresses
    tcp.set_nodelay(true);
    Ok(Connector { tcp, tls: context(to).map_err(|e| e.0)? })
}

struct Failed(CryptoError);

impl From<ErrorStack> for Failed {
    fn from(e: ErrorStack) -> Self {
        Self(CryptoError::openssl("prepare TLS")(e))
    }
}

impl From<CryptoError> for Failed {
    fn from(e: CryptoError) -> Self {
        Self(e)
    }
}

fn context(to: &Connection) -> Result<SslContext, Failed> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?; // as Go's clients
    context.set_security_level(tls::CLUSTER_LEVEL);
    // an interrupted write is repeated from another buffer (SSL_CTX_set_mode(3))
    context.set_mode(SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::AUTO_RETRY);
    if let Some(bundle) = &to.ca {
        context.set_cert_store(crypto::anchors(bundle, None)?);
        context.set_verify(SslVerifyMode::PEER);
    } else {
        context.set_verify(SslVerifyMode::NONE);
    }
    if let Some(identity) = &to.identity {
        tls::use_identity(&mut context, identity)?;
    }
    Ok(context.build())
}

/// TCP, and TLS on top for `https`.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: SslContext,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<<HttpConnector as Service<Uri>>::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connect, tls) = (self.tcp.call(uri.clone()), self.tls.clone());
        Box::pin(async move {
            let socket = connect.await?;
            if uri.scheme() != Some(&Scheme::HTTPS) {
                return Ok(MaybeHttpsStream::Http(socket));
            }
            let mut ssl = Ssl::new(&tls)?;
            tls::expect_name(&mut ssl, uri.host().unwrap_or_default())?;
            let mut stream = SslStream::new(ssl, socket)?;
            match Pin::new(&mut stream).connect().await {
                Ok(()) => Ok(MaybeHttpsStream::Https(stream)),
                Err(error) => match stream.ssl().verify_result() {
                    X509VerifyResult::OK => Err(error.into()),
                    verdict => Err(ServerRefused(verdict.error_string()).into()),
                },
            }
        })
    }
}

/// We do not accept the server's certificate.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ServerRefused(&'static str);

/// TLS alerts by which a server says that it does not accept our certificate, as OpenSSL's reason codes
/// (1000 + alert number, sslerr.h): `handshake_failure`, `bad_certificate` … `certificate_unknown`, `unknown_ca`,
/// `access_denied`, `decrypt_error`, `certificate_required` (RFC 8446 §6.2).
const REFUSED: [i32; 11] = [1040, 1041, 1042, 1043, 1044, 1045, 1046, 1048, 1049, 1051, 1116];

/// Says which of the three it was: nobody there, they refused us, we refused them.
pub(super) fn classify(to: &Connection, error: &(dyn Error + 'static)) -> KubeError {
    let server = to.server.clone();
    let mut detail = String::new();
    let mut next = Some(error);
    while let Some(e) = next {
        detail = e.to_string(); // the innermost cause says most
        if e.is::<ServerRefused>() {
            return KubeError::Untrusted { server, detail };
        }
        if let Some(alert) = their_verdict(e) {
            return KubeError::Tls { server, detail: alert };
        }
        // io::Error::source() skips the very error that it wraps
        let wrapped = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|w| w as &(dyn Error + 'static)).or_else(|| e.source());
    }
    KubeError::Unreachable { server, detail }
}

fn their_verdict(e: &(dyn Error + 'static)) -> Option<String> {
    let stack = e.downcast_ref::<openssl::ssl::Error>()?.ssl_error()?;
    let alert = stack.errors().iter().find(|x| REFUSED.contains(&x.reason_code()))?;
    Some(alert.reason().unwrap_or("TLS alert").to_owned())
}
