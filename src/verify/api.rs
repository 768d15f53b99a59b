//! Ways to ask the API server about this node.

use std::path::Path;
use std::time::Duration;

use crate::host::Host;
use crate::host::fs::MAX_FILE;
use crate::host::kube::{Connection, Identity};
use crate::model::cause::chain;
use crate::model::inventory::{Content, Form, Inventory};
use crate::model::kubeconfig;
use crate::model::repair::CLIENT;
use crate::model::wiring;

use super::REQUEST;
use super::material::material;

/// The credentials on this node that may read its Node object, the best first: the administrator's, then the kubelet's own.
pub fn connections(host: &Host, inventory: &Inventory) -> Vec<Connection> {
    ["admin.conf", CLIENT].iter().filter_map(|name| connection(host, inventory, name)).collect()
}

/// The administrator's alone: the kubelet's may touch no Lease but its own (kubernetes: `noderestriction/admission.go:admitLease`).
pub fn administrators(host: &Host, inventory: &Inventory) -> Option<Connection> {
    connection(host, inventory, "admin.conf")
}

/// The best of them that answers for the node now; if none does, the best of all.
pub fn answering(host: &Host, inventory: &Inventory, node: &str) -> Option<Connection> {
    let mut all = connections(host, inventory);
    let answers = all.iter().position(|to| host.kube.node_ready(to, node).is_ok()).unwrap_or(0);
    (answers < all.len()).then(|| all.swap_remove(answers))
}

/// The kubelet's own, whatever it has become meanwhile: what was broken may have been repaired.
pub fn kubelets(host: &Host, inventory: &Inventory) -> Option<Connection> {
    connection(host, inventory, CLIENT)
}

fn connection(host: &Host, inventory: &Inventory, name: &str) -> Option<Connection> {
    let entry = inventory.get(name)?;
    let read = |form: &Form| material(form, &|path| host.root.read_secret(path)).ok();
    let disk = &inventory.node.kubelet.identity;
    let behind_link = || read(&Form::Combined { path: disk.current.clone() }).filter(|_| name == CLIENT);
    let found = Some(&entry.form).filter(|_| matches!(entry.content, Content::Readable(_))).and_then(read);
    let material = found.or_else(behind_link)?;
    let on_disk = || host.root.read(inventory.get("ca")?.path(), MAX_FILE).ok();
    let configured = material.server.clone().or_else(|| entry.server().map(str::to_owned));
    let known = || disk.server.clone().filter(|_| name == CLIENT).or_else(|| wiring::apiserver_url(&inventory.node));
    Some(Connection {
        server: configured.or_else(known)?,
        ca: Some(material.ca.clone().or_else(on_disk)?),
        identity: Some(Identity { cert: material.cert, key: material.key }),
        headers: Vec::new(),
        limit: REQUEST,
    })
}

/// kubeadm's, for kubeconfigs that name none.
const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";

/// As somebody's kubeconfig says: with a client certificate or a token, and the CA that it names, else the cluster's on this
/// disk.
///
/// # Errors
/// A clause that names the file.
pub fn by_kubeconfig(host: &Host, path: &Path, limit: Duration) -> Result<Connection, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let bytes = host.root.read_secret(path).map_err(|e| chain(&e))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| cannot(&e))?;
    let config = kubeconfig::parse(text).map_err(|e| cannot(&e))?;
    let server = config.secure_server().map_err(|e| cannot(&e))?.to_owned();
    let beside = |file: &Path| host.root.read_secret(&kubeconfig::relative_to(path, file)).map_err(|e| chain(&e));
    let (identity, headers) = if let Some((cert, key)) = config.identity.pair(beside)? {
        (Some(Identity { cert: cert.to_vec(), key }), Vec::new())
    } else {
        let token = kubeconfig::token(text).map_err(|e| cannot(&e))?;
        let token = token.ok_or_else(|| cannot(&"it holds neither a certificate nor a token"))?;
        (None, vec![("Authorization".to_owned(), format!("Bearer {}", token.as_str()))])
    };
    let ca = match config.ca {
        Some(ca) => ca.pem(beside)?,
        None => host.root.read(Path::new(CLUSTER_CA), MAX_FILE).map_err(|e| chain(&e))?,
    };
    Ok(Connection { server, ca: Some(ca), identity, headers, limit })
}
