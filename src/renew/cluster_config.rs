//! The document for `kubeadm certs renew --config`. Always given: without it kubeadm asks the API, and when that does
//! not answer it goes on with defaults and exits 0 (kubernetes: `cmd/kubeadm/app/cmd/certs.go:getInternalCfg`).

mod rebuild;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::RenewError;
use crate::host::Host;
use crate::host::fs::FsError;
use crate::host::kube::{Connection, Identity};
use crate::model::component::Component;
use crate::model::inventory::Node;
use crate::model::kubeconfig;
use crate::model::version::Version;
use crate::model::yaml;

/// The administrator's kubeconfig; it may read `ConfigMaps`.
const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// A server that takes longer is as good as none: there is a cache.
const API_LIMIT: Duration = Duration::from_secs(10);
/// etcd takes no object beyond 1.5 MiB.
const MAX_TEXT: usize = 2 << 20;
/// kubernetes: `cmd/kubeadm/app/constants/constants.go:CertificateValidityPeriod`.
const DEFAULT_VALIDITY: &str = "8760h0m0s";

/// What kubeadm is told about the cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `ClusterConfiguration` and `InitConfiguration`, JSON (which is YAML), separated by `---`.
    pub document: String,
    pub origin: Origin,
    pub notes: Vec<String>,
}

/// Where the `ClusterConfiguration` is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    Api,
    Cache,
    /// From the manifests and certificates on this node.
    Rebuilt,
}

/// The cluster's configuration from the API, else from `cache`, else made up from what is on the node; then
/// everything that `certs renew` would otherwise guess is made explicit.
///
/// # Errors
/// [`RenewError::Staging`] if the document cannot be written as JSON.
pub fn cluster_configuration(
    host: &Host,
    node: &Node,
    kubeadm: Version,
    cache: &Path,
) -> Result<ClusterConfig, RenewError> {
    let mut notes = Vec::new();
    let (mut cluster, origin) = find(host, node, kubeadm, cache, &mut notes);
    explicit(host, node, kubeadm, origin, &mut cluster, &mut notes);
    let api_version = cluster.get("apiVersion").cloned().unwrap_or(Value::Null);
    let init = rebuild::init_configuration(node, &api_version);
    let text = |value: Map<String, Value>| {
        serde_json::to_string_pretty(&Value::Object(value)).map_err(|e| RenewError::Staging { reason: e.to_string() })
    };
    let document = format!("{}\n---\n{}\n", text(cluster)?, text(init)?);
    Ok(ClusterConfig { document, origin, notes })
}

fn find(
    host: &Host,
    node: &Node,
    kubeadm: Version,
    cache: &Path,
    notes: &mut Vec<String>,
) -> (Map<String, Value>, Origin) {
    let from_api = from_api(host).and_then(|text| Ok((understood(&text, kubeadm)?, text)));
    let reason = match from_api {
        Ok((cluster, text)) => {
            if let Err(e) = remember(host, cache, &text) {
                notes.push(format!("the cluster's configuration could not be kept for later: {e}"));
            }
            return (cluster, Origin::Api);
        }
        Err(reason) => reason,
    };
    let cached = host.root.read_text(cache).map_err(|e| match e {
        FsError::NotFound { .. } => "none has been kept".to_owned(),
        other => other.to_string(),
    });
    match cached.and_then(|text| understood(&text, kubeadm)) {
        Ok(cluster) => {
            notes.push(format!(
                "the cluster's configuration was not read from the API ({reason}): the last one known is used"
            ));
            (cluster, Origin::Cache)
        }
        Err(also) => {
            notes.push(format!("the cluster's configuration was not read from the API ({reason}) nor from the cache ({also}): it was rebuilt from this node's manifests"));
            (rebuild::cluster_configuration(node, kubeadm), Origin::Rebuilt)
        }
    }
}

