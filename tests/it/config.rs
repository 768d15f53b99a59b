//! The configuration as an operator meets it: which file wins, and exactly what is said when one is wrong.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use certwarden::cli::config::{check, show};
use certwarden::config::{Origin, effective_values, load};
use certwarden::host::fs::Root;
use certwarden::model::policy::{Mode, Policy, Span, Threshold};

const MAIN: &str = "/etc/certwarden/certwarden.toml";

/// A node with nothing but configuration.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn with(self, path: &str, text: &str) -> Self {
        let file = self.parents(path);
        std::fs::write(&file, text).unwrap();
        chmod(&file, 0o644);
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        symlink(target, self.parents(path)).unwrap();
        self
    }

    /// Creates the directories above; their modes do not depend on the umask of who runs the tests.
    fn parents(&self, path: &str) -> PathBuf {
        let file = self.path(path);
        let parent = file.parent().unwrap();
        std::fs::create_dir_all(parent).unwrap();
        for directory in parent.ancestors().take_while(|d| *d != self.0.path()) {
            chmod(directory, 0o755);
        }
        file
    }

    fn root(&self) -> Root {
        Root::open(self.0.path()).unwrap()
    }

    fn policy(&self) -> Policy {
        load(&self.root()).map_or_else(|e| panic!("{e}"), |s| s.policy)
    }

    fn errors(&self) -> String {
        load(&self.root()).unwrap_err().to_string()
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn main_file(text: &str) -> Tree {
    Tree::new().with(MAIN, text)
}

#[test]
fn no_file_at_all_is_the_default_configuration() {
    let tree = Tree::new();
    assert_eq!(tree.policy(), Policy::default());
    assert_eq!(check(&tree.root()), ("configuration is valid: no file, all values are defaults".to_owned(), 0));
}

#[test]
fn fragments_merge_key_by_key_in_the_order_of_their_names_and_the_main_file_has_the_last_word() {
    let tree = Tree::new()
        .with("/etc/certwarden/config.d/20-b.toml", "[renew]\nrenew-before = \"20d\"\nemergency-before = \"2d\"")
        .with("/usr/lib/certwarden/config.d/30-c.toml", "renew.renew-before = \"21d\"\ncheck.interval = \"30m\"")
        .with(MAIN, "[check]\ninterval = \"10m\"");
    let settings = load(&tree.root()).unwrap();
    assert_eq!(settings.policy.renew.renew_before, Span::days(21));
    assert_eq!(settings.policy.renew.emergency_before, Span::days(2));
    assert_eq!(settings.policy.check.interval, Span::secs(600));
    let from = |key: &str| settings.origins.get(key).unwrap_or(&Origin::Default).to_string();
    assert_eq!(from("renew.renew-before"), "/usr/lib/certwarden/config.d/30-c.toml:1");
    assert_eq!(from("renew.emergency-before"), "/etc/certwarden/config.d/20-b.toml:3");
    assert_eq!(from("check.interval"), "/etc/certwarden/certwarden.toml:2");
    assert_eq!(from("mode"), "default");
}

#[test]
fn a_file_replaces_the_one_of_the_same_name_in_an_earlier_directory_as_a_whole() {
    let tree = Tree::new()
        .with("/usr/lib/certwarden/config.d/10-a.toml", "mode = \"observe\"\nstate.generations = 9")
        .with("/run/certwarden/config.d/10-a.toml", "state.generations = 7");
    assert_eq!(tree.policy().state.generations, 7);
    assert_eq!(tree.policy().mode, Mode::Enforce);
    let tree = tree.with("/etc/certwarden/config.d/10-a.toml", "");
    assert_eq!(tree.policy(), Policy::default());
}

#[test]
fn a_link_to_dev_null_masks_a_file_even_a_broken_one() {
    let tree = Tree::new()
        .with("/usr/lib/certwarden/config.d/10-a.toml", "this is not TOML")
        .link("/etc/certwarden/config.d/10-a.toml", "/dev/null");
    assert_eq!(tree.policy(), Policy::default());
    assert_eq!(Tree::new().link(MAIN, "/dev/null").policy(), Policy::default());
}

#[test]
fn links_resolve_within_the_root() {
    let tree = Tree::new().with("/srv/certwarden.toml", "mode = \"observe\"").link(MAIN, "/srv/certwarden.toml");
    assert_eq!(tree.policy().mode, Mode::Observe);
}

#[test]
fn leftovers_of_editors_and_package_managers_do_not_count() {
    let mut tree = Tree::new();
    for name in [".10-a.toml", "10-a.toml~", "10-a.toml.rpmnew", "10-a.toml.dpkg-old", "README", ".toml"] {
        tree = tree.with(&format!("/etc/certwarden/config.d/{name}"), "rubbish");
    }
    assert_eq!(tree.policy(), Policy::default());
}

#[test]
fn a_list_replaces_the_list_of_an_earlier_file() {
    let tree = Tree::new()
        .with("/etc/certwarden/config.d/10-a.toml", "renew.exclude = [\"apiserver\"]")
        .with(MAIN, "renew.exclude = [\"admin.conf\"]");
    assert_eq!(tree.policy().renew.exclude, ["admin.conf"]);
}

/// Text of the main file, and what is said about it behind the file's name.
type Case = (&'static str, &'static str);

fn each_says(cases: &[Case]) {
    for (text, expected) in cases {
        assert_eq!(main_file(text).errors(), format!("{MAIN}{expected}"), "{text}");
    }
}

#[test]
fn each_fault_is_named_by_file_line_column_and_key() {
    each_says(&[
        ("[renew]\nrenew-befor = \"1d\"", ":2:1: renew.renew-befor: unknown key; did you mean `renew.renew-before`?"),
        ("[renew]\nrenew_before = \"1d\"", ":2:1: renew.renew_before: unknown key; did you mean `renew.renew-before`?"),
        ("stability = \"1m\"", ":1:1: stability: unknown key; did you mean `verify.stability`?"),
        ("[chek]\ninterval = \"1h\"", ":1:2: chek: unknown key; did you mean `check`?"),
        ("frobnicate = 1", ":1:1: frobnicate: unknown key"),
        ("check = \"1h\"", ":1:1: check: is a section, not a value: write `[check]` and its keys below"),
        ("[check.interval]\nx = 1", ":1:8: check.interval: is a value, not a section"),
        (
            "[check]\n  interval = 3600",
            ":2:3: check.interval: invalid type: integer `3600`, expected a length of time in quotes, like \"30d\" or \"1h 30m\"",
        ),
        (
            "check.interval = \"soon\"",
            ":1:7: check.interval: `soon` is not a length of time like `30d` or `1h 30m`: expected number at 0",
        ),
        ("renew.renew-before = \"200y\"", ":1:7: renew.renew-before: `200y` is longer than a century"),
        ("kubelet.renew-before = \"120%\"", ":1:9: kubelet.renew-before: `120%` is not between `1%` and `99%`"),
        (
            "mode = \"enforced\"",
            ":1:1: mode: unknown variant `enforced`, expected `enforce` or `observe`; did you mean `enforce`?",
        ),
        ("state.generations = -1", ":1:7: state.generations: invalid value: integer `-1`, expected usize"),
        ("gates.free-mib = \"16\"", ":1:7: gates.free-mib: invalid type: string \"16\", expected u64"),
        ("renew.exclude = [1]", ":1:7: renew.exclude: invalid type: integer `1`, expected a string"),
        ("mode = ", ":1:8: is not valid TOML: string values must be quoted, expected literal string"),
        ("mode = \"observe\"\nmode = \"enforce\"", ":2:1: is not valid TOML: duplicate key"),
    ]);
}

#[test]
fn values_that_cannot_work_or_do_not_go_together_are_refused_with_the_reason() {
    each_says(&[
        (
            "check.interval = \"59s\"",
            ":1:7: check.interval: is 59s, the least is 1m: looking more often finds nothing sooner",
        ),
        ("verify.stability = \"0s\"", ":1:8: verify.stability: is 0s, the least is 1s: a shorter look proves nothing"),
        (
            "exec.kubeadm-timeout = \"0s\"",
            ":1:6: exec.kubeadm-timeout: is 0s, the least is 1s: kubeadm could never end in time",
        ),
        ("state.max-age = \"12h\"", ":1:7: state.max-age: is 12h, the least is 1d: a rollback must have its time"),
        (
            "state.generations = 0",
            ":1:7: state.generations: is 0, the least is 1: without a backup there is no rollback",
        ),
        ("renew.exclude = [\"\"]", ":1:7: renew.exclude: has an empty name; write logical names like `apiserver`"),
        (
            "renew.renew-before = \"2d\"",
            ":1:7: renew.renew-before: renew.emergency-before (3d) must be shorter than renew.renew-before (2d): \
             otherwise every renewal is an emergency and no soft gate ever holds",
        ),
        (
            "kubelet.request-timeout = \"1h\"",
            ":1:9: kubelet.request-timeout: is 1h, the most is 15m: nothing else is renewed meanwhile",
        ),
        (
            "verify.timeout = \"30s\"",
            ":1:8: verify.timeout: verify.stability (30s) must be shorter than verify.timeout (30s): \
             otherwise no renewal can be proven in time and each is rolled back",
        ),
        (
            "check.interval = \"60d\"",
            ":1:7: check.interval: check.interval (60d) must be shorter than renew.renew-before (30d): \
             otherwise a certificate can expire between two looks",
        ),
        (
            "[renew]\nrenewer = \"local\"\nvalidity = \"10d\"",
            ":3:1: renew.validity: renew.renew-before (30d) must be shorter than renew.validity (10d): \
             otherwise what is renewed is due again at once",
        ),
    ]);
}

#[test]
fn a_probe_that_could_not_be_asked_or_would_ask_something_else_is_refused() {
    each_says(&[
        (
            "probe = [{name = \"a b\", address = \"a:1\"}]",
            ":1:1: probe: `a b` is no name; write letters, digits, `-` and `_`, at most 64",
        ),
        (
            "probe = [{name = \"a\", address = \"a\"}]",
            ":1:1: probe: `a` has a, which is no address; write host:port, IPv6 in brackets",
        ),
        (
            "probe = [{name = \"a\", address = \"[::1]:65536\"}]",
            ":1:1: probe: `a` has [::1]:65536, which is no address; write host:port, IPv6 in brackets",
        ),
        (
            "probe = [{name = \"a\", address = \"a:1\", server-name = \"x' to='y\"}]",
            ":1:1: probe: `a` has x' to='y, which is no name of a server",
        ),
        (
            "probe = [{name = \"a\", address = \"a:1\", secret = \"shop\"}]",
            ":1:1: probe: `a` has shop, which is no Secret; write namespace/name",
        ),
        (
            "probe = [{name = \"a\", address = \"a:1\", interval = \"1s\"}]",
            ":1:1: probe: `a` has interval 1s, the least is 10s",
        ),
        (
            "probe = [{name = \"a\", address = \"a:1\", ca = \"ca.pem\"}]",
            ":1:1: probe: `a` has ca.pem; write an absolute path without `..`",
        ),
    ]);
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    for (mode, who) in [(0o664, "its group"), (0o646, "everybody"), (0o666, "everybody")] {
        let tree = main_file("mode = \"observe\"");
        chmod(&tree.path(MAIN), mode);
        let expected = format!(
            "{MAIN}: is writable by {who} (mode {mode:04o}): whoever can write it commands a root daemon; chmod go-w it"
        );
        assert_eq!(tree.errors(), expected);
    }
}

#[test]
fn a_directory_that_others_can_write_is_refused_and_named_once() {
    let tree = main_file("").with("/etc/certwarden/config.d/10-a.toml", "");
    chmod(&tree.path("/etc/certwarden"), 0o775);
    assert_eq!(tree.errors().lines().count(), 1);
    assert!(tree.errors().starts_with("/etc/certwarden: is writable by its group (mode 0775)"), "{}", tree.errors());
    chmod(&tree.path("/etc/certwarden"), 0o755);
    chmod(&tree.path("/etc/certwarden/config.d"), 0o777);
    assert!(tree.errors().starts_with("/etc/certwarden/config.d: is writable by everybody"), "{}", tree.errors());
}

#[test]
fn the_directory_of_a_links_target_counts_too() {
    let tree = Tree::new().with("/srv/c/certwarden.toml", "").link(MAIN, "/srv/c/certwarden.toml");
    chmod(&tree.path("/srv/c"), 0o777);
    assert!(tree.errors().starts_with("/srv/c: is writable by everybody"), "{}", tree.errors());
}

#[test]
fn a_file_that_belongs_to_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root can give a file away
    }
    let tree = main_file("");
    chown(tree.path(MAIN), Some(4711), None).unwrap();
    let expected = "belongs to uid 4711 and not to root: whoever owns it commands a root daemon; chown it to root";
    assert_eq!(tree.errors(), format!("{MAIN}: {expected}"));
}

