//! The kubelet's own rotation, as its certificate tells of it: when it may be expected, and since when it is late.

use jiff::Timestamp;
use serde::Serialize;

use super::cert::CertFacts;

/// The shares of a certificate's life, in per cent, between which the kubelet asks for the next one; drawn anew at each
/// start of the process (client-go: `util/certificate/certificate_manager.go:nextRotationDeadline`, `jitteryDuration`).
const WINDOW: (i64, i64) = (70, 90);

/// Where a certificate stands in the kubelet's rotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Rotation {
    /// The kubelet asks for no other before `from`.
    NotDue { from: Timestamp, until: Timestamp },
    /// It asks at some time before `until`, if it has not begun.
    Window { from: Timestamp, until: Timestamp },
    /// A kubelet that could rotate would have done so: something is in its way.
    Overdue { from: Timestamp, until: Timestamp },
}

impl Rotation {
    /// By the whole life of the certificate: the signer's notBefore is five minutes before it signed
    /// (kubernetes: `pkg/controller/certificates/signer/signer.go`), unlike kubeadm's.
    pub fn of(leaf: &CertFacts, now: Timestamp) -> Self {
        let start = leaf.not_before.as_second();
        let life = leaf.not_after.as_second().saturating_sub(start).max(0);
        // in this order there is no overflow before the year 9999
        let at = |share: i64| Timestamp::from_second(start + life / 100 * share).unwrap_or(leaf.not_after);
        let (from, until) = (at(WINDOW.0), at(WINDOW.1));
        match now {
            now if now < from => Self::NotDue { from, until },
            now if now < until => Self::Window { from, until },
            _ => Self::Overdue { from, until },
        }
    }

    /// When the kubelet has asked for the next one at the latest.
    pub fn until(self) -> Timestamp {
        match self {
            Self::NotDue { until, .. } | Self::Window { until, .. } | Self::Overdue { until, .. } => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cert::KeyAlgorithm;
    use std::collections::BTreeSet;

    fn leaf(from: i64, to: i64) -> CertFacts {
        CertFacts {
            subject: String::new(),
            common_name: None,
            organizations: BTreeSet::new(),
            issuer: String::new(),
            serial: String::new(),
            not_before: Timestamp::from_second(from).unwrap(),
            not_after: Timestamp::from_second(to).unwrap(),
            sans: BTreeSet::new(),
            usages: BTreeSet::new(),
            key_algorithm: KeyAlgorithm::Other(String::new()),
            is_ca: false,
            spki: Vec::new(),
            der: Vec::new(),
            raw: crate::model::cert::Raw::default(),
            issued_here: false,
        }
    }

    #[test]
    fn a_rotation_is_expected_between_seventy_and_ninety_per_cent_and_late_after() {
        let at = |now| Rotation::of(&leaf(1000, 2000), Timestamp::from_second(now).unwrap());
        assert!(matches!(at(1000), Rotation::NotDue { .. }));
        assert!(matches!(at(1699), Rotation::NotDue { .. }));
        assert!(matches!(at(1700), Rotation::Window { .. }));
        assert!(matches!(at(1899), Rotation::Window { .. }));
        assert!(matches!(at(1900), Rotation::Overdue { .. }));
        assert_eq!(at(1500).until().as_second(), 1900);
    }

    #[test]
    fn a_certificate_that_ends_before_it_begins_is_overdue_and_no_panic() {
        let at = Timestamp::from_second(5).unwrap();
        assert!(matches!(Rotation::of(&leaf(10, 5), at), Rotation::NotDue { .. }));
        assert!(matches!(Rotation::of(&leaf(4, 4), at), Rotation::Overdue { .. }));
        let ages = Rotation::of(&leaf(-62_000_000_000, 253_000_000_000), at);
        assert!(matches!(ages, Rotation::NotDue { .. }));
    }
}
