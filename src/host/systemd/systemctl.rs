//! systemd by `systemctl`, which reaches PID 1 without a message bus, and the journal by `journalctl`.
//!
//! Decisions rest on `systemctl show`, whose `KEY=value` lines are a stable interface; prose is only read to name the
//! way a job ended.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{JobResult, LOG_LINE, LOG_LINES, SystemdError, UnitStatus, Verb};
use crate::host::exec::{ExecError, Invocation, Output, Program, Programs};
use crate::model::plain;

/// For a question, as over D-Bus.
const QUESTION: Duration = Duration::from_secs(30);
/// For the last lines of a log: `journalctl` may have to open gigabytes of journal files.
const LOG: Duration = Duration::from_secs(15);
const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,InvocationID,MainPID,NRestarts,ExecMainStatus,\
                          TimeoutStartUSec,TimeoutStopUSec,RestartUSec,Job,NeedDaemonReload,FragmentPath,DropInPaths,\
                          EnvironmentFiles";

pub(super) struct Systemctl {
    programs: Arc<dyn Programs>,
}

impl Systemctl {
    pub(super) fn new(programs: Arc<dyn Programs>) -> Self {
        Self { programs }
    }

    pub(super) fn status(&self, unit: &str) -> Result<UnitStatus, SystemdError> {
        let output = self.run(&["show", "--no-pager", "-p", PROPERTIES, "--", unit], QUESTION)?;
        if output.success() { Ok(parse_status(&output.stdout)) } else { Err(unreachable(&output)) }
    }

    pub(super) fn job(&self, verb: Verb, unit: &str) -> Result<JobResult, SystemdError> {
        let status = self.status(unit)?;
        match status.load_state.as_str() {
            "not-found" => return Err(SystemdError::NoSuchUnit { unit: unit.to_owned() }),
            "masked" => return Err(SystemdError::Masked { unit: unit.to_owned() }),
            _ => {}
        }
        if verb != Verb::Stop && self.stop_is_queued(unit)? {
            return Err(SystemdError::StopQueued { unit: unit.to_owned() });
        }
        let limit = verb.limit(&status);
        let output = match self.run(&["--no-ask-password", verb.word(), "--", unit], limit) {
            Err(SystemdError::TimedOut { limit, .. }) => {
                return Err(SystemdError::TimedOut { what: format!("{} {unit}", verb.word()), limit });
            }
            other => other?,
        };
        if output.success() {
            return Ok(JobResult("done".to_owned()));
        }
        if let Some(result) = job_result(&output.stderr) {
            return Ok(JobResult(result.to_owned()));
        }
        if self.system_state().is_ok_and(|state| state == "stopping") {
            return Err(SystemdError::ShuttingDown { unit: unit.to_owned() });
        }
        let detail = output.last_words();
        Err(SystemdError::Refused { what: format!("to {} {unit}", verb.word()), detail })
    }

    /// `systemctl is-system-running` exits with an error for every state but `running`, and prints it all the same.
    pub(super) fn system_state(&self) -> Result<String, SystemdError> {
        let output = self.run(&["is-system-running"], QUESTION)?;
        match output.stdout.split_whitespace().next() {
            Some(state) => Ok(state.to_owned()),
            None => Err(unreachable(&output)),
        }
    }

