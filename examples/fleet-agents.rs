//! Many agents as processes against a real API server, with the code that asks for the lock in earnest (`txn::cluster`).
//!
//!     fleet-agents KUBECONFIG COUNT [AT-ONCE=8]
//!
//! Each agent is a worker that takes its lock, holds it for some tenths of a second, renews it before its "commit", and gives it up. Told at
//! the end: how long it took, and whether two of one lock ever were at work at the same time. One in twenty is killed while it holds it.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a program for people"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use certwarden::host::Host;
use certwarden::host::fs::Root;
use certwarden::model::fleet::turn;
use certwarden::model::inventory::Role;
use certwarden::model::plan::{Plan, Source};
use certwarden::model::policy::{Policy, Span};
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::cluster::Cluster;
use jiff::{SignedDuration, Timestamp};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "agent", directory, number, at_once] => agent(Path::new(directory), number, at_once.parse().unwrap()),
        [_, kubeconfig, count] => fleet(kubeconfig, count.parse().unwrap(), "8"),
        [_, kubeconfig, count, at_once] => fleet(kubeconfig, count.parse().unwrap(), at_once),
        _ => println!("fleet-agents KUBECONFIG COUNT [AT-ONCE]"),
    }
}

fn fleet(kubeconfig: &str, count: u32, at_once: &str) {
    let all = tempfile::tempdir().unwrap();
    let began = std::time::Instant::now();
    let mut agents = Vec::new();
    for n in 0..count {
        let own = all.path().join(n.to_string());
        std::fs::create_dir_all(own.join("etc")).unwrap();
        std::fs::create_dir_all(own.join("var/lib/certwarden")).unwrap();
        std::fs::create_dir_all(own.join("run/certwarden")).unwrap();
        std::fs::copy(kubeconfig, own.join("etc/kubeconfig")).unwrap();
        std::fs::write(own.join("etc/machine-id"), format!("{n:032x}\n")).unwrap();
        let own = own.to_str().unwrap().to_owned();
        let agent = Command::new(std::env::current_exe().unwrap())
            .args(["agent", &own, &n.to_string(), at_once])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        agents.push(agent);
    }
    let (mut acts, mut attempts, mut killed) = (Vec::new(), 0, 0);
    for agent in agents {
        let out = String::from_utf8(agent.wait_with_output().unwrap().stdout).unwrap();
        let words: Vec<&str> = out.split_whitespace().collect();
        let [slot, tries, from, to] = words.as_slice() else { panic!("an agent said `{out}`") };
        attempts += tries.parse::<u32>().unwrap();
        let to = if *to == "killed" {
            killed += 1;
            *from
        } else {
            *to
        };
        let time = |text: &str| text.parse::<u128>().unwrap();
        acts.push(((*slot).to_owned(), time(from), time(to)));
    }
    acts.sort();
    let overlaps = acts.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[1].1 < pair[0].2).count();
    println!(
        "{count} agents, {at_once} at once: {} acts in {:.0} s, {attempts} attempts, {killed} killed while at work, {overlaps} overlaps",
        acts.len(),
        began.elapsed().as_secs_f64()
    );
}

/// Says its lock, its attempts, and from when to when (milliseconds since boot) it was at work.
fn agent(directory: &Path, number: &str, at_once: u64) {
    let mut host = Host::new(Root::open(directory).unwrap());
    host.live = true; // its files are its own, the cluster is not
    let mut inventory = certwarden::collect::collect(&host.root, host.clock.now(), &Policy::default().kubeconfigs);
    inventory.node.name = Some(format!("agent-{number}"));
    inventory.node.role = Role::Worker;
    let mut policy = Policy::default();
    policy.fleet.kubeconfig = "/etc/kubeconfig".into();
    policy.fleet.workers_at_once = at_once;
    "default".clone_into(&mut policy.fleet.namespace); // not those of the nodes themselves, whose control planes go first
    policy.fleet.retry = Span(Duration::from_millis(700)); // workers: 21 s
    policy.fleet.settle = Span::secs(10); // workers: 1 s
    policy.fleet.lease_duration = Span::secs(20);
    policy.verify.timeout = Span::secs(5);
    let plan = plan(&host);
    for attempt in 1.. {
        let cluster = Cluster::of(&host, &policy, &inventory).unwrap();
        let refused = cluster.look(&plan).refusals.into_iter().next();
        let refusal = match refused.map_or_else(|| cluster.take(&plan, &|| false), Err) {
            Err(refusal) => refusal,
            Ok(mut held) => {
                if held.keep().is_err() {
                    // nothing is committed unguarded: another time
                    held.end(&Report::new(Outcome::Refused, "", host.clock.now()));
                    continue;
                }
                let from = host.clock.since_boot().as_millis();
                let slot = turn::slot(&format!("{:032x}", number.parse::<u32>().unwrap()), at_once);
                print!("{slot} {attempt} {from} ");
                std::io::stdout().flush().unwrap();
                std::thread::sleep(Duration::from_millis(300));
                if number.parse::<u32>().unwrap() % 20 == 7 {
                    println!("killed");
                    std::process::exit(0); // nobody gives the lock up
                }
                println!("{}", host.clock.since_boot().as_millis());
                held.end(&Report::new(Outcome::Verified, "", host.clock.now()));
                return;
            }
        };
        let wait = refusal.until.map_or(SignedDuration::from_secs(5), |at| at.duration_since(Timestamp::now()));
        std::thread::sleep(Duration::try_from(wait).unwrap_or_default());
    }
}

fn plan(host: &Host) -> Plan {
    Plan {
        schema: String::new(),
        created_at: host.clock.now(),
        node: None,
        source: Source::Local,
        source_reason: String::new(),
        items: Vec::new(),
        steps: Vec::new(),
        emergency: false,
        skipped: Vec::new(),
        others: Vec::new(),
        then: None,
    }
}
