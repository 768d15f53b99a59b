//! Metrics, as text in the exposition format of Prometheus, version 0.0.4. What is measured and what bounds each label
//! stands in one table ([`FAMILIES`]), of which the reference is made too; what is not in it cannot be published.

mod daemon;
mod node;
mod page;
mod x509;

pub mod counters;

pub use daemon::{DaemonFacts, Doing, daemon};
pub use node::{Endpoint, Look, count_errors, node};
pub use page::{Page, Samples, merge};
pub(in crate::model) use page::{head, labels};
pub(in crate::model) use x509::{Labelled, labelled, place_labels};
pub use x509::{Place, Source, certificates};

/// What Prometheus makes of the samples.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Gauge,
    Counter,
}

impl Kind {
    /// As `# TYPE` has it.
    pub fn id(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// A label, and how many values it can have.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub name: &'static str,
    /// What its values are, and what bounds them.
    pub values: &'static str,
}

const fn label(name: &'static str, values: &'static str) -> Label {
    Label { name, values }
}

/// All samples of one name.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    /// Frozen: node_exporter drops a family that another file has with another help text (node_exporter:
    /// `collector/textfile.go`).
    pub help: &'static str,
    pub labels: &'static [Label],
}

const CERTIFICATE: Label =
    label("certificate", "logical name, as in `certwarden check`: some 17 on a control plane, 4 on a worker");
const FILEPATH: Label =
    label("filepath", "the file of the certificate; a kubeconfig's own path; a link's, not its target's");
const COMPONENT: Label =
    label("component", "`etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubelet`");
const OUTCOME: Label = label("outcome", "of a transaction, ten ids");
const SOURCE_KIND: Label =
    label("source_kind", "`file`, `kubeconfig`; of `certwarden watch` also `kubernetes`, `cabundle`");
const SOURCE_NAME: Label = label("source_name", "`certwarden`");
const HOOK: Label = label("hook", "`name` of a `[[hook]]`");
const RESOURCE: Label = label(
    "resource",
    "`secrets`, `configmaps`, `certificates`, `validatingwebhookconfigurations`, `mutatingwebhookconfigurations`, `apiservices`",
);
const PROBE: Label = label("probe", "`name` of a `[[probe]]`");
const NAMESPACE: Label = label("namespace", "of the object");
const NAME: Label = label("name", "of the object");

/// Of x509-certificate-exporter, in its order (`pkg/registry/labels.go`). Empty ones are left out, which is the same to
/// Prometheus.
const X509: &[Label] = &[
    label("filename", "last part of `filepath`"),
    FILEPATH,
    label("embedded_kind", "`user`, `cluster`: where in a kubeconfig"),
    label("embedded_key", "name of that user or cluster"),
    label("secret_namespace", "`certwarden watch` only"),
    label("secret_name", "`certwarden watch` only"),
    label("secret_key", "`certwarden watch` only: `tls.crt`, `ca.crt`, … "),
    label("configmap_namespace", "`certwarden watch` only"),
    label("configmap_name", "`certwarden watch` only"),
    label("configmap_key", "`certwarden watch` only"),
    label(
        "cabundle_resource_kind",
        "`certwarden watch` only: `ValidatingWebhookConfiguration`, `MutatingWebhookConfiguration`, `APIService`",
    ),
    label("cabundle_resource_name", "`certwarden watch` only"),
    label("cabundle_entry", "`certwarden watch` only: the webhook's name"),
    label("serial_number", "decimal; one series for each certificate there is now"),
    label("issuer_C", "first value of the issuer's country"),
    label("issuer_ST", "state"),
    label("issuer_L", "locality"),
    label("issuer_O", "organization"),
    label("issuer_OU", "unit"),
    label("issuer_CN", "common name"),
    label("subject_C", "the same of the subject"),
    label("subject_ST", "state"),
    label("subject_L", "locality"),
    label("subject_O", "organization"),
    label("subject_OU", "unit"),
    label("subject_CN", "common name"),
];

/// One line for each, so that none can be left out of the reference.
macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(pub(crate) const $id: Family = Family { name: $name, kind: Kind::$kind, help: $help, labels: $labels };)*

        /// Everything that is published, in the order of the reference.
        pub const FAMILIES: &[Family] = &[$($id,)*];
    };
}