    /// The last lines of the unit's own output and of what PID 1 says of it. Empty if there are none to be had.
    pub(super) fn log_tail(&self, unit: &str, invocation_id: &str) -> Vec<String> {
        if invocation_id.len() != 32 || !invocation_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return self.log(&[&format!("--unit={unit}")]);
        }
        // what it said itself; a program that could not even be executed has said nothing, but systemd has
        let own = self.log(&[&format!("_SYSTEMD_INVOCATION_ID={invocation_id}")]);
        if own.is_empty() { self.log(&[&format!("INVOCATION_ID={invocation_id}"), "_PID=1"]) } else { own }
    }

    fn log(&self, matches: &[&str]) -> Vec<String> {
        let lines = LOG_LINES.to_string();
        let mut args: Vec<OsString> = ["--no-pager", "--quiet", "-o", "cat", "-n", &lines].map(OsString::from).into();
        args.extend(matches.iter().map(OsString::from));
        match self.programs.run(&Invocation { program: Program::Journalctl, args, limit: LOG }) {
            Ok(output) if output.success() => tail(&output.stdout),
            _ => Vec::new(),
        }
    }

    fn stop_is_queued(&self, unit: &str) -> Result<bool, SystemdError> {
        let output = self.run(&["list-jobs", "--no-pager", "--no-legend", "--plain", "--", unit], QUESTION)?;
        // JOB UNIT TYPE STATE
        let stop = |line: &str| line.split_whitespace().nth(2) == Some("stop");
        if output.success() { Ok(output.stdout.lines().any(stop)) } else { Err(unreachable(&output)) }
    }

    fn run(&self, args: &[&str], limit: Duration) -> Result<Output, SystemdError> {
        let args = args.iter().map(OsString::from).collect();
        match self.programs.run(&Invocation { program: Program::Systemctl, args, limit }) {
            Ok(output) => Ok(output),
            Err(ExecError::TimedOut { limit, .. }) => {
                Err(SystemdError::TimedOut { what: "systemctl".to_owned(), limit })
            }
            Err(e) => Err(SystemdError::Unreachable { detail: e.to_string() }),
        }
    }
}

fn unreachable(output: &Output) -> SystemdError {
    SystemdError::Unreachable { detail: format!("{}: {}", output.ending(), output.last_words()) }
}

/// The end of a job in systemd's words (`src/shared/bus-wait-for-jobs.c:log_job_error_with_service_result`); None if
/// there was no job at all.
pub(super) fn job_result(stderr: &str) -> Option<&'static str> {
    let line = stderr.lines().find(|l| l.starts_with("Job for ") || l.starts_with("A dependency job for "))?;
    Some(match line {
        l if l.starts_with("A dependency job") => "dependency",
        l if l.contains("canceled") => "canceled",
        l if l.contains("timed out") => "timeout",
        _ => "failed",
    })
}

pub(super) fn parse_status(text: &str) -> UnitStatus {
    let fields: HashMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let get = |name: &str| fields.get(name).copied().unwrap_or_default();
    let time = |name: &str| humantime::parse_duration(get(name)).unwrap_or_default(); // zero for `infinity`
    UnitStatus {
        load_state: get("LoadState").to_owned(),
        active_state: get("ActiveState").to_owned(),
        sub_state: get("SubState").to_owned(),
        result: get("Result").to_owned(),
        invocation_id: get("InvocationID").to_owned(),
        main_pid: get("MainPID").parse().unwrap_or(0),
        n_restarts: get("NRestarts").parse().unwrap_or(0),
        exec_main_status: get("ExecMainStatus").parse().unwrap_or(0),
        has_job: !matches!(get("Job"), "" | "0"),
        need_daemon_reload: get("NeedDaemonReload") == "yes",
        sources: sources(text),
        inactive_since: None, // in whole seconds here, and microseconds are what is asked for
        timeout_start: time("TimeoutStartUSec"),
        timeout_stop: time("TimeoutStopUSec"),
        restart_delay: time("RestartUSec"),
    }
}

/// `EnvironmentFiles` is a line for each, with a remark in parentheses (systemd: `src/systemctl/systemctl-show.c`).
fn sources(text: &str) -> Vec<PathBuf> {
    let lines = |name: &'static str| text.lines().filter_map(move |l| l.strip_prefix(name)?.strip_prefix('='));
    let environment = lines("EnvironmentFiles").filter_map(|l| l.split(" (ignore_errors=").next());
    let drop_ins = lines("DropInPaths").flat_map(str::split_whitespace);
    lines("FragmentPath").chain(drop_ins).chain(environment).filter(|p| !p.is_empty()).map(PathBuf::from).collect()
}

