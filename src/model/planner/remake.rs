//! How a credential is made again of which too little is left to be renewed: by whom and with which command.

use std::path::Path;

use crate::model::assess::is_out_of_reach;
use crate::model::finding::{Finding, Problem};
use crate::model::inventory::{Content, Entry, Form, Inventory, Owner};
use crate::model::repair::{CLIENT, CONFIG};
use crate::model::serving::SERVING;

/// kubeadm's phases by their names: leaves in files of their own (kubernetes:
/// `cmd/kubeadm/app/phases/certs/certlist.go:GetDefaultCertList`).
const CERTS: [&str; 7] = [
    "apiserver",
    "apiserver-etcd-client",
    "apiserver-kubelet-client",
    "etcd-healthcheck-client",
    "etcd-peer",
    "etcd-server",
    "front-proxy-client",
];
/// The same of kubeconfigs, less `.conf` (kubernetes: `cmd/kubeadm/app/cmd/phases/init/kubeconfig.go`).
const CONFIGS: [&str; 4] = ["admin.conf", "controller-manager.conf", "scheduler.conf", "super-admin.conf"];

/// kubeadm's own defaults know neither the cluster's names nor its endpoint.
const FILE: &str = "FILE: the cluster's kubeadm configuration, see `certwarden runbook missing`";

/// What makes it again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remake {
    /// A command for root on this node, and what there is to know of it.
    Run { command: String, what: &'static str },
    /// More than a command.
    Note(String),
}

impl std::fmt::Display for Remake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run { command, what } => write!(f, "an operator to run this: {command} ({what})"),
            Self::Note(what) => f.write_str(what),
        }
    }
}

/// How to make an entry again. None: there is enough of it to be renewed, or its own words say what to do.
pub fn remake(inventory: &Inventory, entry: &Entry) -> Option<Remake> {
    let finding = gone(entry)?;
    if entry.is_ca() {
        let what = "its certificate, and its key where that was here, from another control-plane node or from a backup; \
                    `kubeadm init phase certs` would make another CA, which nobody trusts";
        return Some(Remake::Note(what.to_owned()));
    }
    // the kubelet's own has ways of its own
    if inventory.node.distribution.is_some() || entry.name == CLIENT || entry.name == CONFIG {
        return None;
    }
    if finding.id == Problem::Unreadable {
        return Some(Remake::Note("somebody to see why root cannot read it: `dmesg`, `lsattr`, AppArmor".to_owned()));
    }
    if entry.name == SERVING {
        // it makes both where one cannot be read (kubernetes: `cmd/kubelet/app/server.go:InitializeTLS`)
        let its_own = matches!(entry.owner, Owner::None | Owner::Certwarden);
        let command = format!("{}systemctl restart {}", away(entry), inventory.node.kubelet.unit);
        return its_own.then_some(Remake::Run { command, what: "the kubelet makes a new pair" });
    }
    let signer = entry.signer.as_deref().unwrap_or("its CA");
    let Some(phase) = phase(inventory, entry) else {
        return Some(Remake::Note(format!("its files back from a backup, or a new one that {signer} has signed")));
    };
    let away =
        if finding.id == Problem::Missing && entry.form.files().len() == 1 { String::new() } else { away(entry) };
    let command = format!("{away}kubeadm init phase {phase} --config FILE");
    let ca = inventory.get(signer);
    Some(match ca.map(|e| &e.content) {
        Some(Content::Readable(_)) if ca.is_some_and(|e| e.owner != Owner::External) => {
            Remake::Run { command, what: FILE }
        }
        Some(Content::Readable(_)) => {
            Remake::Note(format!("a new one from where the key of {signer} is; with that key here: {command} ({FILE})"))
        }
        _ => Remake::Note(format!("{signer} back first, and then this: {command} ({FILE})")),
    })
}

/// What is wrong with it that a renewal does not mend.
fn gone(entry: &Entry) -> Option<&Finding> {
    let lasts = |f: &&Finding| is_out_of_reach(f.id) || f.id == Problem::WrongIdentity;
    match &entry.content {
        Content::Unusable(finding) => Some(finding),
        Content::Readable(c) => c.findings.iter().find(lasts),
        Content::Absent => None,
    }
}

/// kubeadm's phase, of what lies where kubeadm puts it.
fn phase(inventory: &Inventory, entry: &Entry) -> Option<String> {
    let name = entry.name.as_str();
    match &entry.form {
        Form::Pair { cert, .. } if CERTS.contains(&name) && cert.starts_with(&inventory.node.pki_dir) => {
            Some(format!("certs {name}"))
        }
        Form::Kubeconfig { path } if CONFIGS.contains(&name) && path.parent() == Some(Path::new("/etc/kubernetes")) => {
            Some(format!("kubeconfig {}", name.trim_end_matches(".conf")))
        }
        _ => None,
    }
}

/// kubeadm keeps what it finds, and fails on half of a pair (kubernetes:
/// `cmd/kubeadm/app/phases/certs/certs.go:writeCertificateFilesIfNotExist`).
fn away(entry: &Entry) -> String {
    let moved = |path: &Path| format!("mv -f {0} {0}.old; ", path.display());
    entry.form.files().into_iter().map(moved).collect::<Vec<_>>().concat()
}
