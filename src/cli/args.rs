//! The command line (docs/architecture.md, "Command line").

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::help;
use crate::model::gate::Gate;
use crate::model::policy::Span;

/// Renews the certificates of a kubeadm node in a transaction, proves that they took, rolls back when they did not.
#[derive(Debug, Parser)]
#[command(name = "certwarden", bin_name = "certwarden", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = help::MAIN)]
pub struct Args<C: Subcommand = Command> {
    /// Work on the node tree in DIR (a mounted disk image) instead of on this machine.
    #[arg(long, global = true, default_value = "/", value_name = "DIR", hide_default_value = true)]
    pub root: PathBuf,

    /// Say more.
    #[arg(short, long, global = true)]
    pub verbose: bool,

    #[command(subcommand)]
    pub command: C,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Assess every certificate now. Exit: 0 ok, 1 warning, 2 critical, 3 cannot tell, 77 run as root.
    #[command(after_help = help::CHECK)]
    Check(CheckArgs),
    /// Say what `renew` would do, step by step, and why. Exit: 0 all that is due, 1 something that is due would be left out.
    #[command(after_help = help::PLAN)]
    Plan {
        #[command(flatten)]
        selection: SelectionArgs,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Renew what is due, or what is named. Exit: 0 done or nothing is due, 1 refused or something that is due was left out,
    /// 2 rolled back, 3 rollback failed.
    #[command(after_help = help::RENEW)]
    Renew {
        #[command(flatten)]
        selection: SelectionArgs,
        /// Stage, validate and rehearse on the live node, report, and discard: not one byte is changed.
        #[arg(long)]
        dry_run: bool,
        /// Override a soft gate. May be given several times.
        #[arg(long, value_name = "GATE")]
        force: Vec<Gate>,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Put the files of a transaction's backup back, as a transaction of its own; the newest without ID.
    #[command(after_help = help::ROLLBACK)]
    Rollback {
        /// Of the transaction, as `certwarden history` lists it.
        id: Option<String>,
        /// Override a soft gate. May be given several times.
        #[arg(long, value_name = "GATE")]
        force: Vec<Gate>,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Finish what a crash or a power cut left unfinished, clear a failed rollback once its cause is gone, and verify again
    /// what could not be proven.
    #[command(after_help = help::RECOVER)]
    Recover {
        /// Make the files consistent and touch no service: at boot, before the kubelet starts.
        #[arg(long)]
        files_only: bool,
        /// Close a transaction that is in place and could not be proven, by your word; without ID the only one.
        #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", conflicts_with = "files_only")]
        accept: Option<String>,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Nobody asked: as the daemon does it, and nothing where another certwarden is running.
        #[arg(long, hide = true, conflicts_with = "files_only")]
        unattended: bool,
    },
    /// List the transactions that are kept, or show the report of one.
    #[command(after_help = help::HISTORY)]
    History {
        /// Of a transaction.
        id: Option<String>,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show what the daemon last saw and what it will do next.
    #[command(after_help = help::STATUS)]
    Status {
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Renew nothing for a while, except in an emergency: on this node, or in the whole cluster.
    #[command(after_help = help::PAUSE)]
    Pause(PauseArgs),
    /// End a pause.
    #[command(after_help = help::RESUME)]
    Resume {
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Show every node of the cluster: what ends first there, what comes next, who is at work.
    #[command(after_help = help::FLEET)]
    Fleet {
        /// Instead of this node's admin.conf.
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
        /// Let the others go on after a renewal that did not end well; look at it first.
        #[arg(long)]
        clear_harm: bool,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Find the root cause of a failing certificate, step by step. Exit: 0 healthy, 1 warning, 2 critical, 3 cannot tell.
    #[command(after_help = help::DIAGNOSE)]
    Diagnose {
        /// `kubelet` (the default), `clients`, `layers` (what `certwarden watch` found), or the logical name of a certificate.
        #[arg(conflicts_with = "all")]
        subject: Option<String>,
        /// The kubelet's playbook, the clients', and one for every certificate that is not well.
        #[arg(long)]
        all: bool,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the runbook of an alert, a finding or a gate; without ID list them.
    #[command(after_help = help::RUNBOOK)]
    Runbook {
        /// As alerts, `check` and refusals name it.
        id: Option<String>,
    },
    /// Answer node-problem-detector by what the daemon saw last. Exit: 0 fine, 1 problem, 2 unknown.
    #[command(after_help = help::NPD)]
    NpdPlugin,
    /// Validate or show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run as the daemon (what certwarden.service does).
    Daemon,
    /// Serve the metrics that the daemon wrote, without any privilege (what certwarden-export.service does).
    #[command(after_help = help::EXPORT)]
    Export {
        /// Listen here, and not on the socket that systemd hands over as standard input.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
    },
    /// Follow the certificates of other layers and probe endpoints, without any privilege (what certwarden-watch.service does).
    #[command(after_help = help::WATCH)]
    Watch(WatchArgs),
    /// Say as JSON what this node's sockets show (certwarden starts itself with this).
    #[command(hide = true)]
    Served,
    /// Run kubeadm over a private copy of the node's files (certwarden starts itself with this).
    #[command(hide = true)]
    InStaging {
        /// JSON request.
        request: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read every fragment and name each fault with its file, line and key. Exit: 0 or 78.
    #[command(after_help = help::CONFIG_CHECK)]
    Check,
    /// Print every effective value.
    #[command(after_help = help::CONFIG_SHOW)]
    Show {
        /// And where it comes from.
        #[arg(long)]
        origin: bool,
    },
}

#[derive(ClapArgs, Debug)]
pub struct CheckArgs {
    /// Only these, by logical name (`apiserver`, `admin.conf`, `kubelet-client` and so on).
    pub names: Vec<String>,
    /// For people, for people with wide terminals, or for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: CheckOutput,
}

#[derive(ClapArgs, Debug)]
pub struct WatchArgs {
    /// Look once, tell, and end. Exit: 0 ok, 1 warning, 2 critical, 3 cannot tell.
    #[arg(long)]
    pub once: bool,
    /// Who asks the API server; else systemd's credential `kubeconfig`, else /etc/kubernetes/admin.conf.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// With --once: for people or for programs.
    #[arg(short, long, value_enum, default_value_t, requires = "once")]
    pub output: Output,
}

#[derive(ClapArgs, Debug)]
pub struct ReachArgs {
    /// All nodes, by an annotation in the cluster, instead of this one.
    #[arg(long)]
    pub cluster: bool,
    /// Instead of this node's admin.conf, with --cluster.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(ClapArgs, Debug)]
pub struct PauseArgs {
    /// Until then: `2026-11-30`, `2026-11-30 06:00` (local) or RFC 3339; without it until somebody resumes.
    #[arg(long, value_name = "TIME", conflicts_with = "length")]
    pub until: Option<String>,
    /// For so long: `2d`, `6h`.
    #[arg(long = "for", value_name = "LENGTH")]
    pub length: Option<Span>,
    /// What others are to read.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// In an emergency too: certificates of this node may expire meanwhile. Of this node only.
    #[arg(long, conflicts_with = "cluster")]
    pub hard: bool,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(ClapArgs, Debug)]
pub struct SelectionArgs {
    /// These, due or not, by logical name.
    #[arg(conflicts_with = "all")]
    pub names: Vec<String>,
    /// Everything that can be renewed on this node, due or not; what is due and cannot be is left out, and told.
    #[arg(long)]
    pub all: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum CheckOutput {
    #[default]
    Table,
    Wide,
    Json,
}
