//! The command line: arguments in, a use case, text or JSON out, an exit code.

mod args;
mod check;
pub mod combinations;
pub mod config;
mod diagnose;
mod export;
mod fleet;
mod help;
mod history;
pub mod manual;
mod npd;
mod output;
mod plan;
pub mod render;
mod report;
pub mod runbook;
mod signals;
mod status;
mod terminal;
mod watch;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use crate::app::session::{PlanError, Session, SessionError};
use crate::host::fs::{FsError, Root};
use crate::host::{Host, core_dump, journal, process};
use crate::model::act::What;
use crate::model::assess::Severity;
use crate::model::gate::Gate;
use crate::model::plan::Plan;
use crate::model::planner::Selection;
use crate::model::policy::{Hook, Policy};
use crate::model::report::{Outcome, Report};
use crate::txn::acts;
use crate::txn::engine::EngineError;
use crate::txn::lock::LockError;
use crate::txn::progress::Progress;
use crate::txn::recover::Reach;
use crate::txn::state::DaemonState;
use crate::verify::endpoints;
use crate::{config as configuration, daemon, renew};

use args::{Args, Command, ConfigCommand, Output, PauseArgs, ReachArgs, SelectionArgs};
use output::{
    BUSY, CONFIG, NOT_ROOT, USAGE, complain, fail, fail_or_not_allowed, not_allowed, print, print_json, print_painted,
};
use terminal::Painted;

/// Runs one command and returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    core_dump::disable();
    let args: Args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { 0 };
            let _ = e.print(); // help or usage; a closed pipe is no matter
            return code;
        }
    };
    if let Command::InStaging { request } = &args.command {
        return renew::staging::run(&[request.clone().into_os_string()]);
    }
    match Root::open(&args.root) {
        Ok(root) => dispatch(&args, root),
        Err(e @ FsError::Permission { .. }) => fail(&e, NOT_ROOT),
        Err(e) => fail(&e, USAGE),
    }
}

/// Changes the node.
fn changes(command: &Command) -> bool {
    matches!(
        command,
        Command::Renew { .. }
            | Command::Rollback { .. }
            | Command::Recover { .. }
            | Command::Pause(PauseArgs { reach: ReachArgs { cluster: false, .. }, .. })
            | Command::Resume { reach: ReachArgs { cluster: false, .. } }
            | Command::Daemon
    )
}

/// What is asked of no node, or of one whose configuration does not matter.
fn without_policy(command: &Command, root: &Root) -> Option<u8> {
    Some(match command {
        Command::Config(ConfigCommand::Check) => tell(config::check(root)),
        Command::Config(ConfigCommand::Show { origin }) => tell(config::show(root, *origin)),
        Command::History { id, output } => show_history(root, id.as_deref(), *output),
        Command::NpdPlugin => npd::run(root),
        Command::Runbook { id } => runbook::run(id.as_deref()),
        Command::Status { output } => status::run(root, *output == Output::Json),
        _ => return None,
    })
}

/// The settings in force, or the exit code of why there are none.
fn policy(root: &Root, command: &Command) -> Result<Policy, u8> {
    match (configuration::load(root), command) {
        (Ok(settings), _) => Ok(settings.policy),
        // a typo must not keep the files in a half-committed state at boot
        (Err(e), Command::Recover { .. }) => {
            complain(&format!("{e}; recovering with the default settings"), CONFIG);
            let mut policy = Policy::default();
            policy.gates.trusted_owners = configuration::trusted_owners(root);
            Ok(policy)
        }
        (Err(e), _) => Err(not_allowed(root).unwrap_or_else(|| complain(&e.to_string(), CONFIG))),
    }
}

