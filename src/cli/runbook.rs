//! `certwarden runbook`: the pages of `docs/runbooks`, in the program, because a node whose cluster is down opens no wiki.

use super::output::{USAGE, complain, print};
use crate::model::similar::question;

macro_rules! pages {
    ($($id:literal,)*) => {
        /// Id and text of every page, sorted by id.
        pub const PAGES: &[(&str, &str)] = &[
            $(($id, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks/", $id, ".md"))),)*
        ];
    };
}

pages! {
    "activation",
    "ca",
    "ca-expires-first",
    "CertManagerCertNotReady",
    "CertManagerCertRenewalOverdue",
    "CertwardenAbsentOnNode",
    "CertwardenApproverUndecided",
    "CertwardenCAExpiring",
    "CertwardenCertificateExpired",
    "CertwardenCertificateExpiring",
    "CertwardenCertificateExpiringSoon",
    "CertwardenCertificateFinding",
    "CertwardenCertificateInvalid",
    "CertwardenCheckStale",
    "CertwardenClockNotSynchronised",
    "CertwardenConfigRejected",
    "CertwardenExporterDown",
    "CertwardenHookFailing",
    "CertwardenKubeletCSRPending",
    "CertwardenKubeletRotationOverdue",
    "CertwardenLayerExpired",
    "CertwardenLayerExpiring",
    "CertwardenLayerUnreadable",
    "CertwardenMixedVersions",
    "CertwardenProbeDrift",
    "CertwardenProbeFailed",
    "CertwardenProbeRefused",
    "CertwardenRenewalFailing",
    "CertwardenRollbackFailed",
    "CertwardenRolledBack",
    "CertwardenServedCertificateDrift",
    "CertwardenSuspended",
    "CertwardenTextfileStale",
    "CertwardenTransactionStuck",
    "CertwardenWatchBlind",
    "clear-text",
    "clock",
    "cluster-lock",
    "dangling-symlink",
    "diagnose",
    "disk",
    "duplicate-manifest",
    "embedded-identity",
    "empty",
    "expired",
    "expiring",
    "held-back",
    "IstioRootExpiring",
    "IstioWorkloadCertExpiring",
    "key-mismatch",
    "kubelet-binary",
    "KubeletClientCertificateExpiring",
    "KubeletServingCSRPending",
    "KubernetesClientCertificateExpiresSoon",
    "KubernetesClusterCertExpiringSoon",
    "KubernetesClusterCertUnreadable",
    "KubernetesNodeNotReady",
    "lock",
    "loose-permissions",
    "maintenance",
    "malformed",
    "missing",
    "not-a-symlink",
    "not-ready",
    "not-yet-valid",
    "observe-only",
    "other-renewer",
    "ownership",
    "paused",
    "pending-change",
    "points-nowhere",
    "process-older-than-certificate",
    "quorum",
    "refused-by-clients",
    "request-denied",
    "request-failed",
    "request-not-issued",
    "request-pending",
    "rotation-blocked",
    "rotation-off",
    "rotation-overdue",
    "served-differs",
    "short-lived",
    "stale-copy",
    "stopped-by-hand",
    "unproven",
    "unreadable",
    "untested-version",
    "upgrade",
    "window",
    "wrong-ca",
    "wrong-identity",
    "wrong-issuer",
}

/// The text of a page; ids of alerts are also understood in lower case.
pub fn page(id: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| known.eq_ignore_ascii_case(id)).map(|(_, text)| *text)
}

/// Prints a page, or the list.
pub fn run(id: Option<&str>) -> u8 {
    let Some(id) = id else {
        print(&list());
        return 0;
    };
    if let Some(text) = page(id) {
        print(text);
        return 0;
    }
    let known: Vec<&str> = PAGES.iter().map(|(id, _)| *id).collect();
    let meant = question(id, &known);
    complain(&format!("there is no runbook {id}{meant}; `certwarden runbook` lists them"), USAGE)
}

/// What a page is about is its first line: `# id: title`.
fn list() -> String {
    let width = PAGES.iter().map(|(id, _)| id.len()).max().unwrap_or_default();
    let line = |(id, text): &(&str, &str)| {
        let title = text.lines().next().and_then(|l| l.split_once(": ")).map_or("", |(_, title)| title);
        format!("{id:<width$}  {title}\n")
    };
    PAGES.iter().map(line).collect()
}
