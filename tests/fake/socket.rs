//! Small TLS servers that stand where a component listens.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;

use super::Fake;
use super::node::{APISERVER, ETCD, Node};

/// How the component comes to serve a new leaf.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Uptake {
    /// Reads its files at every handshake, as etcd does.
    Reload,
    /// Reads them when its container starts.
    Restart,
    /// Serves its first leaf whatever happens.
    Never,
}

type Pair = (Vec<u8>, Vec<u8>);

/// Makes `component` (its container's name) listen on `127.0.0.1` and serve the pair; returns the port. Ends with
/// the test process.
pub fn serve(node: &Node, component: &'static str, pair: [&str; 2], uptake: Uptake) -> u16 {
    let files: [PathBuf; 2] = pair.map(|p| node.path(p));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let fake = node.fake.clone();
    let read = move || -> Option<Pair> { Some((fs::read(&files[0]).ok()?, fs::read(&files[1]).ok()?)) };
    let mut held = (container(&fake, component), read().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let now = container(&fake, component);
            if now.is_none() {
                continue; // nobody is there: the connection is closed
            }
            let renewed = match uptake {
                Uptake::Reload => true,
                Uptake::Restart => held.0 != now,
                Uptake::Never => false,
            };
            if renewed && let Some(pair) = read() {
                held = (now, pair);
            }
            let Some(acceptor) = acceptor(&held.1) else { continue };
            let _ = acceptor.accept(socket);
        }
    });
    port
}

fn container(fake: &Fake, component: &str) -> Option<String> {
    fake.world(|w| w.containers.iter().find(|c| c.name == component && c.running).map(|c| c.id.clone()))
}

fn acceptor((cert, key): &Pair) -> Option<Arc<SslAcceptor>> {
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).ok()?;
    context.set_certificate(X509::stack_from_pem(cert).ok()?.first()?).ok()?;
    let key = PKey::private_key_from_pem(key).ok()?;
    context.set_private_key(&key).ok()?;
    context.check_private_key().ok()?;
    Some(Arc::new(context.build()))
}

/// A node with real sockets in the place of its API server and etcd.
pub fn with_sockets(mut node: Node, apiserver: Uptake, etcd: Uptake) -> Node {
    let pki = "/etc/kubernetes/pki";
    let pair = |base: &str| [format!("{pki}/{base}.crt"), format!("{pki}/{base}.key")];
    let (a, e) = (pair("apiserver"), pair("etcd/server"));
    let ports = [
        ("kube-apiserver", APISERVER, serve(&node, "kube-apiserver", [&a[0], &a[1]], apiserver)),
        ("etcd", ETCD, serve(&node, "etcd", [&e[0], &e[1]], etcd)),
    ];
    for (component, from, to) in ports {
        let path = node.path(&format!("/etc/kubernetes/manifests/{component}.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace(&format!("secure-port={from}\n"), &format!("secure-port={to}\n")).replace(
            &format!("listen-client-urls=https://127.0.0.1:{from}\n"),
            &format!("listen-client-urls=https://127.0.0.1:{to}\n"),
        );
        fs::write(&path, text).unwrap();
        node.fake.world(|w| w.ports.insert(to, component));
    }
    node.policy.verify.timeout = certwarden::model::policy::Span::secs(40);
    node
}
