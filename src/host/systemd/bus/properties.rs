//! The properties of a unit, read off the bus.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use zbus::wire::{OwnedObjectPath, OwnedVariant};

use crate::host::systemd::UnitStatus;
use crate::model::unit::{Loaded, LoadedCommand};

/// A unit's properties. A property of another type than expected counts as absent.
pub(super) struct Properties(pub(super) HashMap<String, OwnedVariant>);

impl Properties {
    fn get<'a, T: TryFrom<&'a zbus::Variant<'a>>>(&'a self, name: &str) -> Option<T> {
        let value: &zbus::Variant<'_> = self.0.get(name)?;
        T::try_from(value).ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get::<&str>(name).map(str::to_owned)
    }

    /// Microseconds; zero for `infinity`, which is the largest number.
    fn time(&self, name: &str) -> Duration {
        match self.get::<u64>(name) {
            Some(u64::MAX) | None => Duration::ZERO,
            Some(micros) => Duration::from_micros(micros),
        }
    }

    /// Microseconds since 1970; 0 for "never".
    fn instant(&self, name: &str) -> Option<Timestamp> {
        let micros = self.get::<u64>(name).filter(|us| *us != 0)?;
        Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()
    }

    fn list<T>(&self, name: &str) -> Vec<T>
    where
        Vec<T>: TryFrom<OwnedVariant>,
    {
        let value = self.0.get(name).and_then(|v| v.try_clone().ok());
        value.and_then(|v| Vec::<T>::try_from(v).ok()).unwrap_or_default()
    }

    fn sources(&self) -> Vec<PathBuf> {
        let fragment = self.text("FragmentPath").filter(|path| !path.is_empty());
        // each with whether it may be missing
        let environment = self.list::<(String, bool)>("EnvironmentFiles").into_iter().map(|(path, _)| path);
        fragment.into_iter().chain(self.list("DropInPaths")).chain(environment).map(PathBuf::from).collect()
    }

    /// The job queued or running for the unit: `(uo)`, id 0 for none.
    pub(super) fn job(&self) -> Option<OwnedObjectPath> {
        let value = self.0.get("Job")?.try_clone().ok()?;
        let (id, path) = <(u32, OwnedObjectPath)>::try_from(value).ok()?;
        (id != 0).then_some(path)
    }

    fn invocation_id(&self) -> String {
        let bytes =
            self.0.get("InvocationID").and_then(|v| v.try_clone().ok()).and_then(|v| Vec::<u8>::try_from(v).ok());
        let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
        bytes.unwrap_or_default().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// `ExecStartEx` says more, since systemd 243.
    fn commands(&self) -> Vec<LoadedCommand> {
        // behind what concerns us: times, PID and ending of the last run
        type Plain = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
        type Extended = (String, Vec<String>, Vec<String>, u64, u64, u64, u64, u32, i32, i32);
        if self.0.contains_key("ExecStartEx") {
            let command = |(path, argv, flags, ..): Extended| {
                let verbatim = flags.iter().any(|flag| flag == "no-env-expand");
                LoadedCommand { path, argv, verbatim }
            };
            return self.list("ExecStartEx").into_iter().map(command).collect();
        }
        let command = |(path, argv, ..): Plain| LoadedCommand { path, argv, verbatim: false };
        self.list("ExecStart").into_iter().map(command).collect()
    }

    pub(super) fn loaded(&self) -> Loaded {
        let text = |name| self.text(name).unwrap_or_default();
        Loaded {
            load_state: text("LoadState"),
            commands: self.commands(),
            environment: self.list("Environment"),
            environment_files: self.list("EnvironmentFiles"),
            unset_environment: self.list("UnsetEnvironment"),
            pass_environment: self.list("PassEnvironment"),
            root_directory: text("RootDirectory"),
            root_image: text("RootImage"),
            slice: text("Slice"),
        }
    }

    pub(super) fn status(&self) -> UnitStatus {
        let text = |name| self.text(name).unwrap_or_default();
        UnitStatus {
            load_state: text("LoadState"),
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            result: text("Result"),
            invocation_id: self.invocation_id(),
            main_pid: self.get("MainPID").unwrap_or(0),
            n_restarts: self.get("NRestarts").unwrap_or(0),
            exec_main_status: self.get("ExecMainStatus").unwrap_or(0),
            inactive_since: self.instant("InactiveEnterTimestamp"),
            has_job: self.job().is_some(),
            need_daemon_reload: self.get("NeedDaemonReload").unwrap_or(false),
            sources: self.sources(),
            timeout_start: self.time("TimeoutStartUSec"),
            timeout_stop: self.time("TimeoutStopUSec"),
            restart_delay: self.time("RestartUSec"),
        }
    }
}
