//! The manual pages. Options, commands, examples and exit codes are the code's; the keys are those of the shipped file.

use certwarden::cli::manual::{command, exit_codes};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::pages::reference::{examples, keys};

const WHAT: [&str; 3] = [
    "certwarden renews the certificates of the kubeadm node that it runs on, before they expire: in a transaction, with \
     proof that the running processes took them, and a rollback when they did not. It never makes a node worse than it \
     found it.",
    "As a daemon (certwarden.service) it looks every hour and renews what has less than 30 days left. It is not enabled \
     by the package: installing renews nothing. `systemctl enable --now certwarden` starts it, and enables \
     certwarden-recover.service with it, which makes the files consistent at boot after a power cut, before the kubelet \
     starts. Without the daemon, certwarden-check.timer checks once a day and fails visibly.",
    "By hand, every command below does what the daemon does, with the same code.",
];
const FILES: [(&str, &str); 8] = [
    ("/etc/certwarden/certwarden.toml, /etc/certwarden/config.d/*.toml", "settings; see certwarden.toml(5)"),
    ("/usr/lib/certwarden/config.d/10-defaults.toml", "every key with its default and what it costs to change it"),
    ("/var/lib/certwarden", "transactions with their ledgers, reports and the old files, keys included; for root only"),
    ("/run/certwarden/status.json", "what the daemon sees; no secrets"),
    ("/run/certwarden/metrics.prom, /run/certwarden-watch/metrics.prom", "metrics, for everybody"),
    ("/etc/certwarden/watch.kubeconfig", "who `certwarden watch` is for the API server; for root only"),
    ("/usr/lib/systemd/system/certwarden*.service, .timer", "the units; drop-ins go to /etc/systemd/system"),
    ("/usr/share/doc/certwarden", "how-tos, examples of drop-ins, licences, SBOM"),
];
const SIGNALS: [(&str, &str); 2] = [
    ("SIGHUP", "the daemon reads its configuration again; a faulty one is told, and the old one stays"),
    ("SIGTERM", "the daemon ends; a transaction under way is brought to a safe point first"),
];
const ENVIRONMENT: [(&str, &str); 1] = [("NO_COLOR", "if not empty: no colours, on a terminal either")];

/// File name and text of every page.
pub fn all() -> Vec<(String, Vec<u8>)> {
    let mut whole = command();
    whole.build();
    let mut pages = vec![("certwarden.8".to_owned(), main_page(&whole)), ("certwarden.toml.5".to_owned(), settings())];
    for sub in whole.get_subcommands() {
        descend(sub, "certwarden", &mut pages);
    }
    pages
}

fn descend(sub: &clap::Command, above: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = format!("{above}-{}", sub.get_name());
    let mut page = page(sub.clone());
    page.extend(examples_section(sub));
    page.extend(see_also(&["certwarden(8)", "certwarden.toml(5)"]));
    pages.push((format!("{name}.8"), page));
    for below in sub.get_subcommands() {
        descend(below, &name, pages);
    }
}

/// Title, name, synopsis, description and options, as clap knows them.
fn page(command: clap::Command) -> Vec<u8> {
    let man = titled(command);
    let mut page = Vec::new();
    // a Vec takes whatever is written
    let _ = man.render_title(&mut page);
    let _ = man.render_name_section(&mut page);
    let _ = man.render_synopsis_section(&mut page);
    let _ = man.render_description_section(&mut page);
    let _ = man.render_options_section(&mut page);
    page
}

/// Of certwarden, not of this program.
fn version() -> String {
    format!("certwarden {}", command().get_version().unwrap_or_default())
}

fn titled(command: clap::Command) -> Man {
    let version = version();
    // no date: the same sources make the same bytes
    Man::new(command.disable_help_flag(true)).section("8").date("").source(version).manual("System Administration")
}

fn main_page(whole: &clap::Command) -> Vec<u8> {
    let mut page = page(whole.clone().long_about(WHAT.join("\n\n")));
    let commands: Vec<(String, String)> = whole
        .get_subcommands()
        .map(|c| {
            (format!("certwarden-{}(8)", c.get_name()), c.get_about().map(ToString::to_string).unwrap_or_default())
        })
        .collect();
    page.extend(list("COMMANDS", commands.iter().map(|(n, t)| (n.as_str(), t.as_str()))));
    let codes: Vec<(String, String)> =
        exit_codes().into_iter().map(|(of, code, what)| (code.to_string(), format!("({of}) {what}"))).collect();
    page.extend(list("EXIT STATUS", codes.iter().map(|(n, t)| (n.as_str(), t.as_str()))));
    page.extend(list("FILES", FILES));
    page.extend(list("SIGNALS", SIGNALS));
    page.extend(list("ENVIRONMENT", ENVIRONMENT));
    page.extend(examples_section(whole));
    page.extend(see_also(&["certwarden.toml(5)", "kubeadm(1)", "kubelet(1)", "journalctl(1)", "systemd.unit(5)"]));
    page
}

fn settings() -> Vec<u8> {
    let mut roff = Roff::new();
    roff.control("TH", ["certwarden.toml", "5", "", version().as_str(), "File Formats"]);
    roff.control("SH", ["NAME"]).text([roman("certwarden.toml - settings of certwarden")]);
    roff.control("SH", ["SYNOPSIS"]);
    for path in certwarden::config::DIRECTORIES {
        roff.text([italic(format!("{path}/*.toml"))]).control("br", []);
    }
    roff.text([italic(certwarden::config::MAIN_FILE)]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in [
        "The files are TOML and are read in this order; a later value replaces an earlier one, key by key. Fragments of \
         all three directories are sorted by name; of two with the same name the one in the later directory counts, and \
         a link to /dev/null masks it. Without any file all values are the defaults.",
        "A file or directory that others than root may write, an unknown key and a value of the wrong kind are errors: \
         nothing is done with a configuration that is not understood (exit status 78). `certwarden config check` names \
         each fault, `certwarden config show --origin` the source of each value. `systemctl reload certwarden` takes a \
         change; a faulty one is told and the old one stays.",
        "Spans of time are written as in \"30d\", \"12h\", \"90s\".",
    ] {
        roff.control("PP", []).text([roman(paragraph)]);
    }
    roff.control("SH", ["KEYS"]);
    for key in keys() {
        roff.control("TP", []).text([bold(format!("{} = {}", key.name, key.default))]);
        roff.text([roman(key.text.join(" "))]);
    }
    let mut page = roff.to_roff().into_bytes();
    page.extend(see_also(&["certwarden(8)"]));
    page
}

fn list<'a>(title: &str, rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, text) in rows {
        roff.control("TP", []).text([bold(name)]).text([roman(text)]);
    }
    roff.to_roff().into_bytes()
}

fn examples_section(command: &clap::Command) -> Vec<u8> {
    let found = examples(command);
    if found.is_empty() {
        return Vec::new();
    }
    list("EXAMPLES", found.iter().map(|e| (e.line.as_str(), e.what.as_str())))
}

fn see_also(pages: &[&str]) -> Vec<u8> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
    roff.to_roff().into_bytes()
}
