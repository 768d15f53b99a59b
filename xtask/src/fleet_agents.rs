//! Many agents as processes against a real API server, with the code that asks for the lock in earnest (`fleet`).
//!
//! Each agent is a worker that takes its lock, renews it before its "commit", is at work for some tenths of a second, and gives it up. One is killed
//! (SIGKILL) while it is at work. One is stopped (SIGSTOP) when it has just taken the lock, until another one has it, and continued: it
//! must not work then. `kubectl get leases --watch` says who had which lock, beside what the agents say of themselves; the API server's own
//! metrics (`apiserver_request_total`) say what it was asked. Needs kubectl; waits are a hundred times shorter than the defaults, two days of
//! spread are three minutes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for people")]
#![allow(clippy::cast_precision_loss, reason = "counts")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use certwarden::fleet::Cluster;
use certwarden::host::Host;
use certwarden::host::fs::Root;
use certwarden::model::fleet::turn;
use certwarden::model::inventory::Role;
use certwarden::model::plan::{Plan, Source};
use certwarden::model::policy::{Policy, Span};
use certwarden::model::report::{Outcome, Report};
use certwarden::model::schedule::Who;
use jiff::{SignedDuration, Timestamp};

const KILLED: u32 = 13;
const STOPPED: u32 = 7;
/// `fleet.lease-duration` here; the least that `fleet` takes.
const LASTS: Duration = Duration::from_secs(60);

/// `fleet.spread` here.
const SPREAD: Duration = Duration::from_secs(180);

/// What is heard of.
#[derive(Debug)]
enum Heard {
    /// An agent says a word: `taken`, `works`, `done`, `lost`, `asks`.
    Agent(u32, String),
    /// The watch says who has a lock: `NAME VERSION HOLDER`.
    Lease(String),
}

/// What becomes of the agents, as far as it was heard, in the order in which it was.
#[derive(Default)]
struct Seen {
    /// By slot: who is at work by their own words.
    at_work: BTreeMap<u64, u32>,
    most_at_work: usize,
    overlaps: u32,
    done: u32,
    attempts: u32,
    worked: Vec<u32>,
    lost: Vec<u32>,
    /// When one was killed at work, and how much later another one worked with its lock.
    killed: Option<Instant>,
    after_death: Option<Duration>,
    /// By Lease: all holders that the watch has told of, in order; empty for nobody.
    held: BTreeMap<String, Vec<String>>,
}

