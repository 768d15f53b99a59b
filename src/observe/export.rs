//! `certwarden export`: the metrics over HTTP, by a process that has no privileges and reads nothing else.
//!
//! The socket is systemd's (`certwarden-export.socket`), which hands it over as standard input, so that this process needs
//! neither a capability nor a network of its own. What others may do to it is bounded: connections, their life, the size of
//! a request, how long an answer may lie unread. A certificate to serve with, the CA of clients and the names of who may ask come by
//! `LoadCredential=`; nothing else is configured.

mod access;
mod denied;
mod paced;
mod snapshot;
mod tls;

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::host::fs::Root;
use access::Access;
use denied::Denied;
use paced::Paced;
use snapshot::Snapshot;
use tls::{Acceptor, NotAccepted};

/// Two Prometheus, a proxy and a person are some five.
const MOST_CONNECTIONS: usize = 64;
/// For the TLS handshake, and for the head of each request, the wait for it included.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this a connection ends with the answer under way; Prometheus makes a new one.
const LIFE: Duration = Duration::from_secs(60);
/// And after this at once: who takes its answer so slowly would keep the place from others.
const LAST_ANSWER: Duration = Duration::from_secs(15);
/// Who takes nothing of its answer for so long gets no more of it.
const UNREAD: Duration = Duration::from_secs(10);
/// A wrong password is answered after this: whoever guesses has some sixty guesses a second, on all connections together.
const GUESS: Duration = Duration::from_secs(1);
/// Head of a request, in bytes. Prometheus' is some 300.
const LARGEST_HEAD: usize = 16 << 10;
/// Descriptors can run out for reasons that are not ours.
const PAUSE: Duration = Duration::from_millis(100);
const LANDING: &str = "<!doctype html><title>certwarden</title><h1>certwarden</h1>\
    <p><a href=\"/metrics\">metrics</a> · <a href=\"/healthz\">healthz</a></p>\n";

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(
        "standard input is no listening socket; start it by `systemctl enable --now certwarden-export.socket`, or by hand \
         with --listen 127.0.0.1:9794"
    )]
    NoSocket,
    #[error("listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("wait for connections")]
    Runtime(#[source] std::io::Error),
    #[error("read the credential {}", path.display())]
    Credential {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the credential {} cannot be used: {detail}", path.display())]
    Unusable { path: PathBuf, detail: String },
}

/// What is served, and to whom.
#[derive(Debug)]
pub struct Options {
    /// None: standard input is the socket.
    pub listen: Option<String>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
    /// Without a connection for so long it ends, and the next one starts it again; None: it stays.
    pub idle: Option<Duration>,
}

struct Server {
    snapshot: Snapshot,
    access: Access,
    tls: Option<Acceptor>,
    denied: Denied,
}

/// Serves until nobody has asked for `options.idle`. `ready` is told the address that is listened on.
///
/// # Errors
/// [`ExportError`].
pub fn serve(root: Root, options: &Options, ready: impl FnOnce(&str)) -> Result<(), ExportError> {
    let socket = match &options.listen {
        Some(address) => StdListener::bind(address.as_str())
            .map_err(|source| ExportError::Listen { address: address.clone(), source })?,
        None => inherited()?,
    };
    let credentials = options.credentials.as_deref();
    let server = Arc::new(Server {
        snapshot: Snapshot::new(root),
        access: Access::load(credentials)?,
        tls: Acceptor::load(credentials)?,
        denied: Denied::default(),
    });
    ready(&socket.local_addr().map(|a| a.to_string()).unwrap_or_default());
    // one thread: what is served is in memory
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExportError::Runtime)?;
    runtime.block_on(accept(socket, server, options.idle))
}

/// A descriptor of another number could be made a socket by `unsafe` only; hence `StandardInput=socket`.
fn inherited() -> Result<StdListener, ExportError> {
    let fd = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| ExportError::NoSocket)?;
    let socket = StdListener::from(fd);
    // a terminal or a file has no address
    socket.local_addr().map_err(|_| ExportError::NoSocket)?;
    Ok(socket)
}

