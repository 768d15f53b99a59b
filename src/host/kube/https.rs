//! kube's client over a connector of our own. kube's stock connector trusts the system's CAs besides the cluster's,
//! keeps copies of the key that are not zeroed, asks for a passphrase on the terminal when a key is encrypted, and
//! cannot verify IPv6 addresses (kube-client 5.0: `client/tls.rs`, `Config::identity_pem`).

use std::error::Error;
use std::io;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt;
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509VerifyResult;

use super::{Answer, Connection, KubeApi, KubeError, NodeReady, WhoAmI, objects};
use crate::host::crypto::{self, CryptoError};
use crate::host::tls;

/// Answers are cut at this size; the largest wanted one is a Node with its list of images, some 100 KiB.
const MAX_BODY: usize = 1 << 20;

/// Names itself in the audit log of the API server.
const USER_AGENT: &str = concat!("certwarden/", env!("CARGO_PKG_VERSION"));

/// [`KubeApi`] over the network: one connection per request, so that every request proves its credential anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Https;

impl KubeApi for Https {
    fn get(&self, to: &Connection, path: &str) -> Result<Answer, KubeError> {
        exchange(to, Method::GET, path, String::new())
    }

    fn post(&self, to: &Connection, path: &str, json: &str) -> Result<Answer, KubeError> {
        exchange(to, Method::POST, path, json.to_owned())
    }

    fn whoami(&self, to: &Connection) -> Result<WhoAmI, KubeError> {
        objects::whoami(self, to)
    }

    fn node_ready(&self, to: &Connection, node: &str) -> Result<NodeReady, KubeError> {
        objects::node_ready(self, to, node)
    }

    fn lease_renewed(&self, to: &Connection, node: &str) -> Result<Option<Timestamp>, KubeError> {
        objects::lease_renewed(self, to, node)
    }

    fn cluster_configuration(&self, to: &Connection) -> Result<Option<String>, KubeError> {
        objects::cluster_configuration(self, to)
    }
}

fn exchange(to: &Connection, method: Method, path: &str, body: String) -> Result<Answer, KubeError> {
    let setup = |detail: String| KubeError::Setup { server: to.server.clone(), detail };
    let request = request(to, method, path, body)?;
    let connector = connector(to).map_err(|e| setup(tls::with_causes(&e)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| setup(e.to_string()))?;
    let answer = runtime.block_on(async {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        // no retry layer: this stack has only what is put into it
        tokio::time::timeout(to.limit, converse(Client::new(client, "default"), request)).await
    });
    // a name resolution that hangs sits on a thread of the runtime; dropping the runtime would wait for it
    runtime.shutdown_background();
    let unreachable = |detail: String| KubeError::Unreachable { server: to.server.clone(), detail };
    match answer {
        Err(_) => Err(unreachable(format!("no answer within {}", seconds(to.limit)))),
        Ok(Err(e)) => Err(classify(to, &e)),
        Ok(Ok(Answer { status: 401, .. })) => Err(KubeError::Unauthorized { server: to.server.clone() }),
        Ok(Ok(answer)) => Ok(answer),
    }
}

fn seconds(limit: Duration) -> String {
    if limit.subsec_millis() == 0 { format!("{}s", limit.as_secs()) } else { format!("{}ms", limit.as_millis()) }
}

fn request(to: &Connection, method: Method, path: &str, body: String) -> Result<Request<Body>, KubeError> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", to.server.trim_end_matches('/')))
        .header(http::header::USER_AGENT, USER_AGENT)
        .header(http::header::ACCEPT, "application/json, */*")
        .header(http::header::CONNECTION, "close");
    if !body.is_empty() {
        request = request.header(http::header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in &to.headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body.into_bytes()));
    let known = |r: &Request<Body>| matches!(r.uri().scheme_str(), Some("https" | "http")) && r.uri().host().is_some();
    let setup = |detail: String| KubeError::Setup { server: to.server.clone(), detail };
    match request {
        Ok(r) if known(&r) => Ok(r),
        Ok(_) => Err(setup("not an https:// or http:// address".into())),
        Err(e) => Err(setup(e.to_string())),
    }
}

async fn converse(client: Client, request: Request<Body>) -> Result<Answer, kube::Error> {
    let response = client.send(request).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame?.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    bytes.truncate(MAX_BODY);
    Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Trusts the bundle and nothing else; without a bundle trusts everybody (self-signed health ports).
fn connector(to: &Connection) -> Result<HttpsConnector<HttpConnector>, CryptoError> {
    let setup = CryptoError::openssl;
    let mut ssl = SslConnector::builder(SslMethod::tls_client()).map_err(setup("prepare TLS"))?;
    match &to.ca {
        Some(bundle) => ssl.set_cert_store(crypto::anchors(bundle, None)?),
        None => ssl.set_verify(SslVerifyMode::NONE),
    }
    if let Some(identity) = &to.identity {
        tls::use_identity(&mut ssl, identity)?;
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // with several addresses behind a name, each gets its share
    tcp.set_connect_timeout(Some(to.limit));
    let mut https = HttpsConnector::with_connector(tcp, ssl).map_err(setup("prepare TLS"))?;
    https.set_callback(|ssl, uri| {
        ssl.set_use_server_name_indication(false);
        ssl.set_verify_hostname(false);
        tls::expect_name(ssl, uri.host().unwrap_or_default())
    });
    Ok(https)
}

/// TLS alerts by which a server says that it does not accept our certificate, as OpenSSL's reason codes
/// (1000 + alert number, sslerr.h): `handshake_failure`, `bad_certificate` … `certificate_unknown`, `unknown_ca`,
/// `access_denied`, `decrypt_error`, `certificate_required` (RFC 8446 §6.2).
const REFUSED: [i32; 11] = [1040, 1041, 1042, 1043, 1044, 1045, 1046, 1048, 1049, 1051, 1116];

/// Says which of the three it was: nobody there, they refused us, we refused them.
fn classify(to: &Connection, error: &kube::Error) -> KubeError {
    let server = to.server.clone();
    let mut detail = String::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(e) = next {
        detail = e.to_string(); // the innermost cause says most
        if let Some(verdict) = our_verdict(e) {
            return KubeError::Untrusted { server, detail: verdict };
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

/// hyper-openssl's `ConnectError` is private; only its text has what was wrong with the server's certificate.
fn our_verdict(e: &(dyn Error + 'static)) -> Option<String> {
    let ssl = e.source()?.downcast_ref::<openssl::ssl::Error>()?;
    let failed = ssl.ssl_error()?.errors().iter().any(|x| x.reason_code() == CERTIFICATE_VERIFY_FAILED);
    let text = e.to_string();
    let verdict = text.rsplit(": ").next().unwrap_or_default();
    failed.then(|| if verdict.is_empty() { X509VerifyResult::OK.error_string().to_owned() } else { verdict.to_owned() })
}

/// sslerr.h: `SSL_R_CERTIFICATE_VERIFY_FAILED`.
const CERTIFICATE_VERIFY_FAILED: i32 = 134;

fn their_verdict(e: &(dyn Error + 'static)) -> Option<String> {
    let stack = e.downcast_ref::<openssl::ssl::Error>()?.ssl_error()?;
    let alert = stack.errors().iter().find(|x| REFUSED.contains(&x.reason_code()))?;
    Some(alert.reason().unwrap_or("TLS alert").to_owned())
}
