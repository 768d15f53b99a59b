//! What the cluster is told of this node's certificates, as Events on its Node, by stable reasons. [`outbox`] knows when.

pub mod outbox;

use serde::{Deserialize, Serialize};

use super::assess::{Assessment, Severity};
use super::finding::Problem;
use super::inventory::Inventory;
use super::report::{Outcome, Report};

/// Of different Events that last; the rest is in `certwarden check`.
const MOST_LASTING: usize = 16;

/// Stable reasons.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Reason {
    CertificateRenewed,
    CertificateCheckRecovered,
    CertificateExpiringSoon,
    CertificateExpired,
    CertificateInvalid,
    CertificateAuthorityExpiring,
    CertificateRenewalFailed,
    CertificateRolledBack,
    CertificateRollbackFailed,
    ServedCertificateDrift,
    KubeletRotationOverdue,
    KubeletCSRPending,
    CertwardenSuspended,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::CertificateRenewed,
        Self::CertificateCheckRecovered,
        Self::CertificateExpiringSoon,
        Self::CertificateExpired,
        Self::CertificateInvalid,
        Self::CertificateAuthorityExpiring,
        Self::CertificateRenewalFailed,
        Self::CertificateRolledBack,
        Self::CertificateRollbackFailed,
        Self::ServedCertificateDrift,
        Self::KubeletRotationOverdue,
        Self::KubeletCSRPending,
        Self::CertwardenSuspended,
    ];

    pub fn id(self) -> &'static str {
        match self {
            Self::CertificateRenewed => "CertificateRenewed",
            Self::CertificateCheckRecovered => "CertificateCheckRecovered",
            Self::CertificateExpiringSoon => "CertificateExpiringSoon",
            Self::CertificateExpired => "CertificateExpired",
            Self::CertificateInvalid => "CertificateInvalid",
            Self::CertificateAuthorityExpiring => "CertificateAuthorityExpiring",
            Self::CertificateRenewalFailed => "CertificateRenewalFailed",
            Self::CertificateRolledBack => "CertificateRolledBack",
            Self::CertificateRollbackFailed => "CertificateRollbackFailed",
            Self::ServedCertificateDrift => "ServedCertificateDrift",
            Self::KubeletRotationOverdue => "KubeletRotationOverdue",
            Self::KubeletCSRPending => "KubeletCSRPending",
            Self::CertwardenSuspended => "CertwardenSuspended",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::CertificateRenewed | Self::CertificateCheckRecovered => "Normal",
            _ => "Warning",
        }
    }

    /// `action`: what was being done.
    fn action(self) -> &'static str {
        match self {
            Self::CertificateRenewed | Self::CertificateRenewalFailed => "RenewCertificate",
            Self::CertificateRolledBack | Self::CertificateRollbackFailed => "RollBack",
            _ => "Check",
        }
    }
}

/// Something to tell.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct News {
    pub reason: Reason,
    /// The certificate or transaction it is about: with the reason, what makes two of them the same.
    pub about: String,
    pub note: String,
}

/// What lasts, from a look: one for each certificate, the gravest.
pub fn lasting(inventory: &Inventory, assessment: &Assessment) -> Vec<News> {
    let mut found = Vec::new();
    for (entry, judged) in inventory.entries.iter().zip(&assessment.entries) {
        let told = judged.findings.iter().filter_map(|f| Some((reason(f.id, entry.is_ca(), judged.severity)?, f)));
        if let Some((reason, finding)) = told.min_by_key(|(reason, _)| rank(*reason)) {
            let note = format!("{}: {}", entry.name, finding.message);
            found.push(News { reason, about: entry.name.clone(), note });
        }
    }
    found.sort_by_key(|n| rank(n.reason));
    found.truncate(MOST_LASTING);
    found
}

fn rank(reason: Reason) -> u8 {
    match reason {
        Reason::CertificateExpired => 0,
        Reason::CertificateInvalid => 1,
        _ => 2,
    }
}

fn reason(problem: Problem, ca: bool, severity: Severity) -> Option<Reason> {
    Some(match problem {
        Problem::Expired => Reason::CertificateExpired,
        Problem::Expiring if ca => Reason::CertificateAuthorityExpiring,
        Problem::Expiring => Reason::CertificateExpiringSoon,
        Problem::RotationOverdue => Reason::KubeletRotationOverdue,
        Problem::RequestPending | Problem::RequestDenied | Problem::RequestFailed | Problem::RequestNotIssued => {
            Reason::KubeletCSRPending
        }
        Problem::ServedDiffers => Reason::ServedCertificateDrift,
        _ if severity == Severity::Critical => Reason::CertificateInvalid,
        _ => return None,
    })
}

/// What happened, from the end of a transaction; None: nothing that the cluster cares for.
pub fn happened(report: &Report) -> Option<News> {
    let reason = match report.outcome {
        Outcome::Verified | Outcome::Committed | Outcome::Degraded if !report.renewed.is_empty() => {
            Reason::CertificateRenewed
        }
        Outcome::Refused => Reason::CertificateRenewalFailed,
        Outcome::RolledBack => Reason::CertificateRolledBack,
        Outcome::RollbackFailed => Reason::CertificateRollbackFailed,
        _ => return None,
    };
    let about = report.transaction.clone().unwrap_or_default();
    let names = report.in_place().join(", ");
    let note = match reason {
        Reason::CertificateRenewed => format!("renewed {names} (transaction {about})"),
        _ if about.is_empty() => report.reason.clone(),
        _ => format!("transaction {about}: {}", report.reason),
    };
    Some(News { reason, about, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_they_are_called() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.id());
            assert!(reason.id().len() <= 128);
        }
    }
}