fn dispatch(args: &Args, root: Root) -> u8 {
    let changes = changes(&args.command);
    if changes && root.is_live() && !nix::unistd::geteuid().is_root() {
        return complain("this changes the node: run as root, or on a node tree with --root", NOT_ROOT);
    }
    if changes {
        let service = matches!(args.command, Command::Daemon);
        journal::init(if service { journal::Target::Service } else { journal::Target::Detect }, args.verbose);
    }
    if let Some(code) = without_policy(&args.command, &root) {
        // whoever may not read what it answers from has got no answer
        return if code == 0 { code } else { not_allowed(&root).unwrap_or(code) };
    }
    if let Command::Export { listen } = &args.command {
        return export::run(root, listen.clone());
    }
    let policy = match policy(&root, &args.command) {
        Ok(policy) => policy,
        Err(code) => return code,
    };
    let mut root = root;
    root.trust(&policy.gates.trusted_owners);
    match &args.command {
        Command::Daemon => return run_daemon(args, root),
        Command::Check(args) => return check::run(&root, &policy, args),
        Command::Watch(args) => return watch::run(root, policy, args),
        _ => {}
    }
    let by = Some(process::person()).filter(|_| !is_by_itself(&args.command));
    let host = Host { by, ..Host::new(root) };
    let session = Session::open(&host, &policy);
    if let Some(code) = not_allowed(&host.root).filter(|_| is_about_this_node(&args.command)) {
        return code;
    }
    match &args.command {
        Command::Plan { selection, output } => show_plan(&session, selection, *output),
        Command::Renew { selection, dry_run, force, output } => {
            let plan = match session.plan(&select(selection)) {
                Ok(plan) => plan,
                Err(e) => return fail(&e, not_planned(&e)),
            };
            decided_to_force(&host, if *dry_run { &[] } else { force }, "renew");
            let result = session.carry_out(&plan, *dry_run, force, &watched()).map_err(Into::into);
            finish(&host.root, &policy.hook, result, *output)
        }
        Command::Rollback { id, force, output } => {
            decided_to_force(&host, force, "rollback");
            let result = session.rollback(id.as_deref(), force, &watched());
            finish(&host.root, &policy.hook, result, *output)
        }
        Command::Served => print_json(&endpoints::served(&host, &session.inventory)),
        Command::Diagnose { subject, all, output } => diagnose::run(&session, subject.as_deref(), *all, *output),
        Command::Recover { accept: Some(id), output, .. } => accept(&session, id, *output),
        Command::Recover { unattended: true, output, .. } => recover_unattended(&session, *output),
        Command::Recover { files_only, output, .. } => recover(&session, *files_only, *output),
        Command::Pause(asked) => fleet::pause(&session, asked),
        Command::Resume { reach } => fleet::resume(&session, reach),
        Command::Fleet { kubeconfig, clear_harm, output } => {
            fleet::show(&session, kubeconfig.as_deref(), *clear_harm, *output)
        }
        _ => complain("this command is not reached here", USAGE),
    }
}

/// What systemd starts, at boot and by its timer.
fn is_by_itself(command: &Command) -> bool {
    matches!(command, Command::Recover { unattended: true, .. } | Command::Recover { files_only: true, .. })
}

/// Before it is tried: whatever becomes of it, somebody wanted these gates not to count.
fn decided_to_force(host: &Host, gates: &[Gate], command: &str) {
    if !gates.is_empty() {
        let gates: Vec<&str> = gates.iter().map(|gate| gate.id()).collect();
        acts::record(host, What::Force, &format!("{command} with --force {}", gates.join(" --force ")));
    }
}

/// Others ask the cluster, with a kubeconfig of their own.
fn is_about_this_node(command: &Command) -> bool {
    match command {
        Command::Fleet { kubeconfig, .. } => kubeconfig.is_none(),
        Command::Pause(PauseArgs { reach, .. }) | Command::Resume { reach } => reach.kubeconfig.is_none(),
        _ => true,
    }
}

/// Started by systemd's timer, because certwarden was killed while it held the kubelet (`txn::steps::unit`).
fn recover_unattended(session: &Session<'_>, output: Output) -> u8 {
    match session.recover(Reach::Full, false, &watched()) {
        Err(EngineError::Lock(LockError::Busy { .. })) => 0, // it lives, and the timer comes again
        result => {
            session.nobody_is_held();
            match result {
                Ok(None) => 0,
                Ok(Some(report)) => finish(&session.host.root, &session.policy.hook, Ok(report), output),
                Err(e) => finish(&session.host.root, &session.policy.hook, Err(e.into()), output),
            }
        }
    }
}

fn recover(session: &Session<'_>, files_only: bool, output: Output) -> u8 {
    let host = session.host;
    let reach = if files_only { Reach::FilesOnly } else { Reach::Full };
    // at boot the kubelet waits for this, and units that hooks start may wait for the kubelet
    let hooks: &[Hook] = if files_only { &[] } else { &session.policy.hook };
    let observed_only = !files_only && DaemonState::load(&host.root).state.observe_only.is_some();
    match session.recover(reach, true, &watched()) {
        Ok(Some(report)) => {
            if !files_only {
                acts::record(host, What::Recover, &report.reason);
            }
            finish(&host.root, hooks, Ok(report), output)
        }
        Ok(None) => {
            if observed_only {
                acts::record(host, What::Recover, "renewals are allowed again");
            }
            let nothing = Report::new(Outcome::NothingToDo, "no transaction is unfinished", host.clock.now());
            finish(&host.root, hooks, Ok(nothing), output)
        }
        Err(e) => finish(&host.root, hooks, Err(e.into()), output),
    }
}

fn accept(session: &Session<'_>, id: &str, output: Output) -> u8 {
    let (host, id) = (session.host, Some(id).filter(|id| !id.is_empty()));
    let by = host.by.clone().unwrap_or_default();
    let result = session.accept(id, &by, &watched()).map(|accepted| {
        if let Some(id) = accepted.as_ref().and_then(|report| report.transaction.as_deref()) {
            acts::record(host, What::Accept, id);
        }
        let nothing = || Report::new(Outcome::NothingToDo, "no transaction is unproven", host.clock.now());
        accepted.unwrap_or_else(nothing)
    });
    finish(&host.root, &session.policy.hook, result, output)
}

