//! Who is to be told of what has happened, and in which words.

use jiff::Timestamp;
use serde::Serialize;

use super::policy::{Hook, Occasion};
use super::report::{Outcome, Report};

pub const SCHEMA: &str = "certwarden.notice/v1";

/// What a hook is told, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    pub schema: &'static str,
    pub occasion: Occasion,
    pub at: Timestamp,
    /// Of the transaction, or of the attempt at one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// What wants attention since this look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<Wanting>,
}

/// An entry that is not well, in a clause.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Wanting {
    pub name: String,
    pub message: String,
}

/// What is to be started for a hook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    Program,
    /// The unit's name, of an instance where the hook names a template.
    Unit(String),
}

impl Notice {
    /// None: this outcome is no occasion.
    pub fn of(report: &Report) -> Option<Self> {
        let occasion = match report.outcome {
            Outcome::Verified | Outcome::Committed => Occasion::Renewed,
            Outcome::Degraded => Occasion::Degraded,
            Outcome::RolledBack => Occasion::RolledBack,
            Outcome::RollbackFailed => Occasion::RollbackFailed,
            Outcome::Refused | Outcome::LeftOut => Occasion::Refused,
            Outcome::NothingToDo | Outcome::DryRun | Outcome::Interrupted => return None,
        };
        Some(Self {
            schema: SCHEMA,
            occasion,
            at: report.ended_at,
            report: Some(report.clone()),
            attention: Vec::new(),
        })
    }

    pub fn expiring(at: Timestamp, attention: Vec<Wanting>) -> Self {
        Self { schema: SCHEMA, occasion: Occasion::Expiring, at, report: None, attention }
    }

    /// Whether the hook waits for this.
    pub fn concerns(&self, hook: &Hook) -> bool {
        let renewed = self.report.as_ref().map(Report::in_place).unwrap_or_default();
        hook.on.contains(&self.occasion)
            && (hook.certificates.is_empty() || hook.certificates.iter().any(|name| self.names(name, &renewed)))
    }

    /// For what was not renewed, whatever the transaction was about.
    fn names(&self, name: &String, renewed: &[String]) -> bool {
        let attempted = || self.report.iter().flat_map(Report::all).flat_map(|r| &r.renewed).any(|r| r.name == *name);
        match self.occasion {
            Occasion::Renewed => renewed.contains(name),
            Occasion::Expiring => self.attention.iter().any(|w| w.name == *name),
            _ => attempted(),
        }
    }
}

/// What the hook starts on this occasion.
pub fn start(hook: &Hook, occasion: Occasion) -> Start {
    match hook.unit.split_once("@.") {
        _ if hook.unit.is_empty() => Start::Program,
        // `-` in an instance would be a `/` to who unescapes it (systemd.unit(5)); the ids have no other such character
        Some((stem, kind)) => Start::Unit(format!("{stem}@{}.{kind}", occasion.id())),
        None => Start::Unit(hook.unit.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::Span;
    use crate::model::report::Renewed;

    fn hook(on: &[Occasion], certificates: &[&str]) -> Hook {
        Hook {
            name: "h".into(),
            on: on.to_vec(),
            certificates: certificates.iter().map(|c| (*c).to_owned()).collect(),
            program: "/bin/true".into(),
            args: Vec::new(),
            unit: String::new(),
            time_limit: Span::secs(60),
        }
    }

    fn notice(outcome: Outcome, names: &[&str]) -> Option<Notice> {
        let mut report = Report::new(outcome, "so it went", Timestamp::UNIX_EPOCH);
        let renewed = |name: &&str| Renewed {
            name: (*name).to_owned(),
            path: "/x".into(),
            old_serial: None,
            new_serial: "01".into(),
            not_after: Timestamp::UNIX_EPOCH,
        };
        report.renewed = names.iter().map(renewed).collect();
        Notice::of(&report)
    }

    #[test]
    fn a_hook_is_told_what_it_waits_for_and_nothing_else() {
        use Occasion::{Refused, Renewed, RolledBack};
        let renewed = notice(Outcome::Verified, &["apiserver"]).unwrap();
        assert!(renewed.concerns(&hook(&[Renewed], &[])));
        assert!(renewed.concerns(&hook(&[Renewed], &["apiserver", "etcd-server"])));
        assert!(!renewed.concerns(&hook(&[Renewed], &["etcd-server"])), "a deploy hook of another certificate");
        assert!(!renewed.concerns(&hook(&[Refused, RolledBack], &[])));
        let back = notice(Outcome::RolledBack, &["apiserver"]).unwrap();
        assert!(back.concerns(&hook(&[RolledBack], &["apiserver"])), "nothing was renewed, but this was tried");
        assert!(!back.concerns(&hook(&[Renewed], &["apiserver"])), "no deployment without a verified renewal");
        assert!(notice(Outcome::NothingToDo, &[]).is_none() && notice(Outcome::DryRun, &["apiserver"]).is_none());
    }

    #[test]
    fn a_template_gets_the_occasion_as_its_instance() {
        let mut with = hook(&[Occasion::RolledBack], &[]);
        assert_eq!(start(&with, Occasion::RolledBack), Start::Program);
        with.unit = "notify@.service".into();
        assert_eq!(start(&with, Occasion::RolledBack), Start::Unit("notify@rolled-back.service".into()));
        with.unit = "notify.service".into();
        assert_eq!(start(&with, Occasion::RolledBack), Start::Unit("notify.service".into()));
    }
}
