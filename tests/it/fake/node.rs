//! A control-plane node on the disk with the fakes around it, and what must be true of it whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use certwarden::app::session::{Session, SessionError};
use certwarden::collect::collect;
use certwarden::host::Host;
use certwarden::host::cri::Container;
use certwarden::model::finding::Problem;
use certwarden::model::gate::Gate;
use certwarden::model::inventory::{Content, Inventory};
use certwarden::model::ledger::State;
use certwarden::model::plan::Plan;
use certwarden::model::planner::Selection;
use certwarden::model::policy::{Policy, Renewer};
use certwarden::model::report::{Outcome, Report};
use certwarden::txn::engine::EngineError;
use certwarden::txn::ledger::Ledger;
use certwarden::txn::progress::Progress;
use certwarden::txn::recover::Reach;
use certwarden::txn::store;
use tempfile::TempDir;

use super::{Crash, Fake, World, begin_step};
use crate::support::acceptance::{Certificates, Worse};
use crate::support::{DAY, Options, Tree};

/// Ports on which nobody listens: sockets are silent unless a test puts a server there.
pub const APISERVER: u16 = 1;
pub const ETCD: u16 = 2;
pub const KUBELET: u16 = 3;

pub const TRANSACTIONS: &str = "/var/lib/certwarden/transactions";
const KUBE_VIP: &str = "/etc/kubernetes/manifests/kube-vip.yaml";

/// Content, mode, owner, mtime, extended attributes and link target of every file.
pub type Live = BTreeMap<PathBuf, (Vec<u8>, u32, u32, u32, i64, i64, Vec<(String, Vec<u8>)>, PathBuf)>;

pub struct Node {
    pub dir: TempDir,
    pub fake: Fake,
    pub host: Host,
    pub policy: Policy,
}

/// In memory: a transaction syncs dozens of files.
pub fn temp() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { TempDir::new_in(shm).unwrap() } else { TempDir::new().unwrap() }
}

/// Every socket on this machine, where nobody listens, and a place for the state.
pub fn on_the_loopback(tree: &Tree) {
    let edit = |path: &str, pairs: &[(&str, String)]| {
        if !tree.at(path).exists() {
            return; // a worker's
        }
        let text = pairs.iter().fold(tree.read(path), |text, (from, to)| text.replace(from, to));
        tree.write(path, text, 0o600);
    };
    let manifests = "/etc/kubernetes/manifests";
    edit(
        &format!("{manifests}/kube-apiserver.yaml"),
        &[
            ("10.0.0.1", "127.0.0.1".into()),
            ("secure-port=6443", format!("secure-port={APISERVER}")),
            ("127.0.0.1:2379", format!("127.0.0.1:{ETCD}")),
        ],
    );
    let urls = (",https://10.0.0.1:2379", String::new());
    edit(&format!("{manifests}/etcd.yaml"), &[urls, ("127.0.0.1:2379", format!("127.0.0.1:{ETCD}"))]);
    edit("/var/lib/kubelet/config.yaml", &[("healthzPort: 10248", format!("healthzPort: 10248\nport: {KUBELET}"))]);
    fs::create_dir_all(tree.at("/var/lib/certwarden")).unwrap();
}

fn build(left: i64) -> TempDir {
    build_with(Options { left, ..Options::default() })
}

fn build_with(options: Options) -> TempDir {
    let dir = temp();
    let tree = Tree::build(dir.path(), options);
    on_the_loopback(&tree);
    // something that only a rename with care keeps
    let key = tree.at("/etc/kubernetes/pki/apiserver.key");
    std::os::unix::fs::chown(&key, Some(0), Some(1234)).unwrap();
    let _ = xattr::set(&key, "user.label", b"kept");
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_nanos(1_600_000_000_123_456_789);
    for file in ["/etc/kubernetes/pki/apiserver.key", "/etc/kubernetes/scheduler.conf"] {
        fs::File::options().write(true).open(tree.at(file)).unwrap().set_modified(old).unwrap();
    }
    dir
}

static HEALTHY: LazyLock<TempDir> = LazyLock::new(|| build(300 * DAY));
static DUE: LazyLock<TempDir> = LazyLock::new(|| build(20 * DAY));
static EXPIRED: LazyLock<TempDir> = LazyLock::new(|| build(-DAY));

pub fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success());
}

impl Node {
    /// Nothing is due.
    pub fn healthy() -> Self {
        Self::on(&HEALTHY)
    }
    /// Everything is due, nothing has expired.
    pub fn due() -> Self {
        Self::on(&DUE)
    }
    pub fn expired() -> Self {
        Self::on(&EXPIRED)
    }