/// The daemon reads the configuration itself, now and whenever it is told to.
fn run_daemon(args: &Args, root: Root) -> u8 {
    let work = match Root::open(&args.root) {
        Ok(own) => Box::new(daemon::NodeWork::new(Host::new(own))),
        Err(e) => return fail(&e, USAGE),
    };
    match daemon::run(root, work) {
        Ok(()) => 0,
        Err(e) => fail(&e, e.exit_code()),
    }
}

/// Progress that a person at a terminal can follow.
fn watched() -> Arc<Progress> {
    let progress = Arc::new(Progress::new("starting", Duration::from_secs(60)).with_listener(terminal::step));
    signals::obey(&progress);
    terminal::count();
    progress
}

fn select(selection: &SelectionArgs) -> Selection {
    match (selection.all, selection.names.is_empty()) {
        (true, _) => Selection::All,
        (false, true) => Selection::Due,
        (false, false) => Selection::Names(selection.names.clone()),
    }
}

fn show_plan(session: &Session<'_>, selection: &SelectionArgs, output: Output) -> u8 {
    let plan = match session.plan(&select(selection)) {
        Ok(plan) => plan,
        Err(e) => return fail(&e, not_planned(&e)),
    };
    let gates = |part: &Plan| if plan.is_empty() { Vec::new() } else { session.in_the_way(part) };
    let told = match output {
        Output::Json => print_json(&plan::Document::new(&plan, &gates)),
        Output::Table => {
            let parts: Vec<String> = plan.parts().map(|part| plan::render(part, &gates(part))).collect();
            let foresight = if plan.is_empty() { plan::foresight(&session.assessment) } else { String::new() };
            print(&(parts.join(plan::THEN) + &foresight));
            0
        }
    };
    told.max(u8::from(plan.skipped.iter().any(|s| s.due || s.blocks)))
}

/// As `renew` would refuse it.
fn not_planned(e: &PlanError) -> u8 {
    match e {
        PlanError::UnknownName(_) => USAGE,
        PlanError::NoNode { .. } => Outcome::Refused.exit_code(),
    }
}

fn show_history(root: &Root, id: Option<&str>, output: Output) -> u8 {
    use crate::txn::history as past;
    match (id, output) {
        (Some(id), _) => match past::report(root, id) {
            Some(report) if output == Output::Json => print_json(&report),
            Some(report) => {
                print_painted(&told(&report));
                0
            }
            None => not_allowed(root).unwrap_or_else(|| {
                complain(&format!("there is no report of {id}; `certwarden history` lists what is kept"), USAGE)
            }),
        },
        (None, output) => match past::list(root) {
            Ok(all) if output == Output::Json => print_json(&history::Document::new(&all, &acts::list(root))),
            Ok(all) => {
                print(&history::render(&all, &acts::list(root)));
                0
            }
            Err(e @ FsError::Permission { .. }) => fail(&e, NOT_ROOT),
            Err(e) => fail(&e, USAGE),
        },
    }
}

/// The report for people, its first line in the colour of how it went.
fn told(report: &Report) -> Painted {
    let severity = match report.exit_code() {
        0 => Severity::Ok,
        1 => Severity::Warning,
        _ => Severity::Critical,
    };
    terminal::headline(severity, &report::render(report), terminal::colour())
}

/// Remembers and tells a report, also to hooks, or tells why there is none.
fn finish(root: &Root, hooks: &[Hook], result: Result<Report, SessionError>, output: Output) -> u8 {
    terminal::rest();
    match result {
        Ok(report) => {
            // as it was is no news
            if !report.repeated {
                DaemonState::remember(root, &report);
            }
            match output {
                Output::Json => {
                    print_json(&report);
                }
                Output::Table => print_painted(&told(&report)),
            }
            // a person has seen the refusal
            if !report.repeated && !matches!(report.outcome, Outcome::Refused | Outcome::LeftOut) {
                daemon::tell_hooks(root, hooks, &report);
            }
            report.exit_code()
        }
        Err(SessionError::Plan(e)) => fail(&e, not_planned(&e)),
        Err(
            e @ (SessionError::NoBackup { .. }
            | SessionError::NotUnproven { .. }
            | SessionError::Engine(EngineError::SeveralUnproven { .. })),
        ) => fail(&e, USAGE),
        Err(e @ SessionError::Engine(EngineError::Lock(LockError::Busy { .. }))) => fail(&e, BUSY),
        // whether files are half committed nobody can say: as grave as a rollback that failed
        Err(e @ SessionError::Engine(EngineError::Ledger(_))) => fail_or_not_allowed(&e, 3),
        Err(e) => fail_or_not_allowed(&e, 1),
    }
}

fn tell((text, code): (String, u8)) -> u8 {
    print(&text);
    code
}
