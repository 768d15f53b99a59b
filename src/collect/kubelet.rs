//! The kubelet as its command line and its configuration files describe it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifests::flags;
use super::unit;
use crate::host::fs::Root;
use crate::model::boolean;
use crate::model::command::{self, Program};
use crate::model::inventory::Kubelet;
use crate::model::inventory::on_disk::OnDisk;
use crate::model::yaml;

const UNIT: &str = "kubelet.service";
const PROGRAM: &str = "kubelet";
const CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// Written by kubeadm 1.32 and later instead of an annotation of the Node (feature gate `NodeLocalCRISocket`).
const INSTANCE_CONFIG: &str = "/var/lib/kubelet/instance-config.yaml";
const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
const ROOT_DIR: &str = "/var/lib/kubelet";
const CERT_DIR: &str = "/var/lib/kubelet/pki";
/// Sockets that a container runtime opens unless told otherwise, as kubeadm looks for them.
const SOCKETS: [&str; 3] = ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock"];

/// What is known of the kubelet, beyond what the inventory tells everybody.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kubelet: Kubelet,
    /// A unit, a kubeconfig or a configuration was found.
    pub(super) present: bool,
    /// `--root-dir`, where it keeps its pods.
    pub(super) root_dir: PathBuf,
    pub(super) hostname_override: Option<String>,
    /// Why its command line is not known for certain: then its flags name nobody. A clause.
    pub(super) doubt: Option<String>,
    /// A cloud provider inside the kubelet names the node, whatever its host name is (kubernetes, before 1.31:
    /// `cmd/kubelet/app/server.go:getNodeName`).
    pub(super) named_by_cloud: bool,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
}

/// `KubeletConfiguration`, as far as it concerns us.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    static_pod_path: Option<PathBuf>,
    rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    server_tls_bootstrap: Option<bool>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    healthz_bind_address: Option<String>,
    healthz_port: Option<i32>,
    port: Option<i32>,
    address: Option<String>,
    container_runtime_endpoint: Option<String>,
    image_service_endpoint: Option<String>,
    pub(super) authentication: Option<Authentication>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(super) struct Authentication {
    x509: Option<X509>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
}

impl Config {
    pub(super) fn client_ca(&self) -> Option<&PathBuf> {
        self.authentication.as_ref()?.x509.as_ref()?.client_ca_file.as_ref()
    }

    /// `over` where it says something, else `self`: how `--config-dir` merges.
    pub(super) fn overlaid(self, over: Self) -> Self {
        let has_ca = over.client_ca().is_some();
        Self {
            static_pod_path: over.static_pod_path.or(self.static_pod_path),
            rotate_certificates: over.rotate_certificates.or(self.rotate_certificates),
            server_tls_bootstrap: over.server_tls_bootstrap.or(self.server_tls_bootstrap),
            tls_cert_file: over.tls_cert_file.or(self.tls_cert_file),
            tls_private_key_file: over.tls_private_key_file.or(self.tls_private_key_file),
            healthz_bind_address: over.healthz_bind_address.or(self.healthz_bind_address),
            healthz_port: over.healthz_port.or(self.healthz_port),
            port: over.port.or(self.port),
            address: over.address.or(self.address),
            container_runtime_endpoint: over.container_runtime_endpoint.or(self.container_runtime_endpoint),
            image_service_endpoint: over.image_service_endpoint.or(self.image_service_endpoint),
            authentication: if has_ca { over.authentication } else { self.authentication },
        }
    }
}

/// Command line flags; they win over configuration files.
pub(super) struct Flags(pub(super) Vec<(String, String)>);

impl Flags {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn number(&self, name: &str) -> Option<i32> {
        self.get(name)?.parse().ok()
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(boolean::parse)
    }
}