pub fn fleet(kubeconfig: &str, count: u32, at_once: u64) -> crate::Result<()> {
    let all = tempfile::tempdir()?;
    let (tell, heard) = channel();
    let mut watch = watch(kubeconfig, tell.clone());
    let idle = load(kubeconfig, Duration::from_secs(20));
    let began = Instant::now();
    let mut agents: Vec<Child> = (0..count).map(|n| start(all.path(), kubeconfig, n, at_once, tell.clone())).collect();
    let (ends, ended) = channel();
    let asked = std::thread::spawn({
        let kubeconfig = kubeconfig.to_owned();
        move || counts(&kubeconfig, &ended)
    });
    let seen = listen(&heard, &mut agents, at_once);
    let took = began.elapsed();
    ends.send(()).unwrap();
    let rates = asked.join().unwrap();
    for agent in &mut agents {
        let _ = agent.kill();
        agent.wait().unwrap();
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    println!(
        "{count} agents, {at_once} at once: {} done in {} s, {} killed at work; {} attempts",
        seen.done,
        took.as_secs(),
        count - seen.done,
        seen.attempts
    );
    println!(
        "at work at the same time by their own words: {} at most; two of one lock: {}",
        seen.most_at_work, seen.overlaps
    );
    let tenures: usize = seen.held.values().map(|h| h.iter().filter(|holder| !holder.is_empty()).count()).sum();
    println!(
        "the watch has seen {tenures} tenures of {} locks; worked without one: {:?}",
        seen.held.len(),
        seen.unheld()
    );
    println!(
        "stopped with the lock and continued: lost it {}, worked twice: {}",
        seen.lost.contains(&STOPPED),
        seen.twice()
    );
    println!("killed at work: another one worked with its lock after {:.0?}", seen.after_death.unwrap_or_default());
    let (mean, peak) =
        (rates.iter().sum::<f64>() / rates.len().max(1) as f64, rates.iter().copied().fold(0.0, f64::max));
    println!(
        "the API server was asked {mean:.1} times a second, {peak:.0} at most, {idle:.1} of them without the agents"
    );
    assert!(seen.overlaps == 0 && seen.unheld().is_empty() && seen.most_at_work as u64 <= at_once, "two at once");
    assert!(seen.after_death.is_none_or(|after| after > LASTS * 9 / 10), "it may have been alive");
    assert!(seen.lost.contains(&STOPPED) && seen.done == count - 1, "somebody did not what it should");
    Ok(())
}

impl Seen {
    /// Who says that it was at work and was never seen to hold anything.
    fn unheld(&self) -> Vec<u32> {
        let has = |n: &u32| self.held.values().flatten().any(|h| h.starts_with(&format!("agent-{n}_")));
        self.worked.iter().copied().filter(|n| !has(n)).collect()
    }

    fn twice(&self) -> bool {
        self.worked.iter().filter(|n| **n == STOPPED).count() > 1
    }
}

fn id(number: u32) -> String {
    format!("{number:032x}")
}

fn who(number: u32) -> Who {
    Who::of(&format!("agent-{number}"), &id(number))
}

fn start(all: &Path, kubeconfig: &str, n: u32, at_once: u64, tell: Sender<Heard>) -> Child {
    let own = all.join(n.to_string());
    for directory in ["etc", "var/lib/certwarden", "run/certwarden"] {
        std::fs::create_dir_all(own.join(directory)).unwrap();
    }
    std::fs::copy(kubeconfig, own.join("etc/kubeconfig")).unwrap();
    std::fs::write(own.join("etc/machine-id"), id(n) + "\n").unwrap();
    let args = ["fleet-agent", own.to_str().unwrap(), &n.to_string(), &at_once.to_string()];
    let mut agent = Command::new(std::env::current_exe().unwrap()).args(args).stdout(Stdio::piped()).spawn().unwrap();
    forward(agent.stdout.take().unwrap(), tell, move |line| Heard::Agent(n, line));
    agent
}

fn forward(
    from: impl std::io::Read + Send + 'static,
    tell: Sender<Heard>,
    what: impl Fn(String) -> Heard + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(what(line)).is_err() {
                return;
            }
        }
    });
}

fn watch(kubeconfig: &str, tell: Sender<Heard>) -> Child {
    const COLUMNS: &str = "custom-columns=N:.metadata.name,V:.metadata.resourceVersion,H:.spec.holderIdentity";
    let args = ["--kubeconfig", kubeconfig, "-n", "default", "get", "leases", "--watch", "--no-headers", "-o", COLUMNS];
    let mut watch = Command::new("kubectl").args(args).stdout(Stdio::piped()).spawn().unwrap();
    forward(watch.stdout.take().unwrap(), tell, Heard::Lease);
    watch
}

/// Until all are done but the one that is killed.
fn listen(heard: &Receiver<Heard>, agents: &mut [Child], at_once: u64) -> Seen {
    let mut seen = Seen::default();
    let slot = |n: u32| turn::slot(&who(n), at_once);
    let mut stopped_since: Option<Instant> = None;
    let all = u32::try_from(agents.len()).unwrap() - 1;
    while seen.done < all {
        let what = heard.recv_timeout(Duration::from_secs(1));
        // long enough for another one to have it
        let theirs = stopped_since.filter(|since| since.elapsed() > LASTS * 2);
        let name = format!("certwarden-worker-{}", slot(STOPPED));
        let taken = seen.held.get(&name).and_then(|h| h.iter().rev().find(|h| !h.is_empty()));
        if theirs.is_some() && taken.is_some_and(|holder| !holder.starts_with(&format!("agent-{STOPPED}_"))) {
            signal("CONT", &agents[STOPPED as usize]);
            stopped_since = None;
        }
        let Ok(what) = what else { continue };
        match what {
            Heard::Lease(line) => {
                let mut words = line.split_whitespace();
                let (Some(name), _, holder) = (words.next(), words.next(), words.next().unwrap_or_default()) else {
                    continue;
                };
                let holders = seen.held.entry(name.to_owned()).or_default();
                let holder = if holder == "<none>" { "" } else { holder };
                if holders.last().map(String::as_str) != Some(holder) {
                    holders.push(holder.to_owned());
                }
            }
            Heard::Agent(n, word) => match word.as_str() {
                "asks" => seen.attempts += 1,
                "taken" if n == STOPPED && stopped_since.is_none() && !seen.lost.contains(&n) => {
                    signal("STOP", &agents[STOPPED as usize]);
                    stopped_since = Some(Instant::now());
                }
                "works" => {
                    if seen.at_work.insert(slot(n), n).is_some() {
                        seen.overlaps += 1;
                    }
                    seen.worked.push(n);
                    seen.most_at_work = seen.most_at_work.max(seen.at_work.len());
                    if slot(n) == slot(KILLED) && seen.after_death.is_none() {
                        seen.after_death = seen.killed.map(|at| at.elapsed());
                    }
                    if n == KILLED {
                        seen.killed = Some(Instant::now());
                        signal("KILL", &agents[n as usize]);
                        seen.at_work.remove(&slot(n));
                    }
                }
                "done" => {
                    seen.at_work.remove(&slot(n));
                    seen.done += 1;
                }
                "lost" => seen.lost.push(n),
                _ => {}
            },
        }
    }
    seen
}

