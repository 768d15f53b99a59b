//! Whom certwarden tells, and what it watches besides this node's own files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Span;

/// Where metrics go besides `/run/certwarden/metrics.prom`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metrics {
    /// The names of x509-certificate-exporter too.
    pub x509_compat: bool,
    /// Directories of node_exporter's textfile collector; those that are not there are passed over.
    pub textfile_directories: Vec<PathBuf>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            x509_compat: true,
            // what its documentation uses, and what Debian's package does
            textfile_directories: vec![
                "/var/lib/node_exporter/textfile_collector".into(),
                "/var/lib/prometheus/node-exporter".into(),
            ],
        }
    }
}

/// An endpoint that `certwarden watch` asks for its certificate, as its clients do.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Probe {
    /// Letters, digits, `-` and `_`: it becomes a label.
    pub name: String,
    /// `host:port`, IPv6 in brackets.
    pub address: String,
    /// Who is asked for (SNI) and must be named in the certificate; empty: the host of the address.
    #[serde(default)]
    pub server_name: String,
    #[serde(default)]
    pub starttls: StartTls,
    #[serde(default = "five_minutes")]
    pub interval: Span,
    /// PEM bundle that clients trust; empty: the system's.
    #[serde(default)]
    pub ca: PathBuf,
    /// `namespace/name` of the Secret whose certificate should be shown; empty: whichever.
    #[serde(default)]
    pub secret: String,
}

fn five_minutes() -> Span {
    Span::secs(300)
}

/// The protocol in which TLS is asked for first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartTls {
    #[default]
    None,
    Smtp,
    Imap,
    Pop3,
    Ldap,
    Postgres,
    Mysql,
    Xmpp,
}

/// What the cluster is told of this node, with the kubelet's own credential.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// Events on the Node.
    pub events: bool,
    /// `certwarden.io/…` on the Node.
    pub annotations: bool,
    /// The condition `CertificateProblem` of the Node.
    pub condition: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { events: true, annotations: false, condition: false }
    }
}

/// Somebody who is told of an outcome: a program, or a unit that is started.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// Letters, digits, `-` and `_`: it becomes part of a unit's name and a label.
    pub name: String,
    pub on: Vec<Occasion>,
    /// Only if one of these was renewed; empty: whatever was.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Absolute; empty where there is a `unit`.
    #[serde(default)]
    pub program: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
    /// A template (`x@.service`) is started with the occasion as its instance.
    #[serde(default)]
    pub unit: String,
    /// For a program: killed with everything that it has started.
    #[serde(default = "minute")]
    pub time_limit: Span,
}

fn minute() -> Span {
    Span::secs(60)
}

/// What a hook can wait for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// New certificates are in place and proven.
    Renewed,
    /// They are in place, and not all could be proven.
    Degraded,
    RolledBack,
    RollbackFailed,
    /// Something is due, and was not begun.
    Refused,
    /// A check found something that wants attention which the check before did not.
    Expiring,
}

impl Occasion {
    pub fn id(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Degraded => "degraded",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailed => "rollback-failed",
            Self::Refused => "refused",
            Self::Expiring => "expiring",
        }
    }
}
