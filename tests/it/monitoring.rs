//! Rules, dashboards and metrics in the hands of those who use them: promtool, Prometheus and node_exporter, Debian's packages
//! (`apt-get install prometheus prometheus-node-exporter`, or unpacked in the directory `$CERTWARDEN_PROMETHEUS`). Where they are not
//! there, these tests say so and prove nothing; `$CERTWARDEN_CI` makes them fail then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it does not do"
)]

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use certwarden::model::metrics::FAMILIES;
use certwarden::model::policy::Span;
use certwarden::model::schedule::{Schedule, Who};
use jiff::Timestamp;
use serde_json::Value;
use support::{Options, Tree};

const PATIENCE: Duration = Duration::from_secs(90);
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/monitoring");

/// Every expression of Grafana dashboard 13922 (x509-certificate-exporter, of its generation 4, and those of generation 3 that differ) that
/// is about files and kubeconfigs; `$…_threshold` as it comes.
const DASHBOARD_13922: [&str; 21] = [
    "count(x509_cert_not_after)",
    "sum(((x509_cert_not_after - time()) / 86400) < bool 0)",
    "sum(0 < ((x509_cert_not_after - time()) / 86400) < bool 14)",
    "sum(0 < ((x509_cert_not_after - time()) / 86400) < bool 28)",
    "count(x509_cert_not_after{filepath!=\"\",embedded_key!=\"\"})",
    "count(x509_cert_not_after{filepath!=\"\",embedded_key=\"\"})",
    "count(x509_source_errors_total)",
    "sum(x509_source_errors_total)",
    "sort(((x509_cert_not_after{filepath!=\"\"} - time()) / 86400) < 7300)",
    "topk(10, sort_desc(count by (issuer_CN) (x509_cert_not_after)))",
    "topk(10, sort_desc(count by (instance) (x509_cert_not_after{filepath!=\"\"})))",
    "bottomk(10, (x509_cert_not_after{filepath!=\"\"} - x509_cert_not_before) / 86400)",
    "topk(10, (x509_cert_not_after{filepath!=\"\"} - x509_cert_not_before) / 86400)",
    "sum (x509_source_errors_total > bool 0)",
    "sum(rate(x509_source_errors_total[15m]))",
    "topk(10, rate(x509_source_errors_total[6h]))",
    "topk(10, x509_source_errors_total)",
    // generation 3
    "count(x509_read_errors)",
    "sum(x509_read_errors)",
    "sum(delta(x509_read_errors[15m]))",
    "count(x509_cert_expired)",
];

/// Metrics of our rules and dashboard that this test's node has none of, and why.
const EXPLAINED: [(&str, &str); 8] = [
    ("certwarden_approver_undecided", "the approver is off by default"),
    ("certwarden_served_certificate_drift", "a tree on a disk serves nothing; vm-tests look at it on a node"),
    ("certwarden_hook_failures_total", "no hook is configured"),
    ("kube_node_info", "of kube-state-metrics"),
    ("up", "of Prometheus itself"),
    ("certwarden_clock_synchronized", "the clock of a container is nobody's"),
    ("certwarden_certificate_finding", "there is nothing to find on a good node"),
    ("certwarden_kubelet_csr_oldest_pending_timestamp_seconds", "it is there, and 0 is none"),
];

fn program(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("CERTWARDEN_PROMETHEUS").map(PathBuf::from);
    let found = own.into_iter().chain([PathBuf::from("/usr/bin")]).map(|d| d.join(name)).find(|p| p.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "{name} is not installed");
        eprintln!("NOT TESTED: {name} is not installed; `apt-get install prometheus prometheus-node-exporter`");
    }
    found
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_when_it_should_and_not_otherwise() {
    let Some(promtool) = program("promtool") else { return };
    for name in ["certwarden", "certwarden-layers", "kubernetes-certificates"] {
        succeeds(Command::new(&promtool).current_dir(FILES).args(["check", "rules", &format!("{name}.rules.yml")]));
        succeeds(Command::new(&promtool).current_dir(FILES).args(["test", "rules", &format!("{name}.rules.test.yml")]));
    }
}

