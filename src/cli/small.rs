//! The program that people start. It is what of certwarden needs no OpenSSL, which takes longer to be loaded than a
//! healthy node to be checked: a `check` that raises no question about a key or a signature is answered here, by the
//! same code as everywhere. For everything else this process becomes the whole program (execve(2)).

use std::convert::Infallible;
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Parser as _, Subcommand};

use super::args::{Args, CheckArgs};
use super::check;
use super::output::complain;
use crate::collect::{Library, PublicKey, Units};
use crate::config as configuration;
use crate::host::core_dump;
use crate::host::fs::Root;
use crate::model::unit::Loaded;

/// The whole program: beside this one, as cargo builds them, or where packages put what nobody starts by hand.
const WHOLE: [&str; 2] = ["certwarden-full", "../lib/certwarden/certwarden-full"];
/// sysexits(3), `EX_OSFILE`: half of certwarden is missing.
pub const INCOMPLETE: u8 = 72;

/// The commands that are answered here. Of the others clap is not even told: it would take 22 pages of memory for them, of
/// 142 that a `check` touches.
#[derive(Debug, Subcommand)]
enum Answered {
    Check(CheckArgs),
}

/// Runs one command and returns the exit code.
pub fn run_small(args: impl IntoIterator<Item = OsString>) -> u8 {
    core_dump::disable();
    let whole = Whole { args: args.into_iter().collect() };
    whole.small_check().unwrap_or_else(|| whole.replace_this())
}

/// What this process can become.
#[derive(Debug)]
struct Whole {
    args: Vec<OsString>,
}

impl Whole {
    /// None for all but a `check`, and for whatever the whole program will have to complain about.
    fn small_check(&self) -> Option<u8> {
        let args = Args::try_parse_from(&self.args).ok()?;
        let Answered::Check(asked) = args.command;
        let mut root = Root::open(&args.root).ok()?;
        let settings = configuration::load(&root).ok()?;
        root.trust(&settings.policy.gates.trusted_owners);
        Some(check::run((self, self), &root, &settings.policy, &asked))
    }

    /// Returns an exit code only if there is no whole program.
    fn replace_this(&self) -> u8 {
        match self.exec() {
            Ok(never) => match never {},
            Err((path, e)) => {
                let path = path.display();
                complain(&format!("cannot start {path}: {e}; certwarden is not installed in whole"), INCOMPLETE)
            }
        }
    }

    fn exec(&self) -> Result<Infallible, (PathBuf, io::Error)> {
        let own = std::env::current_exe().map_err(|e| (PathBuf::from("/proc/self/exe"), e))?;
        let dir = own.parent().unwrap_or(Path::new("/usr/bin"));
        let mut args = self.args.iter();
        let name = args.next().cloned().unwrap_or_default();
        let start = |place: &str| {
            let path = dir.join(place);
            let error = Process::new(&path).arg0(&name).args(args.clone()).exec();
            (path, error)
        };
        let [beside, installed] = WHOLE;
        match start(beside) {
            (_, e) if e.kind() == io::ErrorKind::NotFound => Err(start(installed)),
            failed => Err(failed),
        }
    }

    /// In the middle of a `check`, before a word has been said: the other process begins anew.
    fn ask(&self) -> ! {
        std::process::exit(self.replace_this().into())
    }
}

/// A kubelet that does not run on a running system: systemd is asked what it would start, over D-Bus.
impl Units for Whole {
    fn loaded(&self, root: &Root, _unit: &str) -> Option<Loaded> {
        if root.is_live() { self.ask() } else { None }
    }
}

/// There is none here: whoever is asked in earnest must be the whole program.
impl Library for Whole {
    fn public_bits(&self, _label: &str, _der: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.ask()
    }

    fn public_key(&self, _spki: &[u8]) -> Option<Box<dyn PublicKey>> {
        self.ask()
    }
}
