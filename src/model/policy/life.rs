//! Thresholds of certificates that live for a short time. Times left are absolute. Where a renewal of certwarden's has given a
//! short life in all (kubeadm's `certificateValidityPeriod`), the same times would make a certificate due, or an emergency, on
//! the day of its issue: no threshold is more than a share of the life. Of what others have made nothing is shared out: its life
//! does not say what a renewal gives, and a kubeadm leaf's notBefore can be its CA's (kubeadm before 1.31).

use super::{Renew, Span};

/// Due with a third of its life left, as cert-manager does by default (cert-manager: `pkg/util/pki/renewaltime.go`).
const DUE: i64 = 3;
/// An emergency with a tenth of its life left: a third of what was there when it became due.
const EMERGENCY: i64 = 10;
/// What is left of it when the next window opens is to be more than a fifth: that window may fail, or come late.
const SPARE: i64 = 5;

impl Renew {
    /// Seconds left at which something is due that lives for `life` seconds in all.
    pub fn due_before(&self, life: i64) -> i64 {
        if self.renew_before <= self.emergency_before {
            return self.emergency(life); // outside of windows (`fleet::calm`)
        }
        let by_age = self.renew_before.seconds().min(life.max(0) / DUE);
        let by_window = self.next_window.map_or(0, |next| {
            let spare = next.seconds().saturating_add(life.max(0) / SPARE);
            self.renew_before.seconds().min(spare)
        });
        by_age.max(by_window)
    }

    /// Seconds left at which it is an emergency.
    pub fn emergency(&self, life: i64) -> i64 {
        self.emergency_before.seconds().min(life.max(0) / EMERGENCY)
    }

    /// What is said of a certificate whose life is too short for the settings.
    pub fn shortened(&self, life: i64) -> Option<String> {
        let (due, urgent) = (life.max(0) / DUE, self.emergency(life));
        (due < self.renew_before.seconds()).then(|| {
            format!(
                "it lives for {} in all, which is short for `renew.renew-before` ({}): it is renewed when {} are left, and an emergency \
                 when {} are left",
                span(life),
                self.renew_before,
                span(due),
                span(urgent)
            )
        })
    }
}

/// In whole hours or minutes: a certificate's life has five minutes more than was asked for.
fn span(seconds: i64) -> Span {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let unit = match seconds {
        7_200.. => 3_600,
        60.. => 60,
        _ => 1,
    };
    Span::secs(seconds / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    #[test]
    fn no_threshold_is_more_than_a_share_of_the_life() {
        let renew = Renew::default();
        for (life, due, emergency) in [
            (365 * DAY, 30 * DAY, 3 * DAY),
            (90 * DAY, 30 * DAY, 3 * DAY),
            (30 * DAY, 10 * DAY, 3 * DAY),
            (48 * HOUR, 16 * HOUR, 17_280),
            (HOUR, 1200, 360),
            (0, 0, 0),
            (-DAY, 0, 0),
        ] {
            assert_eq!((renew.due_before(life), renew.emergency(life)), (due, emergency), "{life}");
            assert_eq!(renew.shortened(life).is_some(), life < 90 * DAY, "{life}");
        }
        let told = renew.shortened(48 * HOUR + 300).unwrap();
        assert!(told.starts_with("it lives for 2d in all") && told.contains("when 16h are left"), "{told}");
    }

    #[test]
    fn in_a_window_it_is_due_where_it_would_not_last_until_the_next_one() {
        let open = |next, renew_before| Renew { next_window: Some(Span::secs(next)), renew_before, ..Renew::default() };
        // each day: 24 h and a fifth of its life; the deadline of ten days is more than it lives
        assert_eq!(open(86_400, Span::days(11)).due_before(48 * HOUR), 24 * HOUR + 48 * HOUR / 5);
        // a year's leaf: the deadline is what counts
        assert_eq!(open(7 * 86_400, Span::days(17)).due_before(365 * DAY), 17 * DAY);
        // outside of windows only emergencies
        let shut = Renew { renew_before: Renew::default().emergency_before, ..Renew::default() };
        assert_eq!(shut.due_before(48 * HOUR), shut.emergency(48 * HOUR));
    }
}
