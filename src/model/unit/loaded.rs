//! A service as systemd says that it has loaded it (org.freedesktop.systemd1(5)). The search path, drop-ins, specifiers and quotes
//! are its own work then; environment files and variables count when it starts the service, and are still to be read.

use super::{Service, assignment};

/// The properties of a unit from which its next start follows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// `loaded`, `masked`, `not-found`, `bad-setting`, …
    pub load_state: String,
    /// `ExecStart=`, one for each command.
    pub commands: Vec<LoadedCommand>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// With whether one may be missing.
    pub environment_files: Vec<(String, bool)>,
    /// Names or whole assignments.
    pub unset_environment: Vec<String>,
    pub pass_environment: Vec<String>,
    pub root_directory: String,
    pub root_image: String,
    pub slice: String,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoadedCommand {
    pub path: String,
    /// With its name as the first, variables as they stand.
    pub argv: Vec<String>,
    /// `:`, variables are left as they are.
    pub verbatim: bool,
}

impl Service {
    /// None where systemd has not loaded the unit: then its files say as much as anybody knows.
    pub fn loaded(unit: &str, loaded: Loaded) -> Option<Self> {
        let mut service = Self::default();
        match loaded.load_state.as_str() {
            "loaded" => {}
            "masked" => {
                service.doubts.push(format!("{unit} is masked"));
                return Some(service);
            }
            _ => return None,
        }
        let passed = loaded.pass_environment.join(" ");
        for (key, value) in
            [("PassEnvironment", &passed), ("RootDirectory", &loaded.root_directory), ("RootImage", &loaded.root_image)]
        {
            if !value.is_empty() {
                service.doubts.push(format!("the unit sets {key}={value}"));
            }
        }
        let mut commands = loaded.commands.into_iter();
        if let Some(command) = commands.next() {
            service.verbatim = command.verbatim;
            service.exec_start = std::iter::once(command.path).chain(command.argv.into_iter().skip(1)).collect();
        }
        if commands.next().is_some() {
            service.doubts.push("the unit has several commands in ExecStart=".to_owned());
        }
        service.environment = loaded.environment.iter().filter_map(|pair| assignment(pair)).collect();
        let file = |(path, optional): (String, bool)| if optional { format!("-{path}") } else { path };
        service.environment_files = loaded.environment_files.into_iter().map(file).collect();
        service.unset = loaded.unset_environment;
        service.slice = Some(loaded.slice).filter(|slice| !slice.is_empty());
        Some(service)
    }
}