fn from_api(host: &Host) -> Result<String, String> {
    let file = host.root.read_secret(Path::new(ADMIN_CONF)).map_err(|e| e.to_string())?;
    let text = std::str::from_utf8(&file).map_err(|_| format!("{ADMIN_CONF} is not text"))?;
    let config = kubeconfig::parse(text).map_err(|e| format!("{ADMIN_CONF}: {e}"))?;
    let beside = |file: &Path| {
        host.root.read_secret(&kubeconfig::relative_to(Path::new(ADMIN_CONF), file)).map_err(|e| e.to_string())
    };
    let pair = config.identity.pair(beside)?;
    let identity = pair.map(|(cert, key)| Identity { cert: cert.to_vec(), key });
    let ca = match config.ca {
        Some(ca) => ca.pem(beside)?,
        None => return Err(format!("{ADMIN_CONF} has no CA")),
    };
    let server = config.server.ok_or_else(|| format!("{ADMIN_CONF} names no server"))?;
    let to = Connection { server, ca: Some(ca), identity, headers: Vec::new(), limit: API_LIMIT };
    match host.kube.cluster_configuration(&to) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err("the cluster has no ConfigMap kube-system/kubeadm-config".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// A `ClusterConfiguration` that this kubeadm can read.
pub(super) fn understood(text: &str, kubeadm: Version) -> Result<Map<String, Value>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it has {} bytes", text.len()));
    }
    let Value::Object(cluster) = yaml::parse(text).map_err(|e| e.to_string())? else {
        return Err("it is no mapping".into());
    };
    let field = |name: &str| cluster.get(name).and_then(Value::as_str).unwrap_or("nothing").to_owned();
    if field("kind") != "ClusterConfiguration" {
        return Err(format!("its kind is {}", field("kind")));
    }
    let api_version = field("apiVersion");
    if kubeadm.reads(&api_version) {
        Ok(cluster)
    } else {
        Err(format!("kubeadm {kubeadm} does not read {api_version}"))
    }
}

/// certwarden's own state, written only when it differs.
fn remember(host: &Host, cache: &Path, text: &str) -> std::io::Result<()> {
    if host.root.read_text(cache).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let path = host.root.on_host(cache);
    let dir = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
    let mut file = tempfile::Builder::new().prefix(".cluster-configuration.").tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|e| e.error)?;
    std::fs::File::open(dir)?.sync_all()
}

fn explicit(
    host: &Host,
    node: &Node,
    kubeadm: Version,
    origin: Origin,
    cluster: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) {
    cluster.insert("certificatesDir".into(), json!(node.pki_dir));
    let version = kubernetes_version(node, kubeadm, origin, cluster, notes);
    cluster.insert("kubernetesVersion".into(), json!(version.to_string()));
    cluster.entry("etcd").or_insert_with(|| rebuild::etcd(node));
    let Some(existing) = rebuild::apiserver_key(host, node) else { return };
    if cluster.get("apiVersion").and_then(Value::as_str) == Some("kubeadm.k8s.io/v1beta4") {
        let name = existing.to_string();
        if kubeadm.makes(&name) {
            cluster.entry("encryptionAlgorithm").or_insert(json!(name));
        }
        cluster.entry("certificateValidityPeriod").or_insert(json!(DEFAULT_VALIDITY));
    } else if existing.to_string().starts_with("ECDSA-") {
        // before v1beta4 the key's kind is a feature gate (kubernetes: `cmd/kubeadm/app/features/features.go`)
        let gates = cluster.entry("featureGates").or_insert_with(|| json!({}));
        if let Some(gates) = gates.as_object_mut() {
            gates.entry("PublicKeysECDSA").or_insert(json!(true));
        }
    }
}

/// A full version: `stable-1` and its like would make kubeadm ask dl.k8s.io.
fn kubernetes_version(
    node: &Node,
    kubeadm: Version,
    origin: Origin,
    cluster: &Map<String, Value>,
    notes: &mut Vec<String>,
) -> Version {
    let stated = cluster.get("kubernetesVersion").and_then(Value::as_str).and_then(Version::parse);
    let running = node.static_pods.get(&Component::KubeApiserver).and_then(|p| p.version);
    let version = match origin {
        Origin::Api => stated.or(running),
        // the cluster may have been upgraded since
        Origin::Cache | Origin::Rebuilt => running.or(stated),
    };
    let version = version.unwrap_or(kubeadm);
    if version.minor + 1 >= kubeadm.minor {
        return version;
    }
    // it says so and exits (kubernetes: `cmd/kubeadm/app/constants/constants.go:MinimumControlPlaneVersion`);
    // renewal itself does not depend on it
    notes.push(format!("kubeadm {kubeadm} does not handle a cluster of {version}: it is told its own version"));
    kubeadm
}