/// Reads the kubelet of this node: its running process where there is one, else its unit; then its configuration.
pub(super) fn find(root: &Root, notes: &mut Vec<String>) -> Found {
    let Command { arguments, doubt, has_unit } = command(root);
    if let Some(doubt) = &doubt {
        notes.push(format!("the kubelet's command line is not known for certain: {doubt}"));
    }
    let flags = Flags(flags(&arguments));
    let config_path = flags.path("config").unwrap_or_else(|| CONFIG.into());
    let (config, has_config) = configuration(root, &config_path, flags.path("config-dir").as_deref(), notes);
    let kubeconfig = flags.path("kubeconfig").or_else(|| {
        let default = PathBuf::from(KUBECONFIG);
        root.symlink_metadata(&default).is_ok().then_some(default)
    });
    let present = has_unit || has_config || kubeconfig.is_some();
    // relative paths in the file are relative to it (kubernetes: pkg/kubelet/kubeletconfig/configfiles/configfiles.go)
    let base = config_path.parent().unwrap_or(Path::new("/")).to_path_buf();
    let beside = |p: Option<&PathBuf>| p.filter(|p| !p.as_os_str().is_empty()).map(|p| base.join(p));
    let port = match flags.number("port").or(config.port) {
        None | Some(0) => 10250,
        Some(p) => u16::try_from(p).unwrap_or(10250),
    };
    Found {
        root_dir: flags.path("root-dir").unwrap_or_else(|| ROOT_DIR.into()),
        // what may be another one names nobody
        hostname_override: flags.get("hostname-override").filter(|_| doubt.is_none()).map(str::to_ascii_lowercase),
        doubt: doubt.or_else(|| (present && !has_unit).then(|| format!("{UNIT} was not found"))),
        named_by_cloud: flags.get("cloud-provider").is_some_and(|p| p != "external"),
        client_ca: flags.path("client-ca-file").or_else(|| beside(config.client_ca())),
        tls_cert: flags.path("tls-cert-file").or_else(|| beside(config.tls_cert_file.as_ref())),
        tls_key: flags.path("tls-private-key-file").or_else(|| beside(config.tls_private_key_file.as_ref())),
        kubelet: Kubelet {
            unit: UNIT.to_owned(),
            bootstrap_kubeconfig: flags.path("bootstrap-kubeconfig"),
            cert_dir: flags.path("cert-dir").unwrap_or_else(|| CERT_DIR.into()),
            // without any configuration what kubeadm would have written
            rotate_certificates: flags
                .switch("rotate-certificates")
                .or(config.rotate_certificates)
                .unwrap_or(!has_config),
            server_tls_bootstrap: flags
                .switch("rotate-server-certificates")
                .or(config.server_tls_bootstrap)
                .unwrap_or(false),
            static_pod_path: flags.path("pod-manifest-path").or_else(|| beside(config.static_pod_path.as_ref())),
            healthz: present.then(|| healthz(&flags, &config)).flatten(),
            port: present.then_some(port),
            address: address(&flags, &config),
            cri_socket: present.then(|| cri_socket(root, &flags, &config)).flatten(),
            image_socket: flags
                .get("image-service-endpoint")
                .or(config.image_service_endpoint.as_deref())
                .filter(|e| !e.is_empty())
                .map(without_scheme),
            configs: config_files(root, &config_path, flags.path("config-dir").as_deref()),
            kubeconfig,
            identity: OnDisk::default(),
        },
        present,
    }
}

/// The kubelet's command line, and how it is known.
struct Command {
    arguments: Vec<String>,
    doubt: Option<String>,
    has_unit: bool,
}

/// Of the process that runs; else of the unit as systemd has loaded it; else of its files, if these can be understood.
fn command(root: &Root) -> Command {
    let runs = |arguments| Command { arguments, doubt: None, has_unit: true };
    // where nearly every kubelet runs, without a look at its unit
    let usual = unit::Unit::absent(UNIT).control_group;
    if let Some(arguments) = running(root, &usual) {
        return runs(arguments);
    }
    let host_name = super::kernel_host_name(root);
    let unit = unit::find(root, UNIT, host_name.as_deref());
    let has_unit = unit.is_some();
    let unit = unit.unwrap_or_default();
    if let Some(arguments) = Some(&unit.control_group).filter(|g| **g != usual).and_then(|g| running(root, g)) {
        return runs(arguments);
    }
    if !has_unit {
        return Command { arguments: Vec::new(), doubt: None, has_unit };
    }
    let all = command::programs(&unit.words, &unit.variables);
    let mut doubts = unit.doubts;
    let kubelets: Vec<&Program> = all.iter().filter(|p| p.name() == PROGRAM).collect();
    let program = match (kubelets.as_slice(), all.as_slice()) {
        ([only], _) => Some(*only),
        ([first, ..], _) => {
            doubts.push("it starts several kubelets".to_owned());
            Some(*first)
        }
        ([], [other, ..]) => {
            doubts.push(format!("it starts {}, which is not called {PROGRAM}", other.name()));
            Some(other)
        }
        ([], []) => {
            doubts.push("its unit starts nothing".to_owned());
            None
        }
    };
    doubts.extend(program.and_then(|p| p.doubt.clone()));
    let arguments = program.map(|p| p.arguments().to_vec()).unwrap_or_default();
    Command { arguments, doubt: (!doubts.is_empty()).then(|| doubts.join("; ")), has_unit }
}

/// The running kubelet's own words. Its process is named by its cgroup: no walk through /proc.
fn running(root: &Root, control_group: &Path) -> Option<Vec<String>> {
    const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];
    if !root.is_live() || control_group.as_os_str().is_empty() {
        return None;
    }
    let procs = |h: &&str| root.read_text(&Path::new(h).join(control_group).join("cgroup.procs")).ok();
    let pids = HIERARCHIES.iter().find_map(procs)?;
    pids.lines().find_map(|pid| {
        let text = root.read_text(&Path::new("/proc").join(pid).join("cmdline")).ok()?;
        let words: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        // a shell or an init that waits for it is in its cgroup too, and starts it by the same words
        let starts = words.first().is_some_and(|w| w.rsplit('/').next() == Some(PROGRAM));
        let hyperkube =
            || command::programs(&words, &command::Variables::new()).into_iter().find(|p| p.name() == PROGRAM);
        if starts {
            words.get(1..).map(<[String]>::to_vec)
        } else {
            hyperkube().filter(|p| p.doubt.is_none()).map(|p| p.arguments().to_vec())
        }
    })
}

