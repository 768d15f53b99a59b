//! Random units, read by certwarden and by systemd itself (`systemd --test`, which loads and starts nothing): the command and the
//! environment are the same, or certwarden says that it does not know. Where there is no systemd, nothing is compared.

#![allow(missing_debug_implementations, reason = "made by proptest's macro")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use certwarden::model::unit::{Machine, Service};
use proptest::collection::vec;
use proptest::prelude::*;

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// systemd refuses to do this as root (`Don't run test mode as root.`).
const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
const AT_ONCE: usize = 150;

/// By unit: the command line and the variables that systemd has taken from its file.
type Taken = BTreeMap<String, (Option<String>, Vec<String>)>;

fn systemd(dir: &Path) -> Option<Taken> {
    if !Path::new(SYSTEMD).exists() {
        return None;
    }
    let output = Command::new(NOBODY[0])
        .args(&NOBODY[1..])
        .args([SYSTEMD, "--test", "--system", "--unit=all.target"])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.display()))
        .env("XDG_RUNTIME_DIR", dir)
        .env("SYSTEMD_LOG_LEVEL", "err")
        .current_dir("/")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut taken, mut unit) = (Taken::new(), String::new());
    for line in text.lines() {
        let line = line.trim_start();
        if let Some(name) = line.strip_prefix("-> Unit ") {
            name.trim_end_matches(':').clone_into(&mut unit);
            taken.insert(unit.clone(), (None, Vec::new()));
        } else if let Some(command) = line.strip_prefix("Command Line: ") {
            taken.get_mut(&unit)?.0.get_or_insert_with(|| command.to_owned());
        } else if let Some(variable) = line.strip_prefix("Environment: ") {
            taken.get_mut(&unit)?.1.push(variable.to_owned());
        }
    }
    (!taken.is_empty()).then_some(taken)
}

/// The words that systemd prints: those with odd characters in double quotes (systemd: `src/basic/escape.c:quote_command_line`).
fn words(printed: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), None::<String>, false, false);
    for c in printed.chars() {
        match c {
            _ if escaped => {
                word.get_or_insert_default().push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[cdeg]{1,4}",
        Just(" ".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("\\x41".to_owned()),
        Just("\\s".to_owned()),
        Just("\\\"".to_owned()),
        Just("\\101".to_owned()),
        Just("%%".to_owned()),
        Just("%n".to_owned()),
        Just("%p".to_owned()),
        Just("%i".to_owned()),
        Just("%h".to_owned()),
        Just("--d=".to_owned()),
        Just(" ; ".to_owned()),
        Just(" \\; ".to_owned()),
        Just("\\\n".to_owned()),
        Just("\\\n# c\n".to_owned()),
        Just("#".to_owned()),
        Just(";".to_owned()),
    ]
}

fn unit() -> impl Strategy<Value = String> {
    let arguments = vec(piece(), 0..12).prop_map(|p| p.concat());
    let variable = vec(piece(), 0..6).prop_map(|p| p.concat());
    let prefix = prop_oneof![Just(""), Just("-"), Just("@"), Just("+"), Just(":"), Just("!")];
    (arguments, variable, prefix).prop_map(|(arguments, variable, prefix)| {
        format!("[Service]\nType=simple\nEnvironment=A={variable}\nExecStart={prefix}/bin/true {arguments}\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn systemd_and_certwarden_take_the_same_words_from_a_unit(units in vec(unit(), AT_ONCE)) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut all = "[Unit]\nDefaultDependencies=no\n".to_owned();
        for (i, text) in units.iter().enumerate() {
            let _ = writeln!(all, "Wants=u{i}.service");
            fs::write(dir.path().join(format!("u{i}.service")), text).unwrap();
        }
        fs::write(dir.path().join("all.target"), all).unwrap();
        let Some(taken) = systemd(dir.path()) else { return Ok(()) };
        let mut compared = 0;
        for (i, text) in units.iter().enumerate() {
            let name = format!("u{i}.service");
            let machine = Machine { host_name: None, machine_id: None, unit: name.clone() };
            let ours = Service::parse([text.as_str()], &machine);
            if !ours.doubts.is_empty() || ours.exec_start.is_empty() {
                continue;
            }
            let Some((command, variables)) = taken.get(&name) else {
                return Err(TestCaseError::fail(format!("systemd refuses what certwarden takes: {text}")));
            };
            let Some(command) = command else {
                return Err(TestCaseError::fail(format!("systemd has no command for: {text}")));
            };
            // where the program is given another name, systemd prints that one
            let (theirs, own) = (words(command), &ours.exec_start);
            let renamed = text.contains("ExecStart=@");
            prop_assert_eq!(theirs.get(usize::from(renamed)..), own.get(usize::from(renamed)..), "{}", text);
            let a = ours.environment.get("A").map(|value| format!("A={value}"));
            let theirs = variables.iter().find(|v| v.starts_with("A="));
            prop_assert_eq!(theirs, a.as_ref(), "{}", text);
            compared += 1;
        }
        prop_assert!(compared > AT_ONCE / 4, "only {} compared", compared);
    }
}
