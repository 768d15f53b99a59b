//! Many nodes: who is how, who is at work, and what keeps them all from it.

use std::fmt::Write as _;
use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::args::{Output, PauseArgs, ReachArgs};
use super::output::{USAGE, complain, fail, print, print_json};
use crate::app::session::Session;
use crate::fleet::{Desk, pause as own};
use crate::model::act::What;
use crate::model::fleet::notes::Pause;
use crate::model::plain;
use crate::observe::fleet::{Fleet, Member};
use crate::txn::acts;

/// The cluster cannot be asked.
const CANNOT_TELL: u8 = 3;
/// Reasons in the table; JSON has all of them.
const WIDTH: usize = 41;

pub fn pause(session: &Session<'_>, asked: &PauseArgs) -> u8 {
    let PauseArgs { until, length, reason, hard, reach } = asked;
    let now = session.host.clock.now();
    let end = match (until.as_deref(), length) {
        (Some(text), _) => match time(text) {
            Some(at) if at > now => Some(at),
            Some(at) => return complain(&format!("{at:.0} has passed"), USAGE),
            None => return complain(&format!("`{text}` is no time like `2026-11-30 06:00`"), USAGE),
        },
        (None, Some(length)) => SignedDuration::try_from(length.0).ok().and_then(|length| now.checked_add(length).ok()),
        (None, None) => None,
    };
    let pause = Pause::new(now, end, reason).hard(*hard).by(session.host.by.as_deref());
    if !reach.cluster {
        return match own::write(&session.host.root, &pause) {
            Ok(()) => {
                acts::record(session.host, What::Pause, &pause.to_string());
                said(&format!("this node is paused {pause}\n"))
            }
            Err(e) => fail(&e, 1),
        };
    }
    match desk(session, reach.kubeconfig.as_deref()).and_then(|desk| desk.pause(Some(&pause))) {
        Ok(()) => {
            of_the_cluster(session, What::Pause, &pause.to_string());
            said(&format!("the cluster is paused {pause}\n"))
        }
        Err(why) => complain(&why, CANNOT_TELL),
    }
}

pub fn resume(session: &Session<'_>, reach: &ReachArgs) -> u8 {
    if !reach.cluster {
        return match own::remove(&session.host.root) {
            Ok(()) => {
                acts::record(session.host, What::Resume, "");
                said("this node is not paused\n")
            }
            Err(e) => fail(&e, 1),
        };
    }
    match desk(session, reach.kubeconfig.as_deref()).and_then(|desk| desk.pause(None)) {
        Ok(()) => {
            of_the_cluster(session, What::Resume, "");
            said("the cluster is not paused; a node may be by itself\n")
        }
        Err(why) => complain(&why, CANNOT_TELL),
    }
}

pub fn show(session: &Session<'_>, kubeconfig: Option<&Path>, clear_harm: bool, output: Output) -> u8 {
    let seen = desk(session, kubeconfig).and_then(|desk| {
        if clear_harm {
            desk.clear_harm()?;
            of_the_cluster(session, What::ClearHarm, "");
        }
        Ok(Fleet::of(desk.roster()?, desk.now()))
    });
    match (seen, output) {
        (Ok(fleet), Output::Json) => print_json(&fleet),
        (Ok(fleet), Output::Table) => said(&render(&fleet)),
        (Err(why), _) => complain(&why, CANNOT_TELL),
    }
}

/// Who may not write on this machine has decided it from an account of the cluster: that has its own audit log.
fn of_the_cluster(session: &Session<'_>, what: What, detail: &str) {
    if !session.host.live || nix::unistd::geteuid().is_root() {
        let detail = if detail.is_empty() { String::new() } else { format!(" {detail}") };
        acts::record(session.host, what, &format!("of the whole cluster{detail}"));
    }
}

fn desk<'a>(session: &'a Session<'_>, kubeconfig: Option<&Path>) -> Result<Desk<'a>, String> {
    Desk::open(session.host, session.policy, &session.inventory, kubeconfig)
}

fn said(text: &str) -> u8 {
    print(text);
    0
}