fn configuration(root: &Root, path: &Path, dir: Option<&Path>, notes: &mut Vec<String>) -> (Config, bool) {
    let mut parse = |path: &Path| -> Option<Config> {
        let text = match root.read_text(path) {
            Ok(text) => text,
            Err(crate::host::fs::FsError::NotFound { .. }) => return None,
            Err(e) => {
                notes.push(format!("kubelet configuration not read: {e}"));
                return None;
            }
        };
        yaml::parse(&text).map_err(|e| notes.push(format!("kubelet configuration {}: {e}", path.display()))).ok()
    };
    let base = parse(path);
    let found = base.is_some();
    let mut config = base.unwrap_or_default();
    for path in drop_ins(root, dir) {
        config = config.overlaid(parse(&path).unwrap_or_default());
    }
    (config, found)
}

/// Only this ending, in lexical order (kubernetes: cmd/kubelet/app/server.go:mergeKubeletConfigurations).
fn drop_ins(root: &Root, dir: Option<&Path>) -> Vec<PathBuf> {
    let Some(dir) = dir else { return Vec::new() };
    let wanted = |name: &String| Path::new(name).extension().is_some_and(|e| e == "conf");
    root.list(dir).unwrap_or_default().into_iter().filter(wanted).map(|name| dir.join(name)).collect()
}

fn config_files(root: &Root, path: &Path, dir: Option<&Path>) -> Vec<PathBuf> {
    let all = std::iter::once(path.to_path_buf()).chain(drop_ins(root, dir));
    all.filter(|path| root.exists(path)).collect()
}

/// kubernetes: `pkg/kubelet/apis/config/v1beta1/defaults.go` (0.0.0.0).
pub(super) fn address(flags: &Flags, config: &Config) -> Option<String> {
    let stated = flags.get("address").or(config.address.as_deref());
    stated.filter(|a| !matches!(*a, "" | "0.0.0.0" | "::")).map(str::to_owned)
}

pub(super) fn healthz(flags: &Flags, config: &Config) -> Option<String> {
    // defaults: kubernetes: pkg/kubelet/apis/config/v1beta1/defaults.go
    let port = flags.number("healthz-port").or(config.healthz_port).unwrap_or(10248);
    // 0 turns it off; with anything beyond a port the kubelet does not start
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let address = flags.get("healthz-bind-address").or(config.healthz_bind_address.as_deref());
    let address = address.filter(|a| !a.is_empty()).unwrap_or("127.0.0.1");
    let address = match address {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    };
    Some(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
}

fn cri_socket(root: &Root, flags: &Flags, config: &Config) -> Option<PathBuf> {
    let instance = || -> Option<String> {
        let text = root.read_text(Path::new(INSTANCE_CONFIG)).ok()?;
        yaml::parse::<Config>(&text).ok()?.container_runtime_endpoint
    };
    let endpoint = flags.get("container-runtime-endpoint").map(str::to_owned);
    let endpoint = endpoint.or_else(|| config.container_runtime_endpoint.clone()).or_else(instance);
    match endpoint.filter(|e| !e.is_empty()) {
        Some(endpoint) => Some(without_scheme(&endpoint)),
        None => SOCKETS.iter().map(PathBuf::from).find(|s| root.symlink_metadata(s).is_ok()),
    }
}

fn without_scheme(endpoint: &str) -> PathBuf {
    endpoint.strip_prefix("unix://").unwrap_or(endpoint).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_api_is_the_flags_then_the_configurations_and_a_wildcard_is_none() {
        for (flag, config, address) in [
            ("", "", None),
            ("", "address: 0.0.0.0\n", None),
            ("", "address: '::'\n", None),
            ("", "address: 10.0.0.7\n", Some("10.0.0.7")),
            (" --address=fd00::7", "address: 10.0.0.7\n", Some("fd00::7")),
            (" --address=0.0.0.0", "address: 10.0.0.7\n", None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let write = |path: &str, text: String| {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            write("etc/systemd/system/kubelet.service", format!("[Service]\nExecStart=/usr/bin/kubelet{flag}\n"));
            write("var/lib/kubelet/config.yaml", format!("kind: KubeletConfiguration\n{config}"));
            let found = find(&Root::open(dir.path()).unwrap(), &mut Vec::new());
            assert_eq!(found.kubelet.address.as_deref(), address, "{flag} {config}");
        }
    }
}
