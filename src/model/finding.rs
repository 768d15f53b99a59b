//! What can be wrong with a credential: stable ids that tools, alerts and runbooks rely on
//! (docs/architecture.md, "Inventory").

use serde::{Deserialize, Serialize};

/// A problem with a stable id and a sentence for a person.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    pub id: Problem,
    pub message: String,
}

impl Finding {
    pub fn new(id: Problem, message: impl Into<String>) -> Self {
        Self { id, message: message.into() }
    }
}

/// One line for each, so that none can be left out of the list, the reference or the runbooks.
macro_rules! problems {
    ($($name:ident = $id:literal: $meaning:literal,)*) => {
        /// The stable ids, in the order of the reference.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Problem {
            $(#[doc = $meaning] $name,)*
        }

        impl Problem {
            /// In the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The id as it is printed: `key-mismatch`.
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// What it means, in a clause; the message of a [`Finding`] says it of the case.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

problems! {
    Expired = "expired": "it does not work any more; what stops is said with it",
    Expiring = "expiring": "less than `renew.renew-before` is left (a CA: `check.ca-warn-before`); critical below `renew.emergency-before`",
    NotYetValid = "not-yet-valid": "it begins in the future: it or the clock is wrong",
    KeyMismatch = "key-mismatch": "key and certificate do not belong together; whoever reads them next does not start",
    WrongIssuer = "wrong-issuer": "the CA on this node did not sign it",
    CaExpiresFirst = "ca-expires-first": "its CA ends before it does, and it with its CA",
    WrongCa = "wrong-ca": "a kubeconfig trusts another CA than the one that this node's API server has its certificate of",
    ClearText = "clear-text": "a kubeconfig's server is an http:// address: who is on the way can answer whatever it wants, and reads a token",
    RefusedByClients = "refused-by-clients": "its signature is good, and components of Kubernetes refuse it all the same; the message says which and why",
    DuplicateManifest = "duplicate-manifest": "a component has two manifests, and which of them the kubelet runs cannot be told",
    Missing = "missing": "a file that must be there is not",
    Unreadable = "unreadable": "a file is there and cannot be read",
    Malformed = "malformed": "a file is no certificate, key or kubeconfig",
    Empty = "empty": "a file has no content, as after a power cut",
    DanglingSymlink = "dangling-symlink": "a symbolic link leads nowhere",
    NotASymlink = "not-a-symlink": "`kubelet-client-current.pem` is a plain file: the kubelet refuses to rotate it",
    EmbeddedIdentity = "embedded-identity": "kubelet.conf holds a certificate itself instead of pointing at the one that is rotated",
    WrongIdentity = "wrong-identity": "common name or organisation are not those that its user needs",
    LoosePermissions = "loose-permissions": "others than its owner may use a file that holds a key",
    Ownership = "ownership": "somebody else than root could replace the file: the gate `ownership` refuses to renew it",
    StaleCopy = "stale-copy": "a copy of admin.conf holds an older certificate",
    ServedDiffers = "served-differs": "a process serves another certificate than lies in its file",
    ProcessOlderThanCertificate = "process-older-than-certificate": "a static pod that reads the file only at its start, or is not known to do so again, began before the file was replaced",
    PointsNowhere = "points-nowhere": "kubelet.conf names files that are not there, although the kubelet's link is",
    RotationBlocked = "rotation-blocked": "a plain file lies where the kubelet would make its next link",
    RotationOff = "rotation-off": "`rotateCertificates` is false: certwarden rotates the kubelet's certificate",
    RotationOverdue = "rotation-overdue": "the kubelet should have rotated its certificate by now, and has not",
    RequestPending = "request-pending": "a certificate signing request of this node waits for somebody to approve it",
    RequestDenied = "request-denied": "a certificate signing request of this node was denied",
    RequestFailed = "request-failed": "the signer could not issue what this node asked for",
    RequestNotIssued = "request-not-issued": "a request of this node was approved, and no signer has issued anything",
    ShortLived = "short-lived": "for information: its life is short for `renew.renew-before`, and it is renewed with a third of its life left",
    Unproven = "unproven": "it was renewed and is in place, its use could not be proven, and its predecessor had expired; it is verified again",
    UntestedVersion = "untested-version": "for information: the cluster's Kubernetes is newer than any that certwarden was tested on; no exit code depends on it",
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn a_document_calls_a_problem_by_its_id() {
        for problem in Problem::ALL {
            assert_eq!(serde_json::to_string(problem).unwrap(), format!("\"{}\"", problem.id()));
        }
    }
}