/// RFC 3339, or a local day or time.
fn time(text: &str) -> Option<Timestamp> {
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|at| at.timestamp());
    text.parse().ok().or_else(local)
}

fn render(fleet: &Fleet) -> String {
    let headings = ["NODE", "ROLE", "STATUS", "ENDS FIRST", "NEXT", "LAST RENEWAL"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(headings).chain(fleet.nodes.iter().map(row)).collect();
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    let agents = fleet.nodes.iter().filter(|n| n.agent).count();
    let nodes = if fleet.nodes.len() == 1 { "node" } else { "nodes" };
    let _ = writeln!(out, "\n{} {nodes}, {agents} with an agent that tells of itself", fleet.nodes.len());
    for lock in &fleet.locks {
        let holder = lock.holder.as_deref().map_or_else(
            || lock.last_holder.as_ref().map_or("free".to_owned(), |last| format!("free, last held by {last}")),
            |holder| format!("held by {holder} since {}", lock.renewed.map_or("?".to_owned(), |at| format!("{at:.0}"))),
        );
        let _ = writeln!(out, "{}: {holder}", lock.lease);
    }
    if let Some(pause) = &fleet.pause {
        let _ = writeln!(out, "paused {pause}");
    }
    for (node, mark) in &fleet.harm {
        let _ = writeln!(out, "harm: {node} at {:.0}, {}: {}", mark.at, mark.outcome.id(), mark.reason);
    }
    out
}

fn row(node: &Member) -> [String; 6] {
    let told = |text: &Option<String>| plain::line(text.as_deref().unwrap_or("-"), WIDTH);
    let role = if node.control_plane { "control-plane" } else { "worker" };
    let next = match (&node.holds, node.agent) {
        (Some(_), _) => "at work now".to_owned(),
        (None, false) => "no agent".to_owned(),
        (None, true) => told(&node.next_action),
    };
    [
        node.name.clone(),
        role.to_owned(),
        node.status.clone(),
        told(&node.earliest_expiry),
        next,
        told(&node.last_renewal),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Roster;
    use crate::host::kube::nodes::NodeLine;
    use crate::model::fleet::lease::Record;

    #[test]
    fn a_node_without_an_agent_is_shown_as_such_and_who_is_at_work_stands_first_to_the_eye() {
        let node = |name: &str, control_plane, told: &[(&str, &str)]| NodeLine {
            address: None,
            name: name.into(),
            status: "Ready".into(),
            control_plane,
            annotations: told.iter().map(|(k, v)| (format!("certwarden.io/{k}"), (*v).to_owned())).collect(),
        };
        let told = [("earliest-expiry", "2027-01-01 \u{1b}[31mapiserver"), ("next-action", "renew on 2026-12-02")];
        let holder = Record { holder: "cp2_12345678".into(), last: "cp1_0".into(), ..Record::default() };
        let roster = Roster {
            nodes: vec![node("w1", false, &[]), node("cp2", true, &told), node("cp1", true, &told)],
            locks: [("certwarden-control-plane".to_owned(), holder)].into(),
            ..Roster::default()
        };
        let text = render(&Fleet::of(roster, Timestamp::UNIX_EPOCH));
        let expected = "\
NODE  ROLE           STATUS  ENDS FIRST                  NEXT                 LAST RENEWAL
cp1   control-plane  Ready   2027-01-01 �[31mapiserver  renew on 2026-12-02  -
cp2   control-plane  Ready   2027-01-01 �[31mapiserver  at work now          -
w1    worker         Ready   -                           no agent             -

3 nodes, 2 with an agent that tells of itself
certwarden-control-plane: held by cp2 since ?
";
        let flat =
            |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        assert_eq!(flat(&text), flat(expected));
    }

    #[test]
    fn an_end_may_be_a_day_or_a_time_or_an_instant() {
        assert!(time("2026-11-30").is_some() && time("2026-11-30 06:00").is_some());
        assert_eq!(time("2026-11-30T06:00:00Z").map(Timestamp::as_second), Some(1_796_018_400));
        assert_eq!(time("tomorrow"), None);
    }
}
