//! Small TLS servers that stand where a component listens.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use openssl::pkey::PKey;
use openssl::ssl::{NameType, SslAcceptor, SslAcceptorBuilder, SslMethod};
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

/// What is served to who asks for `name` by SNI; without a name, to everybody else.
pub struct Served<'a> {
    pub name: Option<&'static str>,
    pub pair: [&'a str; 2],
    pub uptake: Uptake,
}

/// Makes `component` (its container's name) listen on `127.0.0.1` and serve the pair; returns the port. Ends with
/// the test process.
pub fn serve(node: &Node, component: &'static str, pair: [&str; 2], uptake: Uptake) -> u16 {
    serve_by_name(node, component, &[Served { name: None, pair, uptake }])
}

/// One pair as a server holds it.
struct Held {
    name: Option<&'static str>,
    files: [PathBuf; 2],
    uptake: Uptake,
    /// The container that read it.
    by: Option<String>,
    pair: Pair,
}

impl Held {
    fn read(root: &Path, files: &[PathBuf; 2]) -> Option<Pair> {
        // the kubelet's links are absolute, and lead within the tree
        let behind = |path: &PathBuf| match fs::read_link(path) {
            Ok(to) => fs::read(root.join(to.strip_prefix("/").unwrap_or(&to))).ok(),
            Err(_) => fs::read(path).ok(),
        };
        Some((behind(&files[0])?, behind(&files[1])?))
    }

    fn refresh(&mut self, root: &Path, now: &str) {
        let renewed = match self.uptake {
            Uptake::Reload => true,
            Uptake::Restart => self.by.as_deref() != Some(now),
            Uptake::Never => false,
        };
        if renewed && let Some(pair) = Self::read(root, &self.files) {
            (self.by, self.pair) = (Some(now.to_owned()), pair);
        }
    }
}

/// As [`serve`], with a pair for each name.
pub fn serve_by_name(node: &Node, component: &'static str, served: &[Served<'_>]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (fake, root) = (node.fake.clone(), node.dir.path().to_path_buf());
    let hold = |s: &Served<'_>| {
        let files = s.pair.map(|p| node.path(p));
        Held {
            name: s.name,
            uptake: s.uptake,
            by: container(&fake, component),
            pair: Held::read(node.dir.path(), &files).unwrap(),
            files,
        }
    };
    let mut pairs: Vec<Held> = served.iter().map(hold).collect();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // nobody is there: the connection is closed
            let Some(now) = container(&fake, component) else { continue };
            for one in &mut pairs {
                one.refresh(&root, &now);
            }
            let Some(acceptor) = acceptor(&pairs) else { continue };
            let _ = acceptor.accept(socket);
        }
    });
    port
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

/// The process that serves: a container's or the kubelet's.
fn container(fake: &Fake, component: &str) -> Option<String> {
    if component == "kubelet" {
        return fake.world(|w| w.kubelet.is_running().then(|| w.kubelet.invocation_id.clone()));
    }
    fake.world(|w| w.containers.iter().find(|c| c.name == component && c.running).map(|c| c.id.clone()))
}

fn acceptor(held: &[Held]) -> Option<SslAcceptor> {
    let mut others = BTreeMap::new();
    for named in held.iter().filter(|h| h.name.is_some()) {
        others.insert(named.name?, context(&named.pair)?.build().into_context());
    }
    let mut context = context(&held.iter().find(|h| h.name.is_none())?.pair)?;
    context.set_servername_callback(move |ssl, _| {
        if let Some(other) = ssl.servername(NameType::HOST_NAME).and_then(|name| others.get(name)) {
            let _ = ssl.set_ssl_context(other);
        }
        Ok(())
    });
    Some(context.build())
}

fn context((cert, key): &Pair) -> Option<SslAcceptorBuilder> {
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).ok()?;
    context.set_certificate(X509::stack_from_pem(cert).ok()?.first()?).ok()?;
    let key = PKey::private_key_from_pem(key).ok()?;
    context.set_private_key(&key).ok()?;
    context.check_private_key().ok()?;
    Some(context)
}