/// Expressions of a rules file, in its order, and those of alerts by name.
fn expressions(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{FILES}/{file}")).unwrap();
    let (mut all, mut name): (Vec<(String, String)>, String) = (Vec::new(), String::new());
    let mut block = None;
    for line in text.lines() {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        if let Some(deeper) = block.filter(|least| indent > *least && !trimmed.is_empty()) {
            let last = &mut all.last_mut().unwrap().1;
            let _ = write!(last, " {trimmed}");
            block = Some(deeper);
            continue;
        }
        block = None;
        if let Some(of) = trimmed.strip_prefix("- alert: ").or_else(|| trimmed.strip_prefix("- record: ")) {
            of.clone_into(&mut name);
        } else if let Some(expr) = trimmed.strip_prefix("expr: ") {
            block = (expr == "|").then_some(indent);
            all.push((name.clone(), if expr == "|" { String::new() } else { expr.to_owned() }));
        }
    }
    all
}

#[test]
fn every_alert_has_a_page_of_its_name_and_a_unit_test_and_says_whom_it_concerns() {
    for (file, least) in [("certwarden", 20), ("certwarden-layers", 9), ("kubernetes-certificates", 9)] {
        let rules = std::fs::read_to_string(format!("{FILES}/{file}.rules.yml")).unwrap();
        let tests = std::fs::read_to_string(format!("{FILES}/{file}.rules.test.yml")).unwrap();
        let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
        assert!(alerts.len() >= least, "{}", alerts.len());
        for alert in alerts {
            let name = alert.lines().next().unwrap();
            assert!(tests.contains(name), "{name} has no unit test");
            let annotation = |key: &str| alert.lines().find_map(|l| l.trim().strip_prefix(key)).unwrap_or_default();
            assert!(annotation("runbook_url: ").starts_with("https://certwarden.io/runbooks/"), "{name}");
            assert!(!annotation("summary: ").is_empty(), "{name}");
            assert!(alert.contains("severity: "), "{name}");
        }
    }
}

fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{FILES}/certwarden.dashboard.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    for panel in value["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().unwrap();
            let filled = expr.replace("$job", ".+").replace("$instance", ".+").replace("$__interval", "1m");
            all.push((title.to_owned(), filled));
        }
        let described = title == "Fleet" || title.starts_with("Node $") || panel["description"].is_string();
        assert!(described, "{title} does not say what it shows");
    }
    all
}

/// Names of metrics in an expression.
fn metrics(expr: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    expr.split(word).filter(|w| w.starts_with("certwarden_") || w.starts_with("x509_"))
}

#[test]
fn rules_and_dashboard_know_only_metrics_that_there_are() {
    let mut seen = 0;
    let rules = ["certwarden.rules.yml", "certwarden-layers.rules.yml"].into_iter().flat_map(expressions);
    for (of, expr) in rules.chain(dashboard()) {
        for name in metrics(&expr) {
            seen += 1;
            assert!(FAMILIES.iter().any(|f| f.name == name), "{of}: there is no {name}");
        }
    }
    assert!(seen > 60, "{seen}");
}

struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    fn start(&mut self, command: &mut Command, log: &Path) {
        let file = std::fs::File::create(log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn();
        self.0.push(child.unwrap_or_else(|e| panic!("{command:?}: {e}")));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Prometheus' answer; None: it does not answer yet.
fn query(port: u16, expr: &str) -> Option<Vec<Value>> {
    let mut encoded = String::new();
    for byte in expr.bytes() {
        let _ = write!(encoded, "%{byte:02X}");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let value: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    assert_ne!(value["errorType"], "bad_data", "{expr}: {value}");
    value["data"]["result"].as_array().cloned()
}

fn await_query(port: u16, expr: &str, want: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = query(port, expr);
        if let Some(found) = found.as_ref().filter(|f| want(f)) {
            return found.clone();
        }
        assert!(Instant::now() < until, "{expr}: {found:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A node whose daemon looks at once and renews nothing.
fn node(dir: &Path) -> Tree {
    let tree = Tree::build(dir, Options::default());
    let soon = |id: &String| {
        Schedule::new(Span::secs(3600), &Who::of("node-1", id)).first(Timestamp::UNIX_EPOCH).as_second() == 2
    };
    tree.write("/etc/machine-id", (0..1000).map(|n| format!("{n:032x}")).find(soon).unwrap(), 0o644);
    tree.write("/etc/certwarden/certwarden.toml", "mode = \"observe\"\n", 0o644);
    for path in ["etc", "etc/certwarden"] {
        std::fs::set_permissions(dir.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::create_dir_all(dir.join("var/lib/prometheus/node-exporter")).unwrap();
    tree
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story")]
fn a_real_prometheus_scrapes_both_ways_and_every_expression_finds_its_data() {
    let (Some(prometheus), Some(node_exporter), Some(promtool)) =
        (program("prometheus"), program("prometheus-node-exporter"), program("promtool"))
    else {
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CERTWARDEN_CI").is_none(), "the daemon needs root");
        eprintln!("NOT TESTED: the daemon needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path().join("node"), |name: &str| dir.path().join(name));
    std::fs::create_dir(&root).unwrap();
    let tree = node(&root);
    let mut running = Running(Vec::new());
    let certwarden = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwarden-full"));
        command.arg("--root").arg(&tree.root);
        command
    };
    running.start(certwarden().arg("daemon"), &log("daemon.log"));
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    running.start(certwarden().arg("export").stdin(OwnedFd::from(socket)), &log("export.log"));
    let (textfile, port) = (free_port(), free_port());
    running.start(
        Command::new(node_exporter)
            .arg(format!("--web.listen-address=127.0.0.1:{textfile}"))
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!("--collector.textfile.directory={}", root.join("var/lib/prometheus/node-exporter").display())),
        &log("node.log"),
    );
    let rules = ["certwarden", "certwarden-layers", "kubernetes-certificates"]
        .map(|n| format!("{FILES}/{n}.rules.yml"))
        .join("\", \"");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{rules}\"]\nscrape_configs:\n\
         - {{job_name: certwarden, static_configs: [{{targets: ['{own}'], labels: {{node: a}}}}]}}\n\
         - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{textfile}'], labels: {{node: a}}}}]}}\n"
    );
    std::fs::write(log("prometheus.yml"), config.replace("interval: 1m", "interval: 1s")).unwrap();
    running.start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", log("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", log("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        &log("prometheus.log"),
    );

    await_query(port, "certwarden_build_info", |found| found.len() == 2);
    let scrapes = query(port, "count by (job) (certwarden_certificate_info)").unwrap();
    assert_eq!(scrapes.len(), 2, "over HTTP and by the textfile collector");
    assert_eq!(scrapes[0]["value"][1], scrapes[1]["value"][1]);
    let clean = query(port, "node_textfile_scrape_error").unwrap();
    assert_eq!(clean[0]["value"][1], "0", "node_exporter rejects nothing");
    // two samples, for what looks at changes
    await_query(port, "count_over_time(x509_source_errors_total{job=\"certwarden\"}[1m]) >= 2", |f| !f.is_empty());
    await_query(port, "instance:certwarden_certificate_effective_end_timestamp_seconds:min", |f| f.len() == 2);

    let page = std::fs::read(root.join("run/certwarden/metrics.prom")).unwrap();
    let mut check =
        Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(&page).unwrap();
    let checked = check.wait_with_output().unwrap();
    assert!(checked.status.success() && checked.stdout.is_empty(), "{}", String::from_utf8_lossy(&checked.stdout));

    for expr in DASHBOARD_13922 {
        assert!(!query(port, expr).unwrap().is_empty(), "dashboard 13922: {expr}");
    }
    let explained = |expr: &str| EXPLAINED.iter().any(|(name, _)| expr.contains(name));
    for (title, expr) in dashboard() {
        let found = query(port, &expr).unwrap();
        assert!(!found.is_empty() || explained(&expr), "panel `{title}`: {expr}");
    }
    for (of, expr) in expressions("certwarden.rules.yml") {
        query(port, &expr).unwrap(); // is understood
        for name in metrics(&expr).filter(|n| !explained(n) && !n.contains(':')) {
            assert!(!query(port, name).unwrap().is_empty(), "{of}: there is no {name}");
        }
    }
    let firing = query(port, "ALERTS{alertname=~\"Certwarden.+\",alertstate=\"firing\"}").unwrap();
    assert!(firing.is_empty(), "a good node alerts nobody: {firing:?}");
}
