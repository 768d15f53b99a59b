//! Examples under `--help`; the manual pages and the reference show the same text. A command line begins after two
//! spaces, what it does after six; `tests/it/manual.rs` parses each of them.

pub const MAIN: &str = "\
Examples:
  certwarden check
      Every certificate of this node: what ends when, and what stops then.
  certwarden plan
      What would be renewed now, what would be restarted for it, and why.
  certwarden renew --dry-run --all
      Try a renewal of everything on the live node; change not one byte.
  certwarden renew
      Renew what is due, prove it, or put the old state back.";

pub const CHECK: &str = "\
Examples:
  certwarden check
      All certificates as a table; the exit code is for monitoring.
  certwarden check apiserver kubelet-client
      Only these two.
  certwarden check -o wide
      With owner, path, issuer and serial, and what need not be there.
  certwarden check -o json
      For programs.
  certwarden --root /mnt/image check
      The node on a mounted disk image.";

pub const PLAN: &str = "\
Examples:
  certwarden plan
      What is due, and what its renewal takes.
  certwarden plan --all
      The same for everything that can be renewed here.
  certwarden plan admin.conf
      The same for one certificate, due or not.";

pub const RENEW: &str = "\
Examples:
  certwarden renew
      What is due.
  certwarden renew --dry-run --all
      Stage, validate and rehearse everything on the live node, then discard it.
  certwarden renew apiserver front-proxy-client
      These two, due or not.
  certwarden renew --force other-renewer
      Although another renewer is active on this node.";

pub const EXPORT: &str = "\
Examples:
  certwarden export --listen 127.0.0.1:9794
      By hand, until it is interrupted; `curl http://127.0.0.1:9794/metrics` shows what Prometheus would get.";

pub const WATCH: &str = "\
Examples:
  certwarden watch --once
      TLS Secrets, cert-manager, meshes, webhooks, aggregated APIs and every [[probe]]: what is not well, and what ends next.
  certwarden watch --once -o json
      For programs; the exit code is as of `check`.
  certwarden watch --kubeconfig /etc/certwarden/watch.kubeconfig
      By hand as the unit does it: metrics go to /run/certwarden-watch, until it is interrupted.";

pub const ROLLBACK: &str = "\
Examples:
  certwarden rollback
      Undo the newest renewal.
  certwarden history
      List the transactions that can be gone back to.
  certwarden rollback 000001-20261122T063633Z
      Go back to what was before this one.";

pub const RECOVER: &str = "\
Examples:
  certwarden recover
      After a crash, or once the cause of a failed rollback is gone.
  certwarden recover --files-only
      What certwarden-recover.service does at boot.
  certwarden recover --accept
      Take what is in place and could not be proven as it is; who said so is logged.";

pub const HISTORY: &str = "\
Examples:
  certwarden history
      All transactions that are kept, newest first.
  certwarden history 000001-20261122T063633Z
      What one of them did and proved.";

pub const STATUS: &str = "\
Examples:
  certwarden status
      What the daemon last saw, what it did last, when it looks next.
  certwarden status -o json
      The same for programs, as in /run/certwarden/status.json.";

pub const PAUSE: &str = "\
Examples:
  certwarden pause --for 2h --reason upgrade
      This node, for two hours; the reason stands in `status` and `plan`.
  certwarden pause --cluster --until 2027-01-05
      All nodes, until then; an emergency goes on all the same.
  certwarden pause --hard --for 4h --reason restore
      This node, in an emergency too; the journal warns each day.";

pub const RESUME: &str = "\
Examples:
  certwarden resume
      This node.
  certwarden resume --cluster
      All nodes that are not paused themselves.";

pub const FLEET: &str = "\
Examples:
  certwarden fleet
      All nodes, on a control plane.
  certwarden fleet --kubeconfig ~/.kube/config -o json
      The same from anywhere, for programs.
  certwarden fleet --clear-harm
      After a renewal that was rolled back, once its cause is gone: the others go on.";

pub const DIAGNOSE: &str = "\
Examples:
  certwarden diagnose
      Why the node is not Ready, or its kubelet's certificate does not rotate.
  certwarden diagnose clients
      Which client logs in with a certificate that is about to end.
  certwarden diagnose layers
      Secrets, cert-manager, meshes, webhooks, endpoints: what certwarden-watch.service found.
  certwarden diagnose apiserver
      What is wrong with one certificate, who uses it, what to do.
  certwarden diagnose --all -o json
      Everything, for programs.";

pub const RUNBOOK: &str = "\
Examples:
  certwarden runbook
      List the pages.
  certwarden runbook CertwardenCertificateExpiring
      What an alert means, what it does to the cluster, what to do.
  certwarden runbook key-mismatch
      The same for a finding of `check`.";

pub const NPD: &str = "\
Examples:
  certwarden npd-plugin
      One line; examples/node-problem-detector.json configures the detector.";

pub const CONFIG_CHECK: &str = "\
Examples:
  certwarden config check
      Before a reload: every fault with its file, line and key.";

pub const CONFIG_SHOW: &str = "\
Examples:
  certwarden config show --origin
      Every setting and the file it comes from.";
