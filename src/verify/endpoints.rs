//! What this node's own sockets show to those who connect: a file that was replaced is not yet what clients see.
//!
//! A process of its own looks (`certwarden served`): OpenSSL stays in the memory of whoever has used it, some 5 MiB, and the
//! daemon is idle nearly always.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::host::exec::{Invocation, Program};
use crate::host::tls;
use crate::model::assess::{Assessment, Severity, overall};
use crate::model::cause::chain;
use crate::model::cert::CertFacts;
use crate::model::component::Component;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::Inventory;
use crate::model::metrics::Endpoint;
use crate::model::plan::Socket;
use crate::model::wiring;

use super::material::material;

/// A handshake on this machine takes milliseconds; one that hangs must not keep a look from its end.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// More sockets are not asked: names of `--tls-sni-cert-key` are sockets of their own, and a look has two minutes.
const MOST: usize = 20;
/// All of them hang, and the process needs its start.
const LOOK: Duration = Duration::from_secs(75);

/// A socket, and the leaf that it showed: DER in base64, since what was read from a socket is parsed by whoever uses it.
#[derive(Debug, Deserialize, Serialize)]
struct Seen {
    socket: Socket,
    served: Option<String>,
}

/// One look at each. Nothing on a mounted image, and nothing where it cannot be told.
pub fn look(host: &Host) -> Vec<Endpoint> {
    if !host.live {
        return Vec::new();
    }
    let look = Invocation { program: Program::Certwarden, args: vec!["served".into()], limit: LOOK };
    let said = match host.programs.run(&look) {
        Ok(output) if output.success() => output.stdout,
        Ok(output) => {
            tracing::debug!("certwarden served {}: {}", output.ending(), output.last_words());
            return Vec::new();
        }
        Err(e) => {
            tracing::debug!("certwarden served: {}", chain(&e));
            return Vec::new();
        }
    };
    let seen: Vec<Seen> = serde_json::from_str(&said).unwrap_or_default();
    let facts = |text: String| CertFacts::from_der(&STANDARD.decode(text).ok()?, 0).ok();
    seen.into_iter().map(|s| Endpoint { socket: s.socket, served: s.served.and_then(facts) }).collect()
}

/// What the process says: as JSON, for [`look`].
pub fn served(host: &Host, inventory: &Inventory) -> impl Serialize + use<> {
    let text = |leaf: CertFacts| STANDARD.encode(leaf.der);
    let seen = ask(host, inventory).into_iter().map(|e| Seen { socket: e.socket, served: e.served.map(text) });
    seen.collect::<Vec<_>>()
}

fn ask(host: &Host, inventory: &Inventory) -> Vec<Endpoint> {
    // etcd writes a line into its log for each client that shows no certificate
    let shown = inventory.get("etcd-healthcheck-client").or_else(|| inventory.get("apiserver-etcd-client"));
    let client = shown.and_then(|e| material(&e.form, &|path| host.root.read_secret(path)).ok()).map(|m| m.identity());
    let ask = |socket: Socket| {
        let identity = client.as_ref().filter(|_| socket.component == Component::Etcd);
        let served = tls::served_leaf(&socket.address, socket.name.as_deref(), identity, HANDSHAKE).ok();
        Endpoint { socket, served }
    };
    wiring::sockets(inventory).into_iter().take(MOST).map(ask).collect()
}

/// Adds to what the disk told where something else is shown than lies there.
pub fn tell(assessment: &mut Assessment, inventory: &Inventory, shown: &[Endpoint]) {
    for endpoint in shown {
        let socket = &endpoint.socket;
        let file = inventory.get(&socket.entry).and_then(|e| Some((e.path(), e.leaf()?)));
        let (Some((path, leaf)), Some(served)) = (file, &endpoint.served) else { continue };
        let Some(judged) = assessment.entries.iter_mut().find(|j| j.name == socket.entry) else { continue };
        if leaf.der == served.der {
            continue;
        }
        let expired = served.seconds_left(assessment.at) <= 0;
        judged.severity = judged.severity.max(if expired { Severity::Critical } else { Severity::Warning });
        judged.findings.push(Finding::new(
            Problem::ServedDiffers,
            format!(
                "{} at {socket} shows a certificate that ends at {:.0}, and not the one in {}: it has not read the file \
                 again; restart it",
                socket.component,
                served.not_after,
                path.display()
            ),
        ));
    }
    assessment.verdict = overall(inventory, assessment);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::crypto::testing::{Ca, Leaf};
    use crate::model::cert::parse_pem;
    use crate::model::inventory::{Content, Credential, Entry, Form, Node, Owner, Role};
    use crate::model::policy::Policy;

    #[test]
    fn a_process_that_has_not_read_its_file_again_is_found() {
        let ca = Ca::new("ca");
        let [file, old] = [(); 2].map(|()| parse_pem(&ca.issue(&Leaf::server("n1", &[])).cert).unwrap().remove(0));
        let entry = Entry {
            name: "apiserver".into(),
            form: Form::Pair { cert: "/pki/apiserver.crt".into(), key: "/pki/apiserver.key".into() },
            owner: Owner::Kubeadm,
            used_by: vec![Component::KubeApiserver],
            signer: None,
            trusted_by: None,
            impact: String::new(),
            content: Content::Readable(Credential {
                chain: vec![file.clone()],
                server: None,
                context: None,
                findings: Vec::new(),
            }),
        };
        let node = Node {
            name: None,
            name_doubt: None,
            role: Role::ControlPlane,
            distribution: None,
            static_pods: std::collections::BTreeMap::new(),
            other_pods: Vec::new(),
            kubelet: crate::model::inventory::Kubelet::default(),
            pki_dir: "/pki".into(),
            notes: Vec::new(),
        };
        let at = file.not_before;
        let inventory = Inventory { collected_at: at, node, entries: vec![entry], copies: Vec::new() };
        let socket = || Socket {
            component: Component::KubeApiserver,
            address: "127.0.0.1:6443".into(),
            entry: "apiserver".into(),
            name: None,
        };
        let judged = |served| {
            let mut assessment = crate::model::assess::assess(&inventory, &Policy::default(), at);
            tell(&mut assessment, &inventory, &[Endpoint { socket: socket(), served }]);
            assessment
        };
        assert_eq!(judged(Some(file.clone())).verdict, judged(None).verdict, "no answer is no finding");
        let found = judged(Some(old.clone()));
        let finding = found.get("apiserver").unwrap().findings.last().unwrap();
        assert_eq!(finding.id, Problem::ServedDiffers);
        assert!(finding.message.starts_with("kube-apiserver at 127.0.0.1:6443 shows a certificate that ends at"));
        assert!(found.verdict >= Severity::Warning);
    }
}