#[test]
fn what_is_no_readable_file_is_an_error_and_not_an_absence() {
    let tree = Tree::new().link(MAIN, "/nowhere");
    assert_eq!(
        tree.errors(),
        format!("{MAIN}: cannot be read: {MAIN} is a symbolic link to /nowhere, which does not exist")
    );
    let tree = Tree::new().with(&format!("{MAIN}/x"), "");
    assert_eq!(tree.errors(), format!("{MAIN}: cannot be read: {MAIN} is a directory, not a regular file"));
    let tree = Tree::new();
    nix::unistd::mkfifo(&tree.parents(MAIN), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    assert_eq!(tree.errors(), format!("{MAIN}: cannot be read: {MAIN} is a FIFO, not a regular file"));
    let tree = main_file(&"#".repeat(300 << 10));
    assert!(tree.errors().contains("is larger than 262144 bytes"), "{}", tree.errors());
    let tree = main_file("");
    std::fs::write(tree.path(MAIN), b"mode = \"\xff\"").unwrap();
    assert_eq!(tree.errors(), format!("{MAIN}: is not UTF-8 text"));
    let tree = Tree::new().with("/etc/certwarden/config.d", "a file where a directory should be");
    assert!(tree.errors().starts_with("/etc/certwarden/config.d: "), "{}", tree.errors());
}

#[test]
fn all_faults_of_all_files_are_told_at_once() {
    let tree = Tree::new()
        .with("/usr/lib/certwarden/config.d/10-a.toml", "mod = \"observe\"\nstate.generations = \"x\"")
        .with("/etc/certwarden/config.d/20-b.toml", "[renew\n")
        .with(MAIN, "check.interval = \"1s\"\nverify.timeout = \"1s\"");
    let (text, code) = check(&tree.root());
    assert_eq!(code, 78);
    let starts = [
        "/usr/lib/certwarden/config.d/10-a.toml:1:1: mod: unknown key; did you mean `mode`?",
        "/usr/lib/certwarden/config.d/10-a.toml:2:7: state.generations: ",
        "/etc/certwarden/config.d/20-b.toml:1:7: is not valid TOML: ",
        "/etc/certwarden/certwarden.toml:1:7: check.interval: is 1s",
        "/etc/certwarden/certwarden.toml:2:8: verify.timeout: ",
    ];
    assert_eq!(text.lines().count(), starts.len(), "{text}");
    for (line, start) in text.lines().zip(starts) {
        assert!(line.starts_with(start), "{line}\nshould start with\n{start}");
    }
}

#[test]
fn every_key_is_shown_with_its_value_and_what_is_shown_can_be_read_back() {
    let mut policy = Policy { mode: Mode::Observe, ..Policy::default() };
    policy.kubelet.renew_before = Threshold::Time(Span::days(9));
    policy.renew.exclude = vec!["admin.conf".into(), "etcd-peer".into()];
    let written = effective_values(&policy).iter().map(|(k, v)| format!("{k} = {v}")).collect::<Vec<_>>().join("\n");
    let tree = main_file(&written);
    assert_eq!(tree.policy(), policy);

    let (text, code) = show(&tree.root(), true);
    assert_eq!(code, 0);
    for key in effective_values(&Policy::default()).keys() {
        assert!(text.lines().any(|l| l.starts_with(&format!("{key} = "))), "{key} is missing in\n{text}");
    }
    assert_eq!(text.lines().count(), effective_values(&policy).len());
    assert!(text.lines().all(|l| l.contains("# /etc/certwarden/certwarden.toml:")), "{text}");
    assert_eq!(main_file(&text).policy(), policy, "what `show --origin` prints is a configuration");
    assert!(show(&Tree::new().root(), true).0.lines().all(|l| l.ends_with("  # default")));
    assert!(!show(&Tree::new().root(), false).0.contains('#'));
}

#[test]
fn the_shipped_file_changes_nothing_and_documents_every_key_with_its_default() {
    let shipped = include_str!("../../packaging/config.d/10-defaults.toml");
    let path = "/usr/lib/certwarden/config.d/10-defaults.toml";
    let tree = Tree::new().with(path, shipped);
    assert_eq!(tree.policy(), Policy::default());
    assert!(load(&tree.root()).unwrap().origins.is_empty());

    // a commented key is `#key`, prose is `# text`
    let is_key = |l: &&str| l.starts_with('#') && l[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let uncommented: Vec<_> = shipped.lines().map(|l| if is_key(&l) { &l[1..] } else { l }).collect();
    let settings = load(&Tree::new().with(path, &uncommented.join("\n")).root()).unwrap();
    assert_eq!(settings.policy, Policy::default());
    let all = effective_values(&Policy::default()).into_keys();
    let missing: Vec<_> = all.filter(|key| !settings.origins.contains_key(key)).collect();
    assert!(missing.is_empty(), "not in the shipped file: {missing:?}");
}