async fn accept(socket: StdListener, server: Arc<Server>, idle: Option<Duration>) -> Result<(), ExportError> {
    socket.set_nonblocking(true).map_err(ExportError::Runtime)?;
    let listener = TcpListener::from_std(socket).map_err(ExportError::Runtime)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // who comes when all places are taken waits in the kernel's queue
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let next = listener.accept();
        let accepted = match idle {
            None => next.await,
            Some(limit) => match timeout(limit, next).await {
                Ok(accepted) => accepted,
                // this place is ours: nobody is connected
                Err(_) if places.available_permits() + 1 == MOST_CONNECTIONS => return Ok(()),
                Err(_) => continue,
            },
        };
        match accepted {
            Ok((stream, from)) => {
                drop(tokio::spawn(connection(stream, from.ip().to_canonical(), Arc::clone(&server), place)));
            }
            Err(e) => {
                tracing::debug!("a connection could not be accepted: {e}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, from handshake to end, within its life.
async fn connection(stream: TcpStream, from: IpAddr, server: Arc<Server>, place: OwnedSemaphorePermit) {
    let io = Paced::new(TokioIo::new(stream), UNREAD);
    let whole = async {
        match &server.tls {
            None => http(io, from, &server).await,
            Some(tls) => match timeout(PATIENCE, tls.accept(io)).await {
                Ok(Ok(secured)) => http(secured, from, &server).await,
                Ok(Err(NotAccepted { uncertified: true })) => server.denied.certificate(from),
                Ok(Err(_)) | Err(_) => {}
            },
        }
    };
    let _ = timeout(LIFE + LAST_ANSWER, whole).await; // over is over
    drop(place);
}

async fn http<S: Read + Write + Unpin>(io: S, from: IpAddr, server: &Arc<Server>) {
    let service = service_fn(move |request| {
        let answer = answer(server, &request);
        async move {
            if answer.status() == StatusCode::UNAUTHORIZED {
                server.denied.password(from);
                sleep(GUESS).await;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LARGEST_HEAD);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // whatever ended it is the client's business
        _ = connection.as_mut() => {}
        () = sleep(LIFE) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

fn answer(server: &Server, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri().path();
    // health says nothing that is worth a password
    if path != "/healthz" && !server.access.allows(request.headers().get(AUTHORIZATION)) {
        let mut refused = plain(StatusCode::UNAUTHORIZED, TEXT, "name and password are needed\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"certwarden\""));
        refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return refused;
    }
    match path {
        // prometheus: docs/instrumenting/exposition_formats.md
        "/metrics" => match server.snapshot.current() {
            Ok(text) => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
        },
        "/healthz" => match server.snapshot.current() {
            Ok(_) => plain(StatusCode::OK, TEXT, "ok\n"),
            // the reason names paths: not for those without a password
            Err(_) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "there are no metrics; does certwarden.service run?\n")
            }
        },
        "/" => plain(StatusCode::OK, "text/html; charset=utf-8", LANDING),
        _ => plain(StatusCode::NOT_FOUND, TEXT, "there is /metrics and /healthz\n"),
    }
}

fn plain(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, kind, text.into())
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A file of a credential and what is in it.
type Credential = (PathBuf, Zeroizing<Vec<u8>>);

/// A credential, if there is one of that name. At most 256 KiB.
fn credential(directory: Option<&Path>, name: &str) -> Result<Option<Credential>, ExportError> {
    use std::io::Read as _;
    const LARGEST: u64 = 256 << 10;
    let Some(path) = directory.map(|d| d.join(name)) else { return Ok(None) };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ExportError::Credential { path, source }),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    match file.take(LARGEST).read_to_end(&mut bytes) {
        Ok(_) => Ok(Some((path, bytes))),
        Err(source) => Err(ExportError::Credential { path, source }),
    }
}