/// Log lines are untrusted: cut, and without what a terminal would obey.
pub(super) fn tail(text: &str) -> Vec<String> {
    let clean = |line: &str| plain::line(line, LOG_LINE);
    let lines: Vec<String> = text.lines().map(clean).filter(|l| !l.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_show_prints_becomes_the_same_status_as_over_the_bus() {
        let text = "Restart=always\nRestartUSec=10s\nTimeoutStartUSec=1min 30s\nTimeoutStopUSec=infinity\nMainPID=716\n\
                    Result=success\nNRestarts=2\nExecMainStatus=255\nLoadState=loaded\nActiveState=active\n\
                    SubState=running\nInvocationID=0123456789abcdef0123456789abcdef\n";
        let status = parse_status(text);
        assert!(status.is_running());
        assert_eq!(status.main_pid, 716);
        assert_eq!((status.n_restarts, status.exec_main_status), (2, 255));
        assert_eq!(status.timeout_start, Duration::from_secs(90));
        assert_eq!(status.timeout_stop, Duration::ZERO);
        assert_eq!(status.restart_delay, Duration::from_secs(10));
        assert_eq!(status.invocation_id, "0123456789abcdef0123456789abcdef");
        assert!(!status.has_job && !status.need_daemon_reload && status.sources.is_empty());
    }

    #[test]
    fn what_a_unit_was_read_from_is_listed_with_its_drop_ins_and_environment_files() {
        let text = "Job=812\nNeedDaemonReload=yes\nFragmentPath=/usr/lib/systemd/system/kubelet.service\n\
                    DropInPaths=/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf /etc/systemd/system/kubelet.service.d/20.conf\n\
                    EnvironmentFiles=/var/lib/kubelet/kubeadm-flags.env (ignore_errors=yes)\n\
                    EnvironmentFiles=/etc/default/kubelet (ignore_errors=yes)\n";
        let status = parse_status(text);
        assert!(status.has_job && status.need_daemon_reload);
        let expected = [
            "/usr/lib/systemd/system/kubelet.service",
            "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
            "/etc/systemd/system/kubelet.service.d/20.conf",
            "/var/lib/kubelet/kubeadm-flags.env",
            "/etc/default/kubelet",
        ];
        assert_eq!(status.sources, expected.map(PathBuf::from));
    }

    #[test]
    fn among_all_properties_of_a_real_kubelet_those_that_count_are_found() {
        let status = parse_status(include_str!("../../../tests/recorded/v1.36.2/kubelet-unit-show.txt"));
        assert!(status.is_running());
        assert_eq!((status.main_pid, status.n_restarts, status.exec_main_status), (393, 1, 0));
        assert_eq!((status.load_state.as_str(), status.result.as_str()), ("loaded", "success"));
        assert_eq!(status.invocation_id, "03f7afaa1a1b450fa9589853aac5093f");
        assert_eq!((status.timeout_start, status.timeout_stop), (Duration::from_secs(90), Duration::from_secs(90)));
        assert_eq!(status.restart_delay, Duration::from_secs(10));
    }

    #[test]
    fn rubbish_from_systemctl_is_an_unknown_state_and_not_a_panic() {
        let status = parse_status("MainPID=-1\nNRestarts=99999999999\nRestartUSec=soon\n\u{0}=\n==\n");
        assert_eq!(status, UnitStatus::default());
    }

    #[test]
    fn the_end_of_a_job_is_named_as_systemd_names_it_over_the_bus() {
        for (line, result) in [
            ("Job for a.service failed because the control process exited with error code.", Some("failed")),
            ("Job for a.service failed because a timeout was exceeded.", Some("failed")),
            ("Job for a.service canceled.", Some("canceled")),
            ("Job for a.service timed out.", Some("timeout")),
            ("A dependency job for a.service failed. See 'journalctl -xe' for details.", Some("dependency")),
            ("Failed to restart a.service: Unit a.service is masked.", None),
        ] {
            assert_eq!(job_result(line), result, "{line}");
        }
    }

    #[test]
    fn log_lines_cannot_command_a_terminal_nor_grow_without_bound() {
        let text = format!("{}\n\u{1b}[31mred\u{7}\n{}\n\n", "early\n".repeat(40), "x".repeat(100_000));
        let lines = tail(&text);
        assert_eq!(lines.len(), LOG_LINES);
        assert_eq!(lines.iter().nth_back(1).unwrap(), "\u{fffd}[31mred\u{fffd}");
        assert_eq!(lines.last().unwrap().chars().count(), LOG_LINE);
    }
}