families! {
    // help texts of x509-certificate-exporter 4, word for word
    X509_NOT_AFTER = Gauge "x509_cert_not_after" X509, "Unix timestamp of the certificate's NotAfter.";
    X509_NOT_BEFORE = Gauge "x509_cert_not_before" X509, "Unix timestamp of the certificate's NotBefore.";
    X509_EXPIRED = Gauge "x509_cert_expired" X509, "1 if the certificate is expired, 0 otherwise.";
    X509_ERROR = Gauge "x509_cert_error" X509, "1 if the corresponding bundle item failed to parse, 0 otherwise.";
    X509_READ_ERRORS = Gauge "x509_read_errors" &[], "Indicates the number of read failure(s).";
    X509_SOURCE_UP = Gauge "x509_source_up" &[SOURCE_KIND, SOURCE_NAME], "1 if the source has produced its first sync, 0 otherwise.";
    X509_SOURCE_BUNDLES = Gauge "x509_source_bundles" &[SOURCE_KIND, SOURCE_NAME], "Number of bundles currently tracked per source.";
    X509_SOURCE_ERRORS = Counter "x509_source_errors_total" &[SOURCE_KIND, SOURCE_NAME, label("reason", "the exporter's seven reasons of files, all present from the start")], "Errors emitted by sources, by reason code.";
    X509_COLLISIONS = Counter "x509_cert_collision_total" &[SOURCE_KIND], "Number of label-collision events detected by the registry, regardless of resolution policy. Increments on every scrape while a collision persists — useful as a diagnostic that the config has overlapping rules, but not a data-loss signal on its own. For that, see x509_cert_collision_dropped_total.";
    X509_DROPPED = Counter "x509_cert_collision_dropped_total" &[SOURCE_KIND], "Number of certificate label-collision events that resulted in actual data loss — i.e. one or more colliding items were dropped because the registry is configured with Collision=Never. Stays at 0 under the default CollisionAuto policy (discriminator added) and under CollisionAlways. Alert on this for real silently-invisible certificates.";

    BUILD_INFO = Gauge "certwarden_build_info" &[label("version", "one")], "1, with the version of certwarden.";
    INFO = Gauge "certwarden_info" &[label("role", "`control-plane`, `worker`, `unknown`"), label("mode", "`enforce`, `observe`")], "1, with what this node is and what certwarden may do on it.";
    VERDICT = Gauge "certwarden_verdict" &[label("verdict", "`ok`, `warning`, `unknown`, `critical`")], "1 for the verdict of the last check, 0 for the others.";
    CERTIFICATE_INFO = Gauge "certwarden_certificate_info" &[CERTIFICATE, FILEPATH, label("role", "`ca`, `server`, `client`, `both`, `memory` (without a file), `other`"), label("issuer_certificate", "logical name of its CA"), label("manager", "whose job its renewal is: `kubeadm`, `kubelet`, `certwarden`, `external`, `none`"), label("key_algorithm", "`RSA-2048`, `ECDSA-P256`, …")], "1, with what a certificate is: to be joined with other metrics.";
    NOT_AFTER = Gauge "certwarden_certificate_not_after_timestamp_seconds" &[CERTIFICATE], "End of the certificate; the earliest of a CA bundle is its first.";
    NOT_BEFORE = Gauge "certwarden_certificate_not_before_timestamp_seconds" &[CERTIFICATE], "Beginning of the certificate. A kubeadm leaf's can be its CA's.";
    EFFECTIVE_END = Gauge "certwarden_certificate_effective_end_timestamp_seconds" &[CERTIFICATE], "When the certificate stops working: its own end or its CA's, whichever is earlier.";
    RENEW_AFTER = Gauge "certwarden_certificate_renew_after_timestamp_seconds" &[CERTIFICATE], "From when this node renews the certificate, as things are: by age, by windows and frozen periods, by its turn among many.";
    STATE = Gauge "certwarden_certificate_state" &[CERTIFICATE, label("state", "`ok`, `due`, `expiring`, `expired`, `invalid`, `unreadable`; one of them is 1")], "1 for the state that the certificate is in, 0 for the others.";
    FINDING = Gauge "certwarden_certificate_finding" &[CERTIFICATE, label("finding", "ids of docs/reference/findings.md; only those that are found now")], "1 while the finding holds.";
    FINDINGS = Gauge "certwarden_findings" &[label("finding", "ids of docs/reference/findings.md, all of them")], "Number of certificates with that finding; of `untested-version`: 1 if the cluster has it.";
    SERVED_NOT_AFTER = Gauge "certwarden_served_certificate_not_after_timestamp_seconds" &[COMPONENT, label("endpoint", "address on this node, at most 16 names each"), CERTIFICATE], "End of the certificate that clients are shown.";
    SERVED_DRIFT = Gauge "certwarden_served_certificate_drift" &[COMPONENT, label("endpoint", "as above"), CERTIFICATE], "1 if another certificate is shown than lies in the file.";
    SERVED_SUCCESS = Gauge "certwarden_served_probe_success" &[COMPONENT, label("endpoint", "as above"), CERTIFICATE], "1 if the endpoint showed a certificate at the last check.";
    ROTATION_DEADLINE = Gauge "certwarden_kubelet_rotation_deadline_timestamp_seconds" &[CERTIFICATE, label("bound", "`earliest`, `latest`")], "When the kubelet rotates the certificate: between 70 and 90 per cent of its life.";
    CSR_PENDING = Gauge "certwarden_kubelet_csr_pending" &[label("signer", "the kubelet's two")], "Requests of this node that nobody has approved, at the last check that asked.";
    CSR_OLDEST = Gauge "certwarden_kubelet_csr_oldest_pending_timestamp_seconds" &[label("signer", "the kubelet's two")], "Creation of the oldest of them; 0: there is none.";
    CLOCK = Gauge "certwarden_clock_synchronized" &[], "1 if systemd says that the clock is synchronised.";
    COLLISIONS = Gauge "certwarden_metrics_dropped_samples" &[], "Samples left out because another had the same labels.";

    CHECKS = Counter "certwarden_checks_total" &[], "Checks of this node.";
    CHECK_FAILURES = Counter "certwarden_check_failures_total" &[], "Checks that could tell nothing.";
    CHECK_LAST = Gauge "certwarden_check_last_run_timestamp_seconds" &[], "Time of the last check.";
    CHECK_LAST_SUCCESS = Gauge "certwarden_check_last_success_timestamp_seconds" &[], "Time of the last check that could tell something.";
    CHECK_NEXT = Gauge "certwarden_check_next_timestamp_seconds" &[], "Time of the next check; 0 while one runs.";
    CHECK_DURATION = Gauge "certwarden_check_duration_seconds" &[], "How long the last check took.";
    RELOAD_OK = Gauge "certwarden_config_last_reload_successful" &[], "1 unless the last reload was refused for a faulty configuration.";
    RELOAD_TIME = Gauge "certwarden_config_last_reload_success_timestamp_seconds" &[], "When the configuration in force was read.";
    TRANSACTIONS = Counter "certwarden_transactions_total" &[OUTCOME], "Transactions and attempts at them that have ended.";
    RENEWALS = Counter "certwarden_renewals_total" &[CERTIFICATE], "Renewals that are in place.";
    RENEWAL_FAILURES = Counter "certwarden_renewal_failures_total" &[CERTIFICATE], "Renewals that were rolled back.";
    REFUSALS = Counter "certwarden_gate_refusals_total" &[label("gate", "ids of docs/reference/findings.md, all of them")], "Attempts of the daemon that a gate refused.";
    APPROVER_DECISIONS = Counter "certwarden_approver_decisions_total" &[label("decision", "`approved`, `denied`, `failed` (decided, and the API server did not take it)")], "Requests for serving certificates that the approver decided about; only where it is on.";
    APPROVER_UNDECIDED = Gauge "certwarden_approver_undecided" &[], "Requests for serving certificates that the approver leaves to a person: nobody but the node itself, or two nodes, say that a name or an address is its own; only where it is on.";
    CONSECUTIVE_FAILURES = Gauge "certwarden_renewal_consecutive_failures" &[], "Attempts in a row that renewed nothing of what was due.";
    LAST_ATTEMPT = Gauge "certwarden_renewal_last_attempt_timestamp_seconds" &[], "End of the last attempt; 0: never.";
    LAST_SUCCESS = Gauge "certwarden_renewal_last_success_timestamp_seconds" &[CERTIFICATE], "When this certificate was last renewed here.";
    LAST_DURATION = Gauge "certwarden_transaction_duration_seconds" &[], "How long the last transaction took.";
    ROLLBACK_LAST = Gauge "certwarden_rollback_last_timestamp_seconds" &[], "When a transaction was last rolled back, or should have been; 0: never.";
    TRANSACTION_STATE = Gauge "certwarden_transaction_state" &[label("state", "`idle`, `renewing`, `recovering`, `unfinished`, `rollback-failed`; one of them is 1")], "1 for what certwarden is doing, 0 for the others.";
    TRANSACTION_START = Gauge "certwarden_transaction_start_timestamp_seconds" &[], "When the transaction under way began; 0: none is.";
    KUBELET_RESTARTS = Counter "certwarden_kubelet_restarts_total" &[], "Restarts of the kubelet by certwarden.";
    POD_RESTARTS = Counter "certwarden_static_pod_restarts_total" &[COMPONENT], "New containers of static pods made by certwarden.";
    SUSPENDED = Gauge "certwarden_suspended" &[label("reason", "`observe-mode`, `back-off`, `rollback-failed`, `hard-pause`")], "1 while nothing is renewed for that reason.";
    HOOKS = Counter "certwarden_hook_runs_total" &[HOOK], "Hooks that were started.";
    HOOK_FAILURES = Counter "certwarden_hook_failures_total" &[HOOK], "Hooks that could not be started, failed or took too long.";
    WRITE_FAILURES = Counter "certwarden_metrics_write_failures_total" &[], "Times that this text could not be written somewhere, since the daemon's start.";

    WATCH_UP = Gauge "certwarden_watch_up" &[RESOURCE], "1 while the objects are listed and watched, 0 if the API server does not let or does not answer; absent where the cluster has no such kind.";
    WATCH_OBJECTS = Gauge "certwarden_watch_objects" &[RESOURCE], "Objects that are followed.";
    WATCH_OMITTED = Gauge "certwarden_watch_omitted_objects" &[RESOURCE], "Objects that are not followed because there are too many, or because they say what no such object can.";
    WATCH_CUT = Gauge "certwarden_watch_omitted_certificates" &[RESOURCE], "Certificates of followed objects that are not exported because there are too many in one bundle.";
    WATCH_EVENTS = Counter "certwarden_watch_events_total" &[RESOURCE], "Changes that were received.";
    WATCH_ERRORS = Counter "certwarden_watch_errors_total" &[RESOURCE], "Lists and watches that failed.";
    CM_READY = Gauge "certwarden_certmanager_certificate_ready" &[NAMESPACE, NAME], "1 if cert-manager says that the Certificate is ready.";
    CM_NOT_AFTER = Gauge "certwarden_certmanager_certificate_not_after_timestamp_seconds" &[NAMESPACE, NAME], "End, as cert-manager says; absent while nothing is issued.";
    CM_RENEWAL = Gauge "certwarden_certmanager_certificate_renewal_timestamp_seconds" &[NAMESPACE, NAME], "When cert-manager means to renew it; absent while nothing is issued.";
    PROBE_SUCCESS = Gauge "certwarden_probe_success" &[PROBE], "1 if the endpoint showed a certificate.";
    PROBE_TRUSTED = Gauge "certwarden_probe_trusted" &[PROBE], "1 if a client that asks for this name would accept the certificate.";
    PROBE_NOT_AFTER = Gauge "certwarden_probe_not_after_timestamp_seconds" &[PROBE], "End of the certificate that was shown.";
    PROBE_LAST = Gauge "certwarden_probe_last_run_timestamp_seconds" &[PROBE], "When the endpoint was asked.";
    PROBE_DURATION = Gauge "certwarden_probe_duration_seconds" &[PROBE], "How long the answer took.";
    PROBE_DRIFT = Gauge "certwarden_probe_drift" &[PROBE], "1 if the endpoint shows another certificate than the Secret that the probe names.";
}

#[cfg(test)]
mod tests;