    /// Everything is due, and these have so many seconds left.
    pub fn due_but(left_of: &[(&str, i64)]) -> Self {
        let options = Options { left: 20 * DAY, ..Options::default() };
        Self::at(build_with(left_of.iter().fold(options, |o, (name, left)| o.left_of(name, *left))))
    }

    fn on(template: &TempDir) -> Self {
        let dir = temp();
        copy(template.path(), dir.path());
        Self::at(dir)
    }

    /// A node on a tree that somebody has made.
    pub fn at(dir: TempDir) -> Self {
        let fake = Fake::new(dir.path());
        let mut policy = Policy::default();
        policy.renew.renewer = Renewer::Local;
        policy.gates.free_mib = 0;
        // a transaction of its own after each of the others, and the subject of tests/it/serving.rs
        policy.renew.exclude = vec!["kubelet-serving".to_owned()];
        Self { host: fake.host(), dir, fake, policy }
    }

    /// The same disk in another place, with a world that has forgotten everything: as after a reboot.
    pub fn rebooted(&self) -> Self {
        let dir = temp();
        copy(self.dir.path(), dir.path());
        let node = Self { policy: self.policy.clone(), ..Self::at(dir) };
        let was = self.fake.world(|w| (w.starts, w.boots));
        if node.path(KUBE_VIP).exists() {
            node.fake.world(run_vip);
        }
        node.fake.world(|w| w.boot(was));
        node
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }

    pub fn session(&self) -> Session<'_> {
        Session::open(&self.host, &self.policy)
    }

    pub fn progress() -> Progress {
        begin_step("before the first step");
        Progress::new("test", Duration::from_secs(60)).with_listener(begin_step)
    }

    pub fn plan(&self, selection: &Selection) -> Plan {
        self.session().plan(selection).unwrap()
    }

    pub fn try_renew(&self, selection: &Selection) -> Result<Report, EngineError> {
        self.fake.world(World::rejoin_real_time);
        self.renew_now(selection)
    }

    /// At the time that the fake clock shows. Whatever a test is about: nobody is worse off for a renewal.
    pub fn renew_now(&self, selection: &Selection) -> Result<Report, EngineError> {
        let (before, was) = (Certificates::of(self.dir.path()), self.inventory());
        let session = self.session();
        let done = session.carry_out(&session.plan(selection).unwrap(), false, &[], &Self::progress());
        let worse = worse_off(&before, &was, &Certificates::of(self.dir.path()));
        assert!(worse.is_empty(), "{worse:?}");
        done
    }

    pub fn renew(&self, selection: &Selection) -> Report {
        self.try_renew(selection).unwrap()
    }

    pub fn renew_due(&self) -> Report {
        self.renew(&Selection::Due)
    }

    /// Renews until the process dies. True if it did.
    pub fn renew_and_crash(&self, tick: u64) -> bool {
        self.crash(tick, || drop(self.try_renew(&Selection::All)))
    }

    /// `work` until the process dies at that tick from now. True if it did.
    pub fn crash(&self, tick: u64, work: impl FnOnce()) -> bool {
        self.fake.world(|w| w.crash_at = Some(w.ticks + tick));
        let ended = catch_unwind(AssertUnwindSafe(work));
        self.fake.world(|w| w.crash_at = None);
        match ended {
            Ok(()) => false,
            Err(e) if e.is::<Crash>() => true,
            Err(e) => std::panic::resume_unwind(e),
        }
    }

    pub fn recover(&self, reach: Reach, operator: bool) -> Result<Option<Report>, EngineError> {
        self.session().recover(reach, operator, &Self::progress())
    }

    pub fn rollback(&self, id: Option<&str>, forced: &[Gate]) -> Result<Report, SessionError> {
        self.session().rollback(id, forced, &Self::progress())
    }

    pub fn ids(&self) -> Vec<String> {
        store::list(&self.host.root).unwrap().into_iter().map(|d| d.id).collect()
    }

    pub fn last_state(&self) -> Option<State> {
        let dir = store::list(&self.host.root).unwrap().pop()?;
        Ledger::load(&self.host.root, &dir).unwrap().map(|l| l.state())
    }

    pub fn live(&self) -> Live {
        let mut all = Live::new();
        let mut open = vec![self.path("etc"), self.path("var/lib/kubelet")];
        while let Some(dir) = open.pop() {
            for item in fs::read_dir(dir).unwrap() {
                let path = item.unwrap().path();
                let m = path.symlink_metadata().unwrap();
                if m.is_dir() {
                    open.push(path);
                    continue;
                }
                let content = if m.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                let mut names = xattr::list(&path).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
                names.sort();
                let xattrs = names.into_iter().map(|n| {
                    let value = xattr::get(&path, &n).ok().flatten().unwrap_or_default();
                    (n.to_string_lossy().into_owned(), value)
                });
                let link = fs::read_link(&path).unwrap_or_default();
                let relative = path.strip_prefix(self.dir.path()).unwrap().to_path_buf();
                let about = (content, m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec(), xattrs.collect(), link);
                all.insert(relative, about);
            }
        }
        all
    }

    pub fn inventory(&self) -> Inventory {
        collect(&self.host.root, self.fake.world(|w| w.now), &self.policy.kubeconfigs)
    }

    /// Every key fits its certificate and everything chains to its CA.
    #[track_caller]
    pub fn assert_pairs_fit(&self) {
        self.assert_no_problem_but(&[Problem::LoosePermissions, Problem::StaleCopy]);
    }

    /// The same, whatever the clock says.
    #[track_caller]
    pub fn assert_pairs_fit_but_for_the_clock(&self) {
        let by_time = [Problem::Expired, Problem::Expiring, Problem::NotYetValid, Problem::CaExpiresFirst];
        self.assert_no_problem_but(&[&by_time[..], &[Problem::LoosePermissions, Problem::StaleCopy]].concat());
    }

    #[track_caller]
    fn assert_no_problem_but(&self, allowed: &[Problem]) {
        for entry in self.inventory().entries {
            let bad = match entry.content {
                Content::Absent => continue,
                Content::Unusable(f) => vec![f],
                Content::Readable(c) => c.findings,
            };
            let bad: Vec<_> = bad.into_iter().filter(|f| !allowed.contains(&f.id)).collect();
            assert!(bad.is_empty(), "{}: {bad:?}", entry.name);
        }
    }

    /// No temporary file beside a live one, and no key in the state directory but in the backups of `kept` states.
    #[track_caller]
    pub fn assert_nothing_left_over(&self) {
        for path in self.live().keys() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.starts_with('.'), "{} is left over", path.display());
        }
        for dir in store::list(&self.host.root).unwrap() {
            let state = Ledger::load(&self.host.root, &dir).unwrap().map(|l| l.state());
            let keys = self.files_with_keys(&dir.path());
            let allowed = |p: &PathBuf| {
                state.is_some_and(|s| s.keeps_backup() || s == State::RollbackFailed) && p.starts_with(dir.old_dir())
                    || matches!(state, Some(State::Committed | State::RollingBack | State::RollbackFailed))
            };
            let wrong: Vec<_> = keys.into_iter().filter(|p| !allowed(p)).collect();
            assert!(wrong.is_empty(), "{state:?} keeps {wrong:?}");
        }
    }

    fn files_with_keys(&self, dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![dir.to_path_buf()];
        while let Some(dir) = open.pop() {
            for name in self.host.root.list(&dir).unwrap_or_default() {
                let path = dir.join(name);
                match self.host.root.read_secret(&path) {
                    Ok(bytes) if [&b"PRIVATE KEY"[..], b"client-key-data"].iter().any(|n| contains(&bytes, n)) => {
                        found.push(path);
                    }
                    Ok(_) => {}
                    Err(_) => open.push(path),
                }
            }
        }
        found
    }

    /// Controller manager and scheduler run with the kubeconfigs that are on the disk.
    #[track_caller]
    pub fn assert_processes_use_what_is_on_the_disk(&self) {
        for (component, file) in [
            ("kube-controller-manager", "/etc/kubernetes/controller-manager.conf"),
            ("kube-scheduler", "/etc/kubernetes/scheduler.conf"),
        ] {
            let loaded = self.fake.world(|w| w.loaded.get(component).cloned());
            assert!(loaded.as_ref() == Some(&self.read(file)), "{component} runs with another {file}");
        }
    }

    /// Files of kubeadm's leaves that differ between the two.
    pub fn changed(before: &Live, after: &Live) -> BTreeSet<PathBuf> {
        let keys: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        keys.into_iter().filter(|k| before.get(*k) != after.get(*k)).cloned().collect()
    }
}

#[track_caller]
pub fn assert_unchanged(before: &Live, node: &Node) {
    let changed = Node::changed(before, &node.live());
    assert!(changed.is_empty(), "changed: {changed:?}");
}