fn signal(name: &str, agent: &Child) {
    Command::new("kill").args(["-s", name, &agent.id().to_string()]).status().unwrap();
}

/// All requests that the API server has counted so far; None: no answer.
fn count(kubeconfig: &str) -> Option<f64> {
    let args = ["--kubeconfig", kubeconfig, "get", "--raw", "/metrics"];
    let text = String::from_utf8(Command::new("kubectl").args(args).output().ok()?.stdout).ok()?;
    let lines = text.lines().filter(|l| l.starts_with("apiserver_request_total{"));
    Some(lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// Requests a second, for each second or so until the end.
fn counts(kubeconfig: &str, ended: &Receiver<()>) -> Vec<f64> {
    let (mut rates, mut last) = (Vec::new(), None);
    while ended.recv_timeout(Duration::from_secs(1)).is_err() {
        let (at, Some(now)) = (Instant::now(), count(kubeconfig)) else { continue };
        if let Some((then, before)) = last.replace((at, now)) {
            let then: Instant = then;
            rates.push((now - before) / at.duration_since(then).as_secs_f64());
        }
    }
    rates
}

fn load(kubeconfig: &str, time: Duration) -> f64 {
    let before = count(kubeconfig).unwrap();
    std::thread::sleep(time);
    (count(kubeconfig).unwrap() - before) / time.as_secs_f64()
}

fn say(word: &str) {
    println!("{word}");
    std::io::stdout().flush().unwrap();
}

/// One agent: `directory` is its node's file system, what it says on standard output is heard by [`fleet`].
pub fn agent(directory: &Path, number: u32, at_once: u64) -> crate::Result<()> {
    let mut host = Host::new(Root::open(directory)?);
    host.live = true; // its files are its own, the cluster is not
    let mut inventory = certwarden::collect::collect(&host.root, host.clock.now(), &Policy::default().kubeconfigs);
    inventory.node.name = Some(format!("agent-{number}"));
    inventory.node.role = Role::Worker;
    let mut policy = Policy::default();
    policy.fleet.kubeconfig = "/etc/kubeconfig".into();
    policy.fleet.workers_at_once = at_once;
    "default".clone_into(&mut policy.fleet.namespace); // not those of the nodes themselves, whose control planes go first
    policy.fleet.retry = Span(Duration::from_millis(600)); // workers: 18 s and more
    policy.fleet.settle = Span::secs(10); // workers: 1 s
    policy.fleet.lease_duration = Span(LASTS);
    policy.verify.timeout = Span::secs(0);
    let plan = plan(&host);
    // as `turn::delay`, whose two days are minutes here
    std::thread::sleep(turn::share(&who(number), "spread", SPREAD));
    loop {
        say("asks");
        let cluster = Cluster::of(&host, &policy, &inventory).unwrap();
        let refused = cluster.look(&plan).refusals.into_iter().next();
        let refusal = match refused.map_or_else(|| cluster.take(&plan, &[], &|| false), Err) {
            Err(refusal) => refusal,
            Ok(held) => {
                say("taken");
                std::thread::sleep(Duration::from_millis(500)); // kubeadm takes longer
                if held.keep().is_ok() {
                    say("works");
                    std::thread::sleep(Duration::from_millis(if number == KILLED { 5_000 } else { 300 }));
                    say("done");
                    held.end(&Report::new(Outcome::Verified, "", host.clock.now()));
                    return Ok(());
                }
                // nothing is committed unguarded: another time
                say("lost");
                held.end(&Report::new(Outcome::Refused, "", host.clock.now()));
                continue;
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
        excluded: Vec::new(),
        whole: false,
        others: Vec::new(),
        then: None,
    }
}
