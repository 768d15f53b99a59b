"""Breaks: the API server's certificate ends in two days, and certwarden only observes. About 150 s.

A real Prometheus on the node scrapes it over HTTP and by node_exporter's textfile collector. Must hold: both ways give
the same; the right alerts fire, and clear after the renewal; hooks are run, one that never ends is killed, one that
everybody may write is refused.
"""

import json
import re
import shutil

import pytest

from lib.command import figure
from lib.machine import REPOSITORY, VM
from lib.waiting import wait_until

HOOKS = """
[[hook]]
name = "told"
on = ["renewed", "expiring"]
program = "/usr/local/sbin/told"
[[hook]]
name = "other"
on = ["renewed"]
certificates = ["etcd-server"]
program = "/usr/local/sbin/told"
[[hook]]
name = "endless"
on = ["renewed"]
program = "/usr/local/sbin/endless"
time-limit = "2s"
[[hook]]
name = "foreign"
on = ["renewed"]
program = "/opt/foreign"
"""
PROGRAMS = {
    "/usr/local/sbin/told": ('cat > "/var/lib/told-$CERTWARDEN_OCCASION.json"; touch /etc/hooks-may-write', 0o755),
    "/usr/local/sbin/endless": ("sleep 4711 & sleep 4711", 0o755),
    "/opt/foreign": ("touch /etc/foreign-was-run", 0o777),
}
PROMETHEUS = """global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [certwarden.rules.yml]
scrape_configs:
- {job_name: certwarden, static_configs: [{targets: ['127.0.0.1:9794']}]}
- {job_name: node, static_configs: [{targets: ['127.0.0.1:9100']}]}
"""
TEXTFILES = "/var/lib/prometheus/node-exporter"
# the node shares its host's clock and runs no time service
NOT_HERE = "CertwardenClockNotSynchronised"


def query(node, expression: str) -> list[dict]:
    """The series that Prometheus has for it."""
    url = "http://127.0.0.1:9090/api/v1/query"
    return json.loads(node.run("curl", "-sf", "--data-urlencode", f"query={expression}", url).out)["data"]["result"]


def firing(node) -> set[tuple[str, str]]:
    """Alerts and the certificates they are about."""
    alerts = [a["metric"] for a in query(node, 'ALERTS{alertstate="firing",job="certwarden"}')]
    return {(a["alertname"], a.get("certificate", "")) for a in alerts if a["alertname"] != NOT_HERE}


@pytest.fixture(scope="module", autouse=True)
def monitored_node(node):
    node.shorten_waits()
    node.harness("inside/dated", str(node.tree), "363 days ago", "+2 days", "apiserver.crt")
    node.path("/opt/prom").mkdir(parents=True)
    node.path(TEXTFILES).mkdir(parents=True)
    for program in ("prometheus", "prometheus-node-exporter"):
        shutil.copy(VM / "prometheus/usr/bin" / program, node.path("/opt/prom"))
    # patience of hours is tested by promtool; here it is seconds
    rules = (REPOSITORY / "packaging/monitoring/certwarden.rules.yml").read_text()
    rules = re.sub(r"^( +for:) .*", r"\1 5s", rules, flags=re.MULTILINE).replace("interval: 1m", "interval: 2s")
    node.write("/opt/prom/certwarden.rules.yml", rules)
    node.write("/opt/prom/prometheus.yml", PROMETHEUS)
    node.configure("30-observe.toml", 'mode = "observe"\n')
    node.configure("40-hooks.toml", HOOKS)
    for path, (script, mode) in PROGRAMS.items():
        node.write(path, f"#!/bin/sh\n{script}\n", mode)
    node.boot()
    node.systemctl("enable", "--now", "certwarden-export.socket")
    node.systemctl("start", "certwarden")
    start = ("systemd-run", "-q")
    exporter = ("/opt/prom/prometheus-node-exporter", "--web.listen-address=127.0.0.1:9100")
    textfile = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={TEXTFILES}")
    node.run(*start, "--unit=node-exporter", *exporter, *textfile)
    server = ("/opt/prom/prometheus", "--config.file=/opt/prom/prometheus.yml", "--storage.tsdb.path=/var/lib/prom")
    node.run(*start, "--unit=prometheus", *server, "--web.listen-address=127.0.0.1:9090")


def test_both_ways_of_scraping_give_the_same(node):
    wait_until("both ways of scraping", 100, lambda: len(query(node, "certwarden_build_info")) == 2)

    def certificates(job: str) -> set[tuple]:
        labels = [s["metric"] for s in query(node, f'certwarden_certificate_info{{job="{job}"}}')]
        return {tuple(sorted((k, v) for k, v in m.items() if k not in ("job", "instance"))) for m in labels}

    assert certificates("certwarden") == certificates("node") != set()
    assert len(query(node, "node_textfile_scrape_error == 0")) == 1


def test_the_right_alerts_fire_and_a_hook_is_told(node):
    expected = {("CertwardenCertificateExpiring", "apiserver"), ("CertwardenCertificateExpiringSoon", "apiserver")}
    wait_until("the alerts of three days and of two weeks", 90, lambda: expected <= firing(node))
    assert {certificate for _, certificate in firing(node)} == {"apiserver"}
    figure(f"firing: {sorted(firing(node))}")
    told = node.path("/var/lib/told-expiring.json")
    wait_until("the hook for what expires", 30, lambda: told.exists() and told.stat().st_size > 0)


def test_after_the_renewal_nothing_fires(node):
    node.unconfigure("30-observe.toml")
    node.systemctl("reload", "certwarden")
    node.systemctl("restart", "certwarden")
    node.wait_for_end(400)
    assert node.transactions.state == "verified"
    wait_until("no alert", 100, lambda: not firing(node))
    figure("after the renewal nothing fires")


def test_hooks_are_told_killed_and_refused(node):
    told = node.path("/var/lib/told-renewed.json")
    wait_until("the hook for the renewal", 30, lambda: told.exists() and told.stat().st_size > 0)
    notice = json.loads(told.read_text())
    assert (notice["schema"], notice["occasion"]) == ("certwarden.notice/v1", "renewed")
    assert notice["report"]["renewed"][0]["name"] == "apiserver"
    assert node.path("/etc/hooks-may-write").exists(), "the daemon's sandbox is not the hook's"

    def failed() -> set[str]:
        series = query(node, 'certwarden_hook_failures_total{job="certwarden"} == 1')
        return {s["metric"]["hook"] for s in series}

    wait_until("failures of two hooks counted", 60, lambda: failed() == {"endless", "foreign"})
    other = query(node, 'certwarden_hook_runs_total{job="certwarden",hook="other"}')
    assert [series["value"][1] for series in other] == ["0"], "a hook of other certificates"
    assert node.run("pgrep", "-f", "sleep 4711", check=False).out == "", "what the endless one left"
    assert not node.path("/etc/foreign-was-run").exists(), "a program that everybody may write was run as root"
    assert node.failed_units() == []