#[track_caller]
pub fn assert_outcome(report: &Report, outcome: Outcome) {
    assert_eq!(report.outcome, outcome, "{}; {:?}", report.reason, report.notes);
}

/// Who accepted an old certificate and does not accept what is in its place, or what that is no longer for. Not of those with
/// which more than time was wrong: whom they were for is not known then.
pub fn worse_off(before: &Certificates, was: &Inventory, after: &Certificates) -> Vec<Worse> {
    let broken = |path: &Path| {
        let found = |content: &Content| !matches!(content, Content::Readable(c) if c.findings.is_empty());
        was.entries.iter().any(|e| found(&e.content) && (e.form.files().contains(&path) || e.path() == path))
    };
    // its names are those that the kubelet has now
    let serving = |path: &Path| was.get("kubelet-serving").is_some_and(|e| e.path() == path);
    let mut worse = before.changed_identity(after);
    worse.retain(|w| !serving(&w.path));
    worse.extend(before.refused(after));
    worse.retain(|w| !broken(&w.path));
    worse
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|w| w == word)
}

/// Whether the files are those of after the commit.
pub fn new_files(root: &Path) -> bool {
    let old = fs::metadata(root.join("etc/kubernetes/pki/etcd/ca.crt")).unwrap().modified().unwrap();
    let now = fs::metadata(root.join("etc/kubernetes/scheduler.conf")).unwrap().modified().unwrap();
    now > old // the template's scheduler.conf is of 2020
}

/// kube-vip as its own installer writes it: with the administrator's kubeconfig as a single file.
pub fn with_kube_vip(node: Node) -> Node {
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-vip, namespace: kube-system}\nspec:\n  containers:\n  \
                    - name: vip\n    args: [manager]\n    volumeMounts:\n    - {mountPath: /etc/kubernetes/admin.conf, name: kubeconfig}\n  \
                    volumes:\n  - {name: kubeconfig, hostPath: {path: /etc/kubernetes/admin.conf}}\n";
    fs::write(node.path(KUBE_VIP), manifest).unwrap();
    node.fake.world(run_vip);
    node
}

fn run_vip(world: &mut World) {
    let mut vip = world.containers[0].clone();
    (vip.id, vip.name, vip.pod) = ("vip-0".into(), "vip".into(), "kube-vip-node-1".into());
    // of an ordinary pod, by the same name: nobody's business
    let other = Container { id: "other".into(), pod: "vip-7f9c".into(), ..vip.clone() };
    world.containers.extend([vip, other]);
}

/// Of the newest transaction.
pub fn ledger(node: &Node) -> Ledger {
    let dir = store::list(&node.host.root).unwrap().pop().unwrap();
    Ledger::load(&node.host.root, &dir).unwrap().unwrap()
}

/// Dies at the first tick after which the ledger is in that state.
pub fn died_in(make: fn() -> Node, state: State) -> (Node, Live) {
    let rank = |state: Option<State>| {
        use State::{Committed, Committing, Open, RolledBack, RollingBack, Staged, Verified};
        let order = [Open, Staged, Committing, Committed, RollingBack, RolledBack, Verified];
        order.iter().position(|s| Some(*s) == state).map_or(0, |i| i + 1)
    };
    // states only follow each other: halve until the first tick is found
    let (mut low, mut high) = (0, 4096);
    while high - low > 1 {
        let (tick, node) = (u64::midpoint(low, high), make());
        node.renew_and_crash(tick);
        if rank(node.last_state()) < rank(Some(state)) { low = tick } else { high = tick }
    }
    // two runs may differ by some calls: by the part of a second that is waited for
    for tick in high..high + 16 {
        let node = make();
        let before = node.live();
        if node.renew_and_crash(tick) && node.last_state() == Some(state) {
            return (node, before);
        }
    }
    panic!("no death from call {high} on is in {state}");
}

/// As if the process had died after `done` of the renames, in the order of the ledger.
pub fn rename_temps(node: &Node, done: usize) {
    for file in ledger(node).files().iter().take(done) {
        let live = node.path(&file.path.display().to_string());
        // the kubelet's identity is reached by a link, and the file behind it is replaced
        let live =
            fs::read_link(&live).map_or(live.clone(), |to| node.path(&live.with_file_name(to).display().to_string()));
        let name = format!(".{}.certwarden-new", live.file_name().unwrap().to_string_lossy());
        fs::rename(live.with_file_name(name), live).unwrap();
    }
}
